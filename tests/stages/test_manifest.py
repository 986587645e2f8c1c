"""The manifest stage on the synthetic world."""

import shutil
from pathlib import Path

import pytest
import yaml
from PIL import Image

from fgpipe.config import load_params
from fgpipe.errors import DataError
from fgpipe.images.files import read_image
from fgpipe.images.groups_file import read_groups
from fgpipe.images.table import read_table
from fgpipe.pipeline import run_stage
from fgpipe.ports import Ports
from fgpipe.records import SPLITS, Manifest, file_sha256
from tests.support.synthetic import LABELS, draw, flawed

PORTS: Ports = None  # type: ignore[assignment] # the stage asks nothing of the world


def run(project: Path) -> Manifest:
    record = run_stage("manifest", root=project, ports=PORTS)
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
    assert "fgpipe data import" in str(caught.value)


def test_an_image_with_other_bytes_than_were_imported_is_named(project: Path) -> None:
    Image.fromarray(draw(LABELS[0], group=77)).save(
        project / "data/raw/images" / f"{LABELS[0]}_001_0.png"
    )

    with pytest.raises(DataError) as caught:
        run(project)

    assert "1 image(s) are not in groups.csv" in str(caught.value)
    assert f"images/{LABELS[0]}_001_0.png" in str(caught.value)
    assert "fgpipe data import" in str(caught.value)


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
