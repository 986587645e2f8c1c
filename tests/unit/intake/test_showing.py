import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fgpipe.images.files import measure
from fgpipe.images.labels_file import labels_text, read_labels
from fgpipe.images.measure_cache import MeasureCache
from fgpipe.intake.showing import look_at, sample_of, sheet_name, show_data
from fgpipe.report.contact_sheet import MAX_STRIPS, ClassSheet, DataLook, render_overview
from tests.support.synthetic import LABELS


class OneAxisAnImage:
    """An embedder for which all images are unlike, but for the pairs given."""

    name = "one axis an image"

    def __init__(self, *pairs: tuple[str, str]) -> None:
        self.pairs = pairs

    def embed(
        self, root: Path, names: Sequence[str], *, sha256s: Sequence[str], description: str
    ) -> np.ndarray:
        rows = np.eye(len(names), dtype=np.float32)
        for rank, (one, other) in enumerate(self.pairs):
            rows[names.index(other)] = rows[names.index(one)]
            rows[names.index(other), rank - len(self.pairs)] += 0.1 * (rank + 1)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


UNCACHED = MeasureCache(None)

ALIKE = (
    ("images/amber_disc_003_0.png", "images/blue_ring_007_1.png"),
    ("images/amber_ring_004_2.png", "images/blue_disc_001_1.png"),
)


def links(page: str) -> set[str]:
    return {target.partition("#")[0] for target in re.findall(r'href="([^"]+)"', page)} - {""}


def test_every_class_has_its_sheet_and_the_pages_need_nothing_else(
    world: Path, tmp_path: Path
) -> None:
    overview = show_data(
        world, out=tmp_path, n_per_class=7, embedder=OneAxisAnImage(*ALIKE), cache=UNCACHED
    )

    assert overview == tmp_path / "data.html"
    pages = {path.relative_to(tmp_path).as_posix(): path for path in tmp_path.rglob("*.html")}
    assert links(overview.read_text()) | {"data.html"} == set(pages)
    assert len(pages) == 1 + len(LABELS)
    for name, path in pages.items():
        page = path.read_text()
        assert page.count("<img ") == page.count('src="data:image/jpeg;base64,') > 0
        assert "http" not in page
        assert "<script" not in page
        if name != "data.html":
            assert page.count("<img ") == 7
            assert "7 of 30 images" in page
            assert (path.parent / next(iter(links(page)))).resolve() == overview


def test_the_closest_pairs_between_classes_come_first(world: Path) -> None:
    look = look_at(world, n_per_class=5, embedder=OneAxisAnImage(*ALIKE), cache=UNCACHED)

    assert [pair.paths for pair in look.pairs[:2]] == [tuple(sorted(pair)) for pair in ALIKE]
    assert look.pairs[0].labels == ("amber_disc", "blue_ring")
    assert look.pairs[0].likeness == "likeness 0.995"
    assert (look.n_images, look.n_groups) == (120, 40)
    assert [(sheet.label, sheet.parent, sheet.n_images) for sheet in look.sheets] == [
        (label, label.split("_")[0], 30) for label in LABELS
    ]


def test_without_weights_the_perceptual_hash_finds_them(world: Path) -> None:
    look = look_at(world, n_per_class=5, embedder=None, cache=UNCACHED)

    def bits(paths: tuple[str, str]) -> int:
        one, other = (int(measure(world / path).phash, 16) for path in paths)
        return (one ^ other).bit_count()

    assert "perceptual hashes" in look.measure
    found = [bits(pair.paths) for pair in look.pairs]
    assert found == sorted(found)
    assert look.pairs[0].likeness == f"{found[0]} of 64 bits differ"
    assert all(len(set(pair.labels)) == 2 for pair in look.pairs)


def test_close_pairs_are_looked_for_among_as_many_images_as_are_stated(world: Path) -> None:
    def look(n: int) -> DataLook:
        return look_at(world, n_per_class=5, embedder=None, cache=UNCACHED, max_compared=n)

    few, everything = look(30), look(120)

    paths = sorted(image.path for image in read_labels(world))
    assert {path for pair in few.pairs for path in pair.paths} <= set(sample_of(paths, n=30))
    assert "among 30 drawn from the 120 images" in few.measure
    assert "among all 120 images" in everything.measure
    assert few.n_images == 120


def test_a_label_of_any_letters_is_shown_as_it_is_and_has_a_page(
    project: Path, tmp_path: Path
) -> None:
    raw = project / "data" / "raw"
    odd = '<b>"ø&/..'
    (raw / "labels.csv").write_text(
        labels_text(
            [
                image._replace(label=odd) if image.label == "blue_ring" else image
                for image in read_labels(raw)
            ]
        )
    )

    page = show_data(
        raw, out=tmp_path / "out", n_per_class=3, embedder=None, cache=UNCACHED
    ).read_text()

    assert odd not in page
    assert "&lt;b&gt;&#34;ø&amp;/.." in page
    assert all((tmp_path / "out" / link).is_file() for link in links(page))


def test_names_of_sheets_are_plain_and_distinct() -> None:
    names = [sheet_name(n, label) for n, label in enumerate(["A b", "a-b", "../..", "x" * 99], 1)]

    assert names == ["0001-a-b.html", "0002-a-b.html", "0003.html", f"0004-{'x' * 40}.html"]


def test_a_sheet_of_a_class_that_is_no_more_goes_and_other_files_stay(
    world: Path, tmp_path: Path
) -> None:
    show_data(world, out=tmp_path, n_per_class=2, embedder=None, cache=UNCACHED)
    before = {path.name: path.read_bytes() for path in (tmp_path / "data-classes").iterdir()}
    (tmp_path / "data-classes" / "0099-gone.html").write_text("")
    (tmp_path / "data-classes" / "notes.html").write_text("")

    show_data(world, out=tmp_path, n_per_class=2, embedder=None, cache=UNCACHED)

    after = {path.name: path.read_bytes() for path in (tmp_path / "data-classes").iterdir()}
    assert after == before | {"notes.html": b""}


def test_a_sample_is_the_same_each_time_and_mostly_stays_when_images_come() -> None:
    paths = [f"images/{n}.png" for n in range(500)]

    sample = sample_of(paths, n=50)
    grown = sample_of([*paths, *(f"images/{n}.png" for n in range(500, 550))], n=50)

    assert sample == sample_of(paths[::-1], n=50) == tuple(sorted(sample))
    assert len(set(sample)) == 50
    assert 150 < np.mean([int(path[7:-4]) for path in sample]) < 350, "from everywhere"
    assert len(set(sample) & set(grown)) >= 40
    assert sample_of(paths[:3], n=50) == tuple(paths[:3])


def test_with_many_classes_the_overview_shows_fewer_pictures_of_each(tmp_path: Path) -> None:
    n_classes = 400
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.png")
    sheets = tuple(
        ClassSheet(
            label=f"class {n}", parent=None, n_images=9, sample=("a.png",) * 9, file=f"{n}.html"
        )
        for n in range(n_classes)
    )
    look = DataLook(n_images=9 * n_classes, n_groups=1, sheets=sheets, pairs=(), measure="")

    page = render_overview(look, raw=tmp_path, folder="x")

    assert page.count("<img ") == n_classes * (MAX_STRIPS // n_classes)
    assert "There is no pair to show" in page
