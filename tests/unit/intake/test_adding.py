"""Images are added to what is there, which stays as it is."""

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fgpipe.errors import DataError, NotReadyError, UnavailableError
from fgpipe.images.groups_file import read_groups
from fgpipe.images.labels_file import labels_text, read_labels
from fgpipe.images.measure_cache import MeasureCache
from fgpipe.images.quarantine_file import read_quarantine
from fgpipe.images.sources.source import Source, SourceImage
from fgpipe.images.splits import stable_splits
from fgpipe.intake.adding import add_source
from fgpipe.intake.forgetting import remove_images
from fgpipe.intake.importing import import_source
from fgpipe.intake.reporting import AddReport
from fgpipe.intake.transaction import exclusive
from fgpipe.records import file_sha256
from tests.support.intake import TOOLS, content
from tests.support.synthetic import LABELS, draw, flawed

FRACTIONS = {"train": 0.6, "validation": 0.15, "calibration": 0.1, "test": 0.15}


class Folder:
    """Files to bring in, and what is said of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)

    def image(self, name: str, label: str = LABELS[0], *, of: int, **said: object) -> SourceImage:
        """A picture of individual ``of``; a JPEG of one is a near-duplicate of its PNG."""
        pixels = draw(LABELS[of % 4], group=of, size_px=32)
        return self.file(name, pixels, label, **said)

    def file(
        self, name: str, pixels: np.ndarray | bytes, label: str = LABELS[0], **said: object
    ) -> SourceImage:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(pixels, bytes):
            file.write_bytes(pixels)
        else:
            quality = {"quality": 98, "subsampling": 0} if file.suffix == ".jpg" else {}
            Image.fromarray(pixels).save(file, **quality)
        return SourceImage(file=file, path=f"images/{name}", label=label, **said)


@pytest.fixture
def offer(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "offer")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("first")
    folder = Folder(root / "first")
    images = [folder.image(f"{n:02d}.png", LABELS[n % 4], of=n) for n in range(12)]
    import_source(Source(name="first", images=tuple(images)), raw=root / "raw", **TOOLS)
    return root / "raw"


@pytest.fixture
def raw(template: Path, tmp_path: Path) -> Path:
    """Twelve images: of each label three individuals, 0 to 11."""
    return Path(shutil.copytree(template, tmp_path / "data" / "raw"))


def add(raw: Path, *images: SourceImage, new_classes: bool = False) -> AddReport:
    source = Source(name="more", images=tuple(sorted(images, key=lambda image: image.path)))
    return add_source(source, raw=raw, new_classes=new_classes, **TOOLS)


def group_of(raw: Path, path: str) -> str:
    sha256 = file_sha256(raw / path)
    return next(row.group for row in read_groups(raw) if row.sha256 == sha256)


def test_new_images_are_a_further_batch_and_nothing_else_changes(raw: Path, offer: Folder) -> None:
    before, groups = content(raw), read_groups(raw)
    labels = (raw / "labels.csv").read_text()

    report = add(raw, offer.image("20.png", of=20), offer.image("21.png", LABELS[1], of=21))

    assert (report.batch, report.n_images, report.n_joined, report.n_total) == (2, 2, 0, 14)
    assert str(report).startswith("more: 2 images added as batch 2, 14 in all")
    after = content(raw)
    changed = {path for path in before if after[path] != before[path]}
    assert changed == {"labels.csv", "groups.csv"}
    assert after.keys() - before.keys() == {"images/20.png", "images/21.png"}
    assert (raw / "labels.csv").read_text().startswith(labels)
    assert read_groups(raw)[:12] == groups
    assert {(row.batch, row.status) for row in read_groups(raw)[12:]} == {(2, "active")}
    assert [path.name for path in raw.parent.iterdir()] == ["raw"]


def test_what_is_there_is_passed_over_and_nothing_is_written(raw: Path, offer: Folder) -> None:
    images = [offer.image("other name.png", LABELS[3], of=3), offer.image("20.png", of=20)]
    add(raw, *images)
    before = {path: path.stat().st_mtime_ns for path in raw.rglob("*")}

    report = add(raw, *images)

    assert (report.batch, report.n_there) == (None, 2)
    assert str(report).startswith("more: nothing is new")
    assert {path: path.stat().st_mtime_ns for path in raw.rglob("*")} == before


def test_labels_csv_is_another_file_and_not_written_in_place(
    raw: Path, offer: Folder, tmp_path: Path
) -> None:
    names = ("labels.csv", "groups.csv")
    for name in names:
        (tmp_path / name).hardlink_to(raw / name)
    before = [(tmp_path / name).read_bytes() for name in names]

    add(raw, offer.image("20.png", of=20))

    assert [(tmp_path / name).read_bytes() for name in names] == before
    assert (raw / "labels.csv").read_bytes() != before[0]


REFUSED: dict[str, tuple[Callable[[Folder], list[SourceImage]], str]] = {
    "content with another label": (
        lambda offer: [
            offer.image("20.png", of=20),
            offer.image("x.png", LABELS[0], of=1),
            offer.image("y.png", LABELS[0], of=2),
        ],
        f"""2 image(s) are in data/raw with another label:
  images/x.png is {LABELS[0]} here and {LABELS[1]} as images/01.png
  images/y.png is {LABELS[0]} here and {LABELS[2]} as images/02.png
nothing was written""",
    ),
    "a class that is not there": (
        lambda offer: [offer.image("20.png", "crack", of=20), offer.image("21.png", of=21)],
        "1 class(es) are not in data/raw:\n  crack\nnothing was written; `--new-classes` lets",
    ),
    "a class that differs in case": (
        lambda offer: [offer.image("20.png", LABELS[0].upper(), of=20)],
        f"{LABELS[0].upper()} (there is {LABELS[0]})",
    ),
    "another parent": (
        lambda offer: [offer.image("20.png", of=20, parent="amber")],
        f"{LABELS[0]}: amber here, none in data/raw",
    ),
    "one content, two labels": (
        lambda offer: [
            offer.image("a.png", LABELS[0], of=20),
            offer.image("b.png", LABELS[1], of=20),
        ],
        "1 images have the bytes of another and a different label",
    ),
    "nothing usable": (
        lambda offer: [offer.file("a.png", flawed("text"))],
        "none of the 1 images of more can be used",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_named_and_changes_nothing(raw: Path, offer: Folder, case: str) -> None:
    make, says = REFUSED[case]
    before = content(raw.parent)

    with pytest.raises(DataError) as caught:
        add(raw, *make(offer))

    assert says in str(caught.value)
    assert content(raw.parent) == before


def test_new_classes_come_in_where_that_is_wished(raw: Path, offer: Folder) -> None:
    report = add(raw, offer.image("20.png", "crack", of=20), new_classes=True)

    assert report.new_labels == ("crack",)
    assert {image.label for image in read_labels(raw)} == {*LABELS, "crack"}


@pytest.mark.parametrize("usable", [True, False])
def test_a_new_class_without_a_parent_or_a_usable_image_is_refused(
    tmp_path: Path, offer: Folder, *, usable: bool
) -> None:
    raw = tmp_path / "raw"
    folder = Folder(tmp_path / "first")
    images = [folder.image(f"{n}.png", LABELS[n], of=n, parent="p") for n in range(2)]
    import_source(Source(name="first", images=tuple(images)), raw=raw, **TOOLS)
    others = offer.image("2.png", of=9)
    parent = None if usable else "p"
    new = offer.image("x.png", "crack", of=20, parent=parent)
    if not usable:
        new.file.write_bytes(b"")

    with pytest.raises(DataError, match="have no parent" if usable else "no image of 1 class"):
        add(raw, others, new, new_classes=True)


def test_an_image_whose_source_names_no_parent_gets_that_of_its_class(
    tmp_path: Path, offer: Folder
) -> None:
    raw = tmp_path / "raw"
    folder = Folder(tmp_path / "first")
    images = [folder.image(f"{n}.png", LABELS[n], of=n, parent=f"p{n}") for n in range(2)]
    import_source(Source(name="first", images=tuple(images)), raw=raw, **TOOLS)

    add(raw, offer.image("x.png", LABELS[1], of=20))

    assert {(image.label, image.parent) for image in read_labels(raw)} == {
        (LABELS[0], "p0"),
        (LABELS[1], "p1"),
    }


def test_attributes_merge_and_missing_values_are_empty(raw: Path, offer: Folder) -> None:
    add(raw, offer.image("20.png", of=20, attributes={"site": "a", "light": "day"}))
    add(raw, offer.image("21.png", of=21, attributes={"lens": "50", "site": "b"}))

    rows = {image.path: dict(image.attributes) for image in read_labels(raw)}
    assert rows["images/00.png"] == {"site": "", "light": "", "lens": ""}
    assert rows["images/20.png"] == {"site": "a", "light": "day", "lens": ""}
    assert rows["images/21.png"] == {"site": "b", "light": "", "lens": "50"}
    strata = [row.stratum for row in read_groups(raw)]
    assert strata[12:] == [f"{LABELS[0]}|a|day", f"{LABELS[0]}|b||50"]
    assert set(strata[:12]) == set(LABELS)


def test_a_path_that_is_taken_is_not_written_over_whatever_its_case(
    raw: Path, offer: Folder
) -> None:
    old = file_sha256(raw / "images" / "00.png")
    images = [
        offer.image("00.png", of=20),
        offer.image("00.PNG", of=21),
        offer.image("01.png/deep.png", of=22),
    ]

    report = add(raw, *images)

    assert file_sha256(raw / "images" / "00.png") == old
    assert report.renamed == (
        ("images/00.PNG", "images/00-2.PNG"),
        ("images/00.png", "images/00-3.png"),
        ("images/01.png/deep.png", "images/deep.png"),
    )
    assert "images/00.PNG -> images/00-2.PNG" in str(report)
    assert len(read_labels(raw)) == 15
    assert add(raw, offer.image("00-2.png", of=23)).renamed == (
        ("images/00-2.png", "images/00-2-2.png"),
    )


def test_a_near_duplicate_joins_the_group_that_is_there(raw: Path, offer: Folder) -> None:
    report = add(raw, offer.image("again.jpg", of=0), offer.image("20.png", of=20))

    assert report.n_joined == 1
    assert group_of(raw, "images/again.jpg") == group_of(raw, "images/00.png")
    assert group_of(raw, "images/20.png") == file_sha256(raw / "images" / "20.png")


def test_a_given_group_that_is_there_means_that_group(raw: Path, offer: Folder) -> None:
    add(raw, offer.image("20.png", of=20, group="g"), offer.image("21.png", of=21, group="h"))

    add(raw, offer.image("22.png", of=22, group="g"), offer.image("22b.jpg", of=22))

    groups = [group_of(raw, f"images/{name}") for name in ("20.png", "22.png", "22b.jpg")]
    assert len(set(groups)) == 1
    assert group_of(raw, "images/21.png") not in groups


def test_within_a_batch_groups_merge_freely(raw: Path, offer: Folder) -> None:
    add(
        raw,
        offer.image("20.png", of=20, group="g"),
        offer.image("20.jpg", of=20, group="h"),
        offer.image("21.png", of=21, group="h"),
    )

    groups = {group_of(raw, f"images/{name}") for name in ("20.png", "20.jpg", "21.png")}
    hashes = [file_sha256(raw / "images" / name) for name in ("20.png", "20.jpg", "21.png")]
    assert groups == {min(hashes)}


def test_a_bridge_between_groups_is_quarantined_with_all_that_hang_together(
    raw: Path, offer: Folder
) -> None:
    bridge = [
        offer.image("a.jpg", of=0, group="g"),
        offer.image("b.jpg", LABELS[1], of=1, group="g"),
        offer.image("c.png", of=30, group="g"),
    ]

    report = add(raw, *bridge, offer.image("20.png", of=20))

    assert (report.n_images, report.n_quarantined) == (1, 3)
    assert report.reasons == {"belongs to 2 groups that must stay apart": 3}
    rows = read_quarantine(raw)
    assert [(row.source, row.kind, row.batch) for row in rows] == [
        ("images/a.jpg", "bridge", 2),
        ("images/b.jpg", "bridge", 2),
        ("images/c.png", "bridge", 2),
    ]
    assert rows[0].reason.endswith("(near images/00.png and images/01.png)")
    for row in rows:
        assert file_sha256(raw / row.path) == row.sha256
    assert len(read_labels(raw)) == 13
    assert add(raw, *bridge).n_quarantined == 0


def test_a_name_that_means_one_group_and_a_look_of_another_is_a_bridge(
    raw: Path, offer: Folder
) -> None:
    add(raw, offer.image("20.png", of=20, group="g"))

    report = add(raw, offer.image("x.jpg", of=0, group="g"))

    assert (report.n_images, report.n_quarantined) == (0, 1)
    assert str(report).startswith("more: no image was added\n")
    (row,) = read_quarantine(raw)
    assert row.reason.endswith("(near images/00.png and the group named g)")


def test_a_split_that_contradicts_that_of_the_group_is_quarantined(
    raw: Path, offer: Folder
) -> None:
    add(raw, offer.image("20.png", of=20, group="g", split="test"))

    report = add(
        raw,
        offer.image("21.png", of=21, group="g", split="train"),
        offer.image("22.png", of=22, group="g", split="test"),
        offer.image("23.png", of=23, group="g"),
    )

    assert (report.n_images, report.n_quarantined) == (2, 1)
    (row,) = read_quarantine(raw)
    assert (row.source, row.kind) == ("images/21.png", "bridge")
    assert row.reason.startswith("came as train, but belongs to a group that came as test")


def test_unusable_files_are_quarantined_and_leave_when_they_are_mended(
    raw: Path, offer: Folder
) -> None:
    bad = offer.file("bad.png", flawed("truncated_png"))
    gone = offer.image("gone.png", of=21)
    gone.file.unlink()
    good = offer.image("20.png", of=20)

    first = add(raw, bad, gone, good)
    again = add(raw, bad, gone, good)
    listed = read_quarantine(raw)
    mended = add(raw, offer.image("bad.png", of=22), offer.image("gone.png", of=21))

    assert (first.n_images, first.n_quarantined, again.n_quarantined) == (1, 2, 0)
    assert "  2 were quarantined before" in str(again).splitlines()
    assert [(row.source, row.kind) for row in listed] == [
        ("images/bad.png", "damaged"),
        ("images/gone.png", "unreadable"),
    ]
    assert mended.n_images == 2
    assert read_quarantine(raw) == []
    assert not (raw / "quarantine.csv").exists()
    assert not (raw / "quarantine").exists()


def test_what_was_removed_stays_out_and_is_listed(raw: Path, offer: Folder) -> None:
    remove_images(["images/00.png"], raw=raw, seen_here=raw, trained_on=lambda _: ())

    report = add(raw, offer.image("00.png", of=0), offer.image("20.png", of=20))

    assert report.removed == ("images/00.png",)
    assert "1 were removed once and stay out" in str(report)
    assert "images/00.png" not in {image.path for image in read_labels(raw)}


def test_only_what_is_new_is_decoded(
    raw: Path, offer: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fgpipe.images import files

    cache = MeasureCache(tmp_path / "measures")
    cache.measure_all(raw, [image.path for image in read_labels(raw)], description="")
    decoded = []
    look = files._look_at

    def counting(data: bytes, *, name: str, sha256: str) -> object:
        decoded.append(Path(name).name)
        return look(data, name=name, sha256=sha256)

    monkeypatch.setattr(files, "_look_at", counting)
    images = (offer.image("20.png", of=20), offer.image("same.png", of=0))

    add_source(
        Source(name="more", images=images),
        raw=raw,
        cache=cache,
        embedder=None,
        new_classes=False,
    )

    assert decoded == ["20.png"]


@pytest.mark.parametrize("change", ["other bytes", "missing", "unnamed"])
def test_a_folder_that_is_not_as_it_was_left_is_refused(
    raw: Path, offer: Folder, change: str
) -> None:
    path = raw / "images" / "00.png"
    match change:
        case "other bytes":
            shutil.copy(offer.image("z.png", of=40).file, path)
        case "missing":
            path.unlink()
        case "unnamed":
            shutil.copy(path, raw / "images" / "stray.png")

    with pytest.raises(DataError, match="stray" if change == "unnamed" else "00.png"):
        add(raw, offer.image("20.png", of=20))


def test_a_disk_that_is_full_is_a_message_and_leaves_nothing(
    raw: Path, offer: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(raw.parent)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        with pytest.raises(UnavailableError, match=r"20\.png .*No space left.*nothing was written"):
            add(raw, offer.image("20.png", of=20))

    assert content(raw.parent) == before


def test_there_must_be_something_to_add_to(tmp_path: Path, offer: Folder) -> None:
    with pytest.raises(NotReadyError, match="`fgpipe data import PATH`"):
        add(tmp_path / "raw", offer.image("20.png", of=20))


def test_two_commands_at_once_are_kept_apart(raw: Path, offer: Folder) -> None:
    image = offer.image("20.png", of=20)

    with exclusive(raw), pytest.raises(UnavailableError, match="is at work on"):
        add(raw, image)

    assert add(raw, image).n_images == 1


def test_additions_move_no_image_and_their_order_in_the_source_counts_not(
    raw: Path, offer: Folder, tmp_path: Path
) -> None:
    def splits() -> dict[str, str]:
        return dict(stable_splits(read_groups(raw), fractions=FRACTIONS, seed=0))

    other = tmp_path / "other" / "raw"
    shutil.copytree(raw, other)
    images = [offer.image(f"{n}.png", LABELS[n % 4], of=n) for n in range(20, 30)]
    images += [offer.image(f"near {n}.jpg", LABELS[n % 4], of=n) for n in range(25)]
    before = splits()

    add(raw, *images)
    backwards = tuple(reversed(images))
    add_source(Source(name="more", images=backwards), raw=other, new_classes=False, **TOOLS)

    assert content(raw) == content(other)
    after = splits()
    assert {sha256: after[sha256] for sha256 in before} == before


def test_a_row_of_a_source_is_not_changed_by_what_labels_csv_gained(
    raw: Path, offer: Folder
) -> None:
    given = offer.image("20.png", of=20, attributes={"site": "a"}, group="g", split="test")

    add(raw, given)

    (row,) = (image for image in read_labels(raw) if image.path == "images/20.png")
    assert (row.group, row.split, dict(row.attributes)) == ("g", "test", {"site": "a"})
    assert row._replace(attributes={}).box is None
    assert labels_text(read_labels(raw)) == (raw / "labels.csv").read_text()


def test_a_new_image_joins_content_that_is_there_and_given_its_group(
    raw: Path, offer: Folder
) -> None:
    there = offer.image("again.png", LABELS[3], of=3, group="bird 7")

    report = add(raw, there, offer.image("20.png", of=20, group="bird 7"))

    assert (report.n_there, report.n_images, report.n_joined) == (1, 1, 1)
    assert group_of(raw, "images/20.png") == group_of(raw, "images/03.png")


def test_a_repeat_of_what_is_there_gives_its_group_too(raw: Path, offer: Folder) -> None:
    again = [
        offer.image("again.png", LABELS[3], of=3),
        offer.image("repeat.png", LABELS[3], of=3, group="bird 7"),
    ]

    add(raw, *again, offer.image("20.png", of=20, group="bird 7"))

    assert group_of(raw, "images/20.png") == group_of(raw, "images/03.png")


def test_images_whose_groups_share_a_repeated_file_share_one(raw: Path, offer: Folder) -> None:
    add(
        raw,
        offer.image("20.png", of=20, group="bird 7"),
        offer.image("20b.png", of=20, group="bird 8"),
        offer.image("21.png", of=21, group="bird 8"),
    )

    assert group_of(raw, "images/21.png") == group_of(raw, "images/20.png")
