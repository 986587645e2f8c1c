"""The manifest stage on the synthetic world."""

import shutil
import time
from pathlib import Path

import pytest
import yaml
from PIL import Image

from fgpipe.config import load_params
from fgpipe.errors import DataError
from fgpipe.images import files, measuring
from fgpipe.images.files import measure, read_image
from fgpipe.images.groups_file import read_groups
from fgpipe.images.quarantine_file import QuarantinedImage, quarantine_text
from fgpipe.images.table import read_table
from fgpipe.pipeline import run_stage
from fgpipe.records import SPLITS, Manifest, file_sha256
from tests.support.ports import fake_ports
from tests.support.synthetic import LABELS, draw, flawed


def run(project: Path) -> Manifest:
    record = run_stage("manifest", root=project, ports=fake_ports(project))
    assert isinstance(record, Manifest)
    return record


def payload(project: Path) -> Path:
    return project / "data" / "01_manifest" / "payload"


def set_protocol(project: Path, **values: object) -> None:
    path = project / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["manifest"].update(values)
    path.write_text(yaml.safe_dump(params))


def edit_labels(project: Path, *, old: str, new: str) -> None:
    path = project / "data" / "raw" / "labels.csv"
    text = path.read_text()
    assert old in text
    path.unlink()
    path.write_text(text.replace(old, new))


def test_there_is_one_row_an_image_and_its_record_counts_them(project: Path) -> None:
    record = run(project)

    table = read_table(payload(project))
    assert record == Manifest.load(project / "data" / "01_manifest" / "record.json")
    assert (record.n_images, record.n_groups) == (len(table), 40) == (120, 40)
    assert record.label_names == LABELS
    assert record.parents == {label: label.split("_", maxsplit=1)[0] for label in LABELS}
    assert record.attributes == {"light": ("day", "night")}
    for entry in record.labels:
        of_label = table[table["label"] == entry.label]
        assert entry.n_images == {
            split: int((of_label["split"] == split).sum()) for split in SPLITS
        }
        assert min(entry.n_images.values()) > 0
    assert record.table_sha256 == file_sha256(payload(project) / "manifest.parquet")


def test_rows_say_what_the_files_say(project: Path) -> None:
    run(project)

    table = read_table(payload(project))
    raw = project / "data" / "raw"
    assert table["path"].tolist() == sorted(table["path"])
    groups = {row.sha256: row.group for row in read_groups(raw)}
    for row in table.sample(10, random_state=0).to_dict("records"):
        path = raw / row["path"]
        assert row["sha256"] == file_sha256(path)
        assert row["id"] == row["sha256"][:16]
        assert row["group"] == groups[row["sha256"]]
        assert (row["height_px"], row["width_px"], 3) == read_image(path).shape
        assert row["n_bytes"] == path.stat().st_size
        assert row["label"] == LABELS[row["target"]]
        assert row["label"] == Path(row["path"]).name.rsplit("_", 2)[0]


@pytest.mark.parametrize(
    "protocol", [{"protocol": "stable"}, {"protocol": "fold", "fold": 1, "n_folds": 3}]
)
def test_no_group_is_in_two_splits(project: Path, protocol: dict[str, object]) -> None:
    set_protocol(project, **protocol)

    record = run(project)

    table = read_table(payload(project))
    assert record.protocol == protocol["protocol"]
    assert (table.groupby("group")["split"].nunique() == 1).all()
    assert set(table["split"]) == set(SPLITS)


def test_the_random_protocol_parts_groups_and_says_so(project: Path) -> None:
    set_protocol(project, protocol="random")

    record = run(project)

    table = read_table(payload(project))
    assert record.protocol == "random"
    assert (table.groupby("group")["split"].nunique() > 1).any()


def test_the_same_data_in_another_order_give_the_same_bytes(project: Path) -> None:
    one = run(project)
    for name in ("labels.csv", "groups.csv"):
        path = project / "data" / "raw" / name
        header, *rows = path.read_text().splitlines()
        path.write_text("\n".join([header, *rows[::-1]]) + "\n")

    other = run(project)

    assert one == other


def test_an_image_taken_out_moves_no_other(project: Path) -> None:
    run(project)
    before = read_table(payload(project)).set_index("path")["split"]
    gone = f"images/{LABELS[0]}_000_0.png"
    (project / "data" / "raw" / gone).unlink()
    text = (project / "data" / "raw" / "labels.csv").read_text().splitlines(keepends=True)
    (project / "data" / "raw" / "labels.csv").write_text(
        "".join(line for line in text if not line.startswith(gone))
    )

    run(project)

    after = read_table(payload(project)).set_index("path")["split"]
    assert after.to_dict() == before.drop(gone).to_dict()


def test_a_missing_image_is_named(project: Path) -> None:
    edit_labels(project, old="blue_disc_003_1.png", new="no_such.png")
    (project / "data" / "raw" / "images" / "blue_disc_003_1.png").unlink()

    with pytest.raises(DataError) as caught:
        run(project)

    assert "labels.csv names 1 image(s) that are not in" in str(caught.value)
    assert "images/no_such.png" in str(caught.value)


def test_an_image_without_a_label_is_named_with_the_command(project: Path) -> None:
    Image.fromarray(draw(LABELS[0], group=77)).save(project / "data/raw/images/stray.png")

    with pytest.raises(DataError) as caught:
        run(project)

    assert "images/stray.png" in str(caught.value)
    assert "fgpipe data add" in str(caught.value)


def test_an_image_with_other_bytes_than_were_imported_is_named(project: Path) -> None:
    Image.fromarray(draw(LABELS[0], group=77)).save(
        project / "data/raw/images" / f"{LABELS[0]}_001_0.png"
    )

    with pytest.raises(DataError) as caught:
        run(project)

    assert "1 image(s) are not in groups.csv" in str(caught.value)
    assert f"images/{LABELS[0]}_001_0.png" in str(caught.value)
    assert "fgpipe data add" in str(caught.value)


def test_an_image_that_rotted_is_named_with_the_reason(project: Path) -> None:
    path = project / "data/raw/images" / f"{LABELS[0]}_001_0.png"
    path.write_bytes(flawed("truncated_png"))

    with pytest.raises(DataError) as caught:
        run(project)

    assert "1 of 120 images cannot be used" in str(caught.value)
    assert f"images/{LABELS[0]}_001_0.png: damaged" in str(caught.value)


def test_one_class_is_not_enough(project: Path) -> None:
    for label in LABELS[1:]:
        edit_labels(project, old=f",{label},", new=f",{LABELS[0]},")
    edit_labels(project, old=",blue,", new=",amber,")

    with pytest.raises(DataError, match=f"names one class only, {LABELS[0]}"):
        run(project)


def test_classes_without_a_parent_beside_others_with_one_are_named(project: Path) -> None:
    edit_labels(project, old=",blue,", new=",,")

    with pytest.raises(DataError) as caught:
        run(project)

    text = str(caught.value)
    assert text.startswith("2 of 4 classes have no parent, the others do")
    assert "blue_disc" in text
    assert f"mend {project / 'data/raw/labels.csv'}; give all classes one, or none" in text


def test_an_emptied_folder_is_refused(project: Path) -> None:
    shutil.rmtree(project / "data" / "raw")
    (project / "data" / "raw").mkdir()

    with pytest.raises(DataError, match=r"labels.csv does not exist; `fgpipe data import"):
        run(project)


def test_the_random_protocol_is_exact_in_each_stratum(project: Path) -> None:
    set_protocol(project, protocol="random")
    fractions = load_params(project / "params.yaml").manifest.fractions

    run(project)

    table = read_table(payload(project))
    for _, stratum in table.groupby(["label", "attribute_light"]):
        for split in SPLITS:
            n_images = (stratum["split"] == split).sum()
            assert abs(n_images - fractions[split] * len(stratum)) < 1


def rewrite(path: Path, lines: list[str]) -> None:
    path.unlink()
    path.write_text("\n".join(lines) + "\n")


def with_column(project: Path, name: str, values: dict[str, str]) -> None:
    """Add a column to labels.csv, empty where ``values`` has nothing for the path."""
    path = project / "data" / "raw" / "labels.csv"
    header, *rows = path.read_text().splitlines()
    rows = [f"{row},{values.get(row.split(',')[0], '')}" for row in rows]
    rewrite(path, [f"{header},{name}", *rows])


def quarantine(project: Path, *, n_images: int, kind: str = "damaged") -> None:
    raw = project / "data" / "raw"
    rows = [
        QuarantinedImage(
            sha256=f"{i:064x}",
            path=f"quarantine/{i:016x}.jpg",
            source=f"images/odd{i}.jpg",
            label=LABELS[0],
            kind=kind,
            reason="damaged (Premature end of JPEG file)",
            batch=1,
        )
        for i in range(n_images)
    ]
    (raw / "quarantine.csv").write_text(quarantine_text(rows))
    (raw / "quarantine").mkdir()
    for row in rows:
        (raw / row.path).write_bytes(b"no")


def test_contents_measured_before_are_not_decoded_again(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = run(project)
    monkeypatch.setattr(files, "_look_at", None)

    other = run(project)

    assert one == other


def test_rows_hold_sharpness_batch_and_box(project: Path) -> None:
    path = f"images/{LABELS[0]}_001_0.png"
    with_column(project, "box", {path: "3 4 20 10.4"})

    run(project)

    table = read_table(payload(project)).set_index("path")
    assert table["box"].dropna().to_dict() == {path: "3 4 20 10"}
    assert (table["batch"] == 1).all()
    measures = measure(project / "data" / "raw" / path)
    assert table.loc[path, "sharpness"] == measures.sharpness > 0


@pytest.mark.parametrize(("left", "top"), [(64, 0), (0, 64)])
def test_a_box_outside_its_image_is_named(left: int, top: int, project: Path) -> None:
    path = f"images/{LABELS[0]}_001_0.png"
    with_column(project, "box", {path: f"{left} {top} 5 5"})

    with pytest.raises(DataError) as caught:
        run(project)

    assert "1 image(s) have a box outside of them" in str(caught.value)
    assert f"{path}: box {left} {top} 5 5, the image is 64 x 64 px" in str(caught.value)


def test_given_splits_are_kept_and_the_rest_is_dealt_by_group(project: Path) -> None:
    run(project)
    table = read_table(payload(project))
    wish = {
        path: "test" if sha256 < "5" else "train"
        for path, sha256 in zip(table["path"], table["group"], strict=True)
        if sha256 < "b"
    }
    with_column(project, "split", wish)
    set_protocol(project, protocol="given")

    record = run(project)

    table = read_table(payload(project))
    assert record.protocol == "given"
    assert (table.groupby("group")["split"].nunique() == 1).all()
    assert set(table["split"]) == set(SPLITS)
    is_test = table["split"] == "test"
    assert set(table["path"][is_test]) == {path for path, split in wish.items() if split == "test"}


def test_the_given_protocol_without_a_given_split_is_refused(project: Path) -> None:
    set_protocol(project, protocol="given")

    with pytest.raises(DataError, match="gives no image a split; set the protocol to stable"):
        run(project)


def test_a_group_that_came_for_two_splits_stays_divided_for_validate_to_refuse(
    project: Path,
) -> None:
    run(project)
    table = read_table(payload(project)).groupby("group")["path"].apply(list)
    one, other, *_ = table.iloc[0]
    with_column(project, "split", {one: "train", other: "test"})
    set_protocol(project, protocol="given")

    run(project)

    table = read_table(payload(project)).set_index("path")["split"]
    assert (table[one], table[other]) == ("train", "test")


def test_removed_images_keep_their_groups_split_and_are_no_rows(project: Path) -> None:
    run(project)
    before = read_table(payload(project)).set_index("path")
    gone = before.index[::7]
    raw = project / "data" / "raw"
    for path in gone:
        (raw / path).unlink()
    labels = (raw / "labels.csv").read_text().splitlines()
    rewrite(raw / "labels.csv", [row for row in labels if row.split(",")[0] not in set(gone)])
    hashes = set(before.loc[gone, "sha256"])
    groups = (raw / "groups.csv").read_text().splitlines()
    removed = [
        row.replace(",active", ",removed") if row.split(",")[0] in hashes else row for row in groups
    ]
    rewrite(raw / "groups.csv", removed)

    record = run(project)

    after = read_table(payload(project)).set_index("path")
    assert record.n_images == len(after) == 120 - len(gone)
    assert after["split"].to_dict() == before["split"].drop(gone).to_dict()


def test_an_image_that_was_removed_and_is_there_is_named(project: Path) -> None:
    raw = project / "data" / "raw"
    header, first, *rows = (raw / "groups.csv").read_text().splitlines()
    rewrite(raw / "groups.csv", [header, first.replace(",active", ",removed"), *rows])

    with pytest.raises(DataError, match=r"names 1 image\(s\) that were removed"):
        run(project)


def test_quarantined_images_are_counted_and_are_no_rows(project: Path) -> None:
    quarantine(project, n_images=6)

    record = run(project)

    assert (record.n_images, record.n_quarantined) == (120, 6)


def test_too_many_quarantined_images_are_refused_by_kind_with_the_ways_out(project: Path) -> None:
    quarantine(project, n_images=7)

    with pytest.raises(DataError) as caught:
        run(project)

    lines = str(caught.value).splitlines()
    assert lines[0] == (
        "7 of 127 images (5.5%) are quarantined, more than "
        "manifest.max_quarantined_fraction (5.0%):"
    )
    assert lines[1] == (
        "  7 damaged, such as images/odd0.jpg: damaged (Premature end of JPEG file)"
    )
    assert "fgpipe data add" in lines[2]
    set_protocol(project, max_quarantined_fraction=0.06)
    assert run(project).n_quarantined == 7


def test_a_name_that_differs_in_case_or_accent_alone_is_pointed_at(project: Path) -> None:
    images = project / "data" / "raw" / "images"
    (images / f"{LABELS[0]}_001_0.png").rename(images / f"{LABELS[0]}_001_0.PNG")

    with pytest.raises(DataError) as caught:
        run(project)

    path = f"images/{LABELS[0]}_001_0"
    assert f"{path}.png (there is {path}.PNG)" in str(caught.value)


def test_names_that_differ_in_case_alone_are_two_images(project: Path) -> None:
    raw = project / "data" / "raw"
    one, other = f"images/{LABELS[0]}_001_0.png", f"images/{LABELS[0]}_001_1.png"
    upper = f"images/{LABELS[0]}_001_0.PNG"
    (raw / other).rename(raw / upper)
    edit_labels(project, old=other, new=upper)

    run(project)

    table = read_table(payload(project))["path"]
    assert {one, upper} <= set(table)


def test_a_measuring_is_stopped_by_what_is_wrong_with_groups(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "data" / "raw" / "groups.csv").unlink()
    measured = []

    def slow(data: bytes, **_: object) -> object:
        measured.append(data)
        time.sleep(0.005)
        raise DataError("slow")

    monkeypatch.setattr(files, "_look_at", slow)
    monkeypatch.setattr(measuring, "FILES_A_TASK", 2)

    with pytest.raises(DataError, match=r"groups\.csv does not exist"):
        run(project)

    assert len(measured) < 120
