"""Images come in whole and checked, or not at all."""

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from fgpipe.errors import DataError
from fgpipe.images.files import list_images
from fgpipe.images.groups_file import read_groups
from fgpipe.images.labels_file import read_labels
from fgpipe.images.quarantine_file import read_quarantine
from fgpipe.images.sources.source import Source, SourceImage
from fgpipe.intake import importing
from fgpipe.records import file_sha256
from tests.support.intake import TOOLS, content, import_folder
from tests.support.synthetic import LABELS, draw, flawed, write_class_folders, write_world


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_class_folders(tmp_path / "mine")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return tmp_path / "data" / "raw"


@pytest.fixture
def nothing_written(raw: Path) -> Iterator[None]:
    yield
    assert not raw.exists()
    assert not raw.parent.exists() or list(raw.parent.iterdir()) == []


def test_a_folder_of_class_folders_comes_in_under_its_names(folder: Path, raw: Path) -> None:
    (folder / LABELS[0] / "Thumbs.db").write_text("no image")
    (folder / LABELS[0] / ".hidden.png").write_text("no image")
    (folder / "notes.txt").write_text("no image")
    deep = folder / LABELS[1] / "2024" / "spring"
    deep.mkdir(parents=True)
    shutil.move(folder / LABELS[1] / "000.png", deep / "000.png")

    report = import_folder(folder, raw=raw)

    assert (report.n_images, report.n_labels, report.n_groups) == (16, 4, 16)
    images = read_labels(raw)
    assert [image.path for image in images] == [
        path.relative_to(raw).as_posix() for path in list_images(raw)
    ]
    assert {image.label for image in images} == set(LABELS)
    assert all(image.path.startswith(f"images/{image.label}/") for image in images)
    assert (raw / "images" / LABELS[1] / "2024" / "spring" / "000.png").is_file()
    assert {row.stratum for row in read_groups(raw)} == set(LABELS)


def test_files_are_copied_not_shared(folder: Path, raw: Path) -> None:
    import_folder(folder, raw=raw)

    for path in list_images(raw):
        assert path.stat().st_nlink == 1


def test_importing_the_same_again_elsewhere_gives_the_same_bytes(
    folder: Path, tmp_path: Path
) -> None:
    import_folder(folder, raw=tmp_path / "one")
    import_folder(folder, raw=tmp_path / "other")

    assert content(tmp_path / "one") == content(tmp_path / "other")


def test_importing_what_is_there_writes_nothing(folder: Path, raw: Path) -> None:
    shutil.copy(folder / LABELS[0] / "000.png", folder / LABELS[0] / "repeat.png")
    first = import_folder(folder, raw=raw)
    before = {path: path.stat().st_mtime_ns for path in raw.rglob("*")}

    second = import_folder(folder, raw=raw)

    assert not first.already_there
    assert second.already_there
    assert (second.n_images, second.n_groups) == (first.n_images, first.n_groups)
    assert "already there" in str(second)
    assert {path: path.stat().st_mtime_ns for path in raw.rglob("*")} == before


@pytest.mark.parametrize("change", ["other bytes", "one more", "one less", "raw changed"])
def test_other_images_are_not_written_over(folder: Path, raw: Path, change: str) -> None:
    import_folder(folder, raw=raw)
    changed = folder / LABELS[0] / "000.png"
    match change:
        case "other bytes":
            Image.fromarray(draw(LABELS[0], group=99)).save(changed)
        case "one more":
            Image.fromarray(draw(LABELS[0], group=99)).save(changed.with_name("more.png"))
        case "one less":
            changed.unlink()
        case "raw changed":
            (raw / "images" / LABELS[0] / "000.png").unlink()
    before = content(raw)

    with pytest.raises(DataError, match="holds 16 images of 4 classes; remove it first"):
        import_folder(folder, raw=raw)

    assert content(raw) == before


def test_a_raw_folder_with_something_else_in_it_is_left_alone(folder: Path, raw: Path) -> None:
    raw.mkdir(parents=True)
    (raw / "precious.png").write_bytes(b"x")

    with pytest.raises(DataError, match="already holds 1 images of 0 classes"):
        import_folder(folder, raw=raw)

    assert (raw / "precious.png").read_bytes() == b"x"


def test_an_empty_raw_folder_is_filled(folder: Path, raw: Path) -> None:
    raw.mkdir(parents=True)

    import_folder(folder, raw=raw)

    assert len(list_images(raw)) == 16


def test_files_that_are_no_image_are_quarantined_with_their_bytes_and_reasons(
    folder: Path, raw: Path
) -> None:
    bad = folder / LABELS[2]
    (bad / "empty.png").write_bytes(flawed("empty"))
    (bad / "Text.PNG").write_bytes(flawed("text"))
    (bad / "cut.jpg").write_bytes(flawed("truncated_jpeg"))
    (bad / "same cut.jpg").write_bytes(flawed("truncated_jpeg"))
    (bad / "nowhere.png").symlink_to("gone.png")

    report = import_folder(folder, raw=raw)

    assert (report.n_images, report.n_quarantined) == (16, 5)
    assert report.reasons == {"damaged": 2, "cannot be read": 1, "empty file": 1, "not an image": 1}
    assert "5 quarantined, listed in quarantine.csv:" in str(report)
    rows = {row.source.rpartition("/")[2]: row for row in read_quarantine(raw)}
    assert {name: row.kind for name, row in rows.items()} == {
        "Text.PNG": "damaged",
        "cut.jpg": "damaged",
        "empty.png": "damaged",
        "nowhere.png": "unreadable",
        "same cut.jpg": "damaged",
    }
    assert (rows["nowhere.png"].sha256, rows["nowhere.png"].path) == ("", "")
    assert rows["nowhere.png"].reason == "cannot be read (No such file or directory)"
    for name, row in rows.items():
        if row.kind == "damaged":
            assert row.sha256 == file_sha256(bad / name) == file_sha256(raw / row.path)
            assert row.path == f"quarantine/{row.sha256[:16]}{Path(name).suffix.lower()}"
    assert len(list((raw / "quarantine").iterdir())) == 3
    assert str(folder) not in (raw / "quarantine.csv").read_text()
    assert import_folder(folder, raw=raw).already_there


@pytest.mark.usefixtures("nothing_written")
def test_a_source_without_a_usable_image_is_refused(tmp_path: Path, raw: Path) -> None:
    for label in "ab":
        (tmp_path / "mine" / label).mkdir(parents=True)
        (tmp_path / "mine" / label / "x.png").write_text("none")

    with pytest.raises(DataError, match=r"none of the 2 images .* can be used:"):
        import_folder(tmp_path / "mine", raw=raw)


@pytest.mark.usefixtures("nothing_written")
def test_a_class_without_a_usable_image_is_refused_by_name(folder: Path, raw: Path) -> None:
    (folder / "crack").mkdir()
    (folder / "crack" / "x.png").write_text("none")

    with pytest.raises(DataError, match=r"no image of 1 class\(es\) can be used: crack"):
        import_folder(folder, raw=raw)


@pytest.mark.usefixtures("nothing_written")
def test_one_picture_with_two_labels_is_refused(folder: Path, raw: Path) -> None:
    shutil.copy(folder / LABELS[0] / "000.png", folder / LABELS[1] / "copy.png")

    with pytest.raises(DataError) as caught:
        import_folder(folder, raw=raw)

    pair = f"images/{LABELS[0]}/000.png ({LABELS[0]}) and images/{LABELS[1]}/copy.png"
    assert pair in str(caught.value)


def test_every_picture_with_two_labels_is_listed(folder: Path, raw: Path) -> None:
    for number in range(7):
        shutil.copy(folder / LABELS[0] / "000.png", folder / LABELS[1] / f"copy{number}.png")

    with pytest.raises(DataError, match="7 images have the bytes of another") as caught:
        import_folder(folder, raw=raw)

    assert all(f"copy{number}.png" in str(caught.value) for number in range(7))


def test_one_picture_twice_under_one_label_is_kept_once(folder: Path, raw: Path) -> None:
    shutil.copy(folder / LABELS[0] / "000.png", folder / LABELS[0] / "copy.png")

    report = import_folder(folder, raw=raw)

    assert (report.n_images, report.n_repeats) == (16, 1)
    assert "1 file with the bytes of another was left out" in str(report)
    assert not (raw / "images" / LABELS[0] / "copy.png").exists()


@pytest.mark.usefixtures("nothing_written")
@pytest.mark.parametrize(
    ("make", "says"),
    [
        ([], "is not a folder"),
        (["."], "holds no class folders"),
        (["only/a.png"], "holds one class only, only"),
        (["one/a.png", "other/readme.txt"], "other holds no images"),
        (["one/a.png", "other/b.png", "loose.png"], "outside its class folders, loose.png"),
    ],
)
def test_a_folder_of_another_shape_is_refused(
    tmp_path: Path, raw: Path, make: list[str], says: str
) -> None:
    folder = tmp_path / "mine"
    for name in make:
        path = folder / name
        (path.parent if name != "." else path).mkdir(parents=True, exist_ok=True)
        if name != ".":
            path.write_bytes(b"x")

    with pytest.raises(DataError) as caught:
        import_folder(folder, raw=raw)

    assert says in str(caught.value)


def test_near_duplicates_share_a_group_and_are_reported(folder: Path, raw: Path) -> None:
    with Image.open(folder / LABELS[0] / "000.png") as image:
        image.save(folder / LABELS[0] / "again.jpg", quality=98, subsampling=0)

    report = import_folder(folder, raw=raw)

    assert report.joined_pairs == (
        (f"images/{LABELS[0]}/000.png", f"images/{LABELS[0]}/again.jpg"),
    )
    assert "1 pair of near-duplicates shares a group" in str(report)
    sizes = Counter(row.group for row in read_groups(raw))
    assert sorted(sizes.values()) == [1] * 15 + [2]
    (group,) = (group for group, size in sizes.items() if size == 2)
    assert group == min(row.sha256 for row in read_groups(raw) if row.group == group)


def with_given_groups(folder: Path, *, n_images: int, n_copies: int) -> Source:
    """Images of as many given groups, some of them copies of others."""
    folder.mkdir()
    images = []
    for number in range(n_images):
        file = folder / f"{number:03d}.png"
        original = number if number >= n_copies else n_images - 1 - number
        pixels = draw(LABELS[original % 2], group=original, size_px=32)
        Image.fromarray(pixels).save(file)
        if number < n_copies:
            file = file.with_suffix(".jpg")
            Image.fromarray(pixels).save(file, quality=98, subsampling=0)
        images.append(
            SourceImage(
                file=file,
                path=f"images/{file.name}",
                label=LABELS[original % 2],
                group=f"g{number}",
            )
        )
    return Source(name="given", images=tuple(images))


@pytest.mark.usefixtures("nothing_written")
def test_copies_across_many_given_groups_are_refused_with_the_pairs(
    tmp_path: Path, raw: Path
) -> None:
    source = with_given_groups(tmp_path / "given", n_images=40, n_copies=7)

    with pytest.raises(DataError) as caught:
        importing.import_source(source, raw=raw, **TOOLS)

    message = str(caught.value)
    assert "join 14 of 40 images to another given group, more than 1%" in message
    assert "images/000.jpg = images/039.png" in message
    assert "and 2 more" in message


def test_a_few_copies_across_given_groups_join_them(tmp_path: Path, raw: Path) -> None:
    source = with_given_groups(tmp_path / "given", n_images=200, n_copies=1)

    report = importing.import_source(source, raw=raw, **TOOLS)

    assert report.joined_pairs == (("images/000.jpg", "images/199.png"),)
    assert report.n_groups == 199


@pytest.mark.parametrize("n_copies", [1, 7])
def test_repeats_in_other_given_groups_join_them_as_near_duplicates_do(
    tmp_path: Path, raw: Path, n_copies: int
) -> None:
    images = with_given_groups(tmp_path / "given", n_images=200, n_copies=0).images
    repeats = [
        replace(image, path=f"images/copy of {image.file.name}", group=images[-1 - n].group)
        for n, image in enumerate(images[:n_copies])
    ]
    source = Source(name="given", images=(*images, *repeats))

    if n_copies > 1:
        with pytest.raises(DataError, match=r"copies or near-duplicates join 14 of 200 images"):
            importing.import_source(source, raw=raw, **TOOLS)
    else:
        report = importing.import_source(source, raw=raw, **TOOLS)
        assert (report.n_images, report.n_repeats, report.n_groups) == (200, 1, 199)


def test_given_groups_and_attributes_are_kept(tmp_path: Path) -> None:
    report = write_world(tmp_path / "raw", n_groups_per_label=3, images_per_group=2)

    assert (report.n_images, report.n_groups, report.n_labels) == (24, 12, 4)
    images = {image.path: image for image in read_labels(tmp_path / "raw")}
    group_of = {row.sha256: row for row in read_groups(tmp_path / "raw")}
    for path, image in images.items():
        row = group_of[file_sha256(tmp_path / "raw" / path)]
        assert row.stratum == f"{image.label}|{image.attributes['light']}"
    members = Counter(
        (image.group, group_of[file_sha256(tmp_path / "raw" / path)].group)
        for path, image in images.items()
    )
    assert set(members.values()) == {2}


def test_what_a_killed_import_left_is_cleared_away(folder: Path, raw: Path) -> None:
    stale = raw.parent / ".raw.999999999.partial"
    stale.mkdir(parents=True)
    (stale / "half.png").write_bytes(b"half")
    running = raw.parent / ".raw.1.partial"
    running.mkdir()

    import_folder(folder, raw=raw)

    assert sorted(path.name for path in raw.parent.iterdir()) == [".raw.1.partial", "raw"]


@pytest.mark.usefixtures("nothing_written")
def test_whatever_breaks_nothing_is_half_written(
    folder: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*arguments: object, **keywords: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(importing, "groups_text", full_disk)

    with pytest.raises(OSError, match="No space left"):
        import_folder(folder, raw=raw)
