import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fgpipe.errors import DataError
from fgpipe.images.files import read_image
from fgpipe.images.transforms import Preprocessing
from fgpipe.pretraining.images import Pool, decode_unlabelled, find_unlabelled

TRANSFORM = Preprocessing.from_config(image_size_px=32, resize="squash")


def write_image(path: Path, *, seed: int) -> str:
    """A small PNG of noise; the hash of its bytes."""
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_images_in_any_folder_are_found_each_content_once(tmp_path: Path) -> None:
    one = write_image(tmp_path / "a" / "b" / "one.png", seed=1)
    two = write_image(tmp_path / "two.png", seed=2)
    write_image(tmp_path / "again.png", seed=1)
    write_image(tmp_path / ".hidden" / "three.png", seed=3)
    (tmp_path / "README.md").write_text("Images.")

    found = find_unlabelled(tmp_path, known=())

    assert list(found.paths) == sorted([one, two])
    assert found.n_left_out == 1


def test_an_image_of_the_manifest_is_left_out(tmp_path: Path) -> None:
    one = write_image(tmp_path / "one.png", seed=1)
    two = write_image(tmp_path / "two.png", seed=2)

    found = find_unlabelled(tmp_path, known={one})

    assert list(found.paths) == [two]
    assert found.n_left_out == 1


def test_no_folder_is_as_good_as_an_empty_one(tmp_path: Path) -> None:
    found = find_unlabelled(tmp_path / "unlabelled", known=())

    assert not found.paths
    assert found.n_left_out == 0


def test_they_are_preprocessed_as_the_others_in_the_order_of_their_hashes(tmp_path: Path) -> None:
    for seed in range(5):
        write_image(tmp_path / f"{seed}.png", seed=seed)
    found = find_unlabelled(tmp_path, known=())

    pixels = decode_unlabelled(found, transform=TRANSFORM, file=tmp_path / "kept" / "all.npy")

    expected = [TRANSFORM(read_image(path)) for path in found.paths.values()]
    assert np.array_equal(pixels, np.stack(expected))


def test_what_was_decoded_whole_is_taken_as_it_is(tmp_path: Path) -> None:
    write_image(tmp_path / "one.png", seed=1)
    found = find_unlabelled(tmp_path, known=())
    file = tmp_path / "all.npy"
    first = np.array(decode_unlabelled(found, transform=TRANSFORM, file=file))
    (tmp_path / "one.png").unlink()

    again = decode_unlabelled(found, transform=TRANSFORM, file=file)

    assert np.array_equal(again, first)


def test_images_that_cannot_be_read_are_named_and_nothing_is_kept(tmp_path: Path) -> None:
    write_image(tmp_path / "good.png", seed=1)
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("no image")
    found = find_unlabelled(tmp_path, known=())
    file = tmp_path / "kept" / "all.npy"

    with pytest.raises(DataError) as error:
        decode_unlabelled(found, transform=TRANSFORM, file=file)

    text = str(error.value)
    assert "2 of 3 unlabelled images cannot be used" in text
    assert "empty.png" in text
    assert "text.jpg" in text
    assert "move them out of data/unlabelled" in text
    assert not file.parent.exists()


@pytest.mark.parametrize("with_others", [True, False])
def test_a_pool_is_the_training_split_and_then_the_others(*, with_others: bool) -> None:
    labelled = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    others = labelled[::2] // 2
    train = np.array([1, 4, 5])

    pool = Pool(labelled=labelled, train=train, unlabelled=others if with_others else None)

    expected = [labelled[1], labelled[4], labelled[5], *(others if with_others else ())]
    assert len(pool) == len(expected)
    assert all(np.array_equal(pool[i], image) for i, image in enumerate(expected))
