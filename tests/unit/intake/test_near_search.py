"""Copies planted among look-alikes, with and without rows of an embedder."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from fgpipe.images.files import measure
from fgpipe.images.perceptual_hash import mirrored_hash, perceptual_hash
from fgpipe.images.sources.elpv import elpv
from fgpipe.intake import near_search
from fgpipe.intake.near_search import NearPair, candidates, near_pairs
from fgpipe.nn.embedder import Looks
from tests.support.synthetic import LABELS, draw

PHOTO = Image.fromarray(load_sample_image("china.jpg"))


class Thumbnails:
    """An embedder whose rows are tiny grey pictures."""

    def look(self, root: Path, names: list[str], **_: object) -> Looks:
        images = [Image.open(root / name).convert("L") for name in names]
        tiny = np.stack([np.asarray(image.resize((32, 32), 3)) for image in images])
        rows = np.stack([np.asarray(image.resize((8, 8), 3)).ravel() for image in images])
        rows = rows.astype(np.float32) + 1
        return Looks(rows / np.linalg.norm(rows, axis=1, keepdims=True), tiny)


def near(folder: Path, names: list[str], *, n_known: int = 0, rows: bool = True) -> list[NearPair]:
    return near_pairs(
        folder,
        paths=names,
        measures=[measure(folder / name) for name in names],
        n_known=n_known,
        embedder=Thumbnails() if rows else None,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planted")
    photo = PHOTO.crop((60, 40, 360, 340))
    photo.save(folder / "photo.png", compress_level=1)
    photo.save(folder / "encoded.jpg", quality=50)
    photo.resize((170, 150), Image.Resampling.BICUBIC).save(folder / "smaller.png")
    photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "mirrored.png")
    photo.crop((5, 25, 275, 295)).save(folder / "cut.png")
    photo.point(lambda value: min(255, round(1.3 * value))).save(folder / "brighter.png")
    for number in range(12):
        left, top = 20 * number, 10 * number
        PHOTO.crop((left, top, left + 120, top + 120)).save(folder / f"other {number}.png")
    return folder


def names(folder: Path) -> list[str]:
    copies = ["encoded.jpg", "smaller.png", "brighter.png", "mirrored.png", "cut.png"]
    others = sorted(path.name for path in folder.glob("other *.png"))
    return ["photo.png", *others, *copies]


def test_every_planted_copy_is_found_and_told_apart(planted: Path) -> None:
    paths = names(planted)

    pairs = near(planted, paths)

    kinds = {paths[pair.j]: pair.kind for pair in pairs if pair.i == 0}
    assert kinds == {
        "encoded.jpg": "copy",
        "smaller.png": "copy",
        "brighter.png": "copy",
        "mirrored.png": "flip",
        "cut.png": "crop",
    }
    assert {pair.i for pair in pairs} | {pair.j for pair in pairs} == {0, *range(13, 18)}
    assert min(pair.similarity for pair in pairs) >= 0.998


@pytest.mark.parametrize(
    ("name", "left", "top"), [("cell0919", 27, 24), ("cell1099", 27, 29), ("cell1531", 19, 10)]
)
def test_a_crop_that_few_pixels_leave_in_doubt_is_found_with_more(
    tmp_path: Path, name: str, left: int, top: int
) -> None:
    (file,) = (image.file for image in elpv().images if image.file.stem == name)
    cell = Image.open(file)
    cell.save(tmp_path / "cell.png")
    cell.crop((left, top, left + 270, top + 270)).save(tmp_path / "cut.png")

    (pair,) = near(tmp_path, ["cell.png", "cut.png"])

    assert (pair.i, pair.j, pair.kind) == (0, 1, "crop")
    assert pair.similarity >= 0.999


def test_without_rows_only_crops_are_missed(planted: Path) -> None:
    paths = names(planted)

    found = {paths[pair.j] for pair in near(planted, paths, rows=False) if pair.i == 0}

    assert found >= {"encoded.jpg", "smaller.png", "brighter.png"}
    assert "cut.png" not in found


@pytest.mark.parametrize("rows", [True, False])
def test_what_is_known_already_is_not_compared_again(planted: Path, *, rows: bool) -> None:
    paths = ["encoded.jpg", "smaller.png", *names(planted)[1:13], "photo.png", "brighter.png"]

    pairs = near(planted, paths, n_known=14, rows=rows)

    assert [(pair.i, pair.j) for pair in pairs] == [(0, 14), (0, 15), (1, 14), (1, 15), (14, 15)]


def test_hashes_name_mirror_images_too_but_not_among_the_known() -> None:
    photo = PHOTO.crop((60, 40, 360, 340)).convert("L")
    one = np.array([perceptual_hash(photo), 0], dtype=np.uint64)
    hashes = np.concatenate([one, mirrored_hash(one[:1]), one])

    pairs = candidates(hashes, looks=None, n_known=3)

    assert pairs.tolist() == [[0, 3], [2, 3]]


def test_nothing_new_has_no_pair(planted: Path) -> None:
    assert near(planted, [], rows=False) == []
    assert near(planted, ["photo.png", "encoded.jpg"], n_known=2) == []


@pytest.mark.parametrize("rows", [True, False])
def test_images_of_classes_that_differ_in_a_mark_are_no_pair(tmp_path: Path, *, rows: bool) -> None:
    paths = []
    for number, (label, group) in enumerate([(label, g) for label in LABELS for g in range(6)]):
        paths.append(f"{number}.png")
        Image.fromarray(draw(label, group=group)).save(tmp_path / paths[-1])

    assert near(tmp_path, paths, rows=rows) == []


@pytest.mark.parametrize("rows", [True, False])
def test_every_pair_of_many_copies_is_found_however_they_are_chunked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, rows: bool
) -> None:
    paths = [f"{number}.png" for number in range(7)]
    for number, name in enumerate(paths):
        pixels = draw(LABELS[0], group=0 if number % 2 == 0 else number).copy()
        pixels[0, 0] = number
        Image.fromarray(pixels).save(tmp_path / name)
    monkeypatch.setattr(near_search, "_PAIRS_AT_ONCE", 4)

    pairs = near(tmp_path, paths, rows=rows)

    assert [(pair.i, pair.j) for pair in pairs] == list(combinations([0, 2, 4, 6], 2))
    assert {pair.kind for pair in pairs} == {"copy"}


@pytest.mark.parametrize("rows", [True, False])
def test_flat_images_are_no_near_duplicates_of_each_other(tmp_path: Path, *, rows: bool) -> None:
    for name, value in (("black.png", 0), ("grey.png", 100), ("white.png", 255)):
        Image.new("L", (50, 50), value).save(tmp_path / name)

    assert near(tmp_path, ["black.png", "grey.png", "white.png"], rows=rows) == []
