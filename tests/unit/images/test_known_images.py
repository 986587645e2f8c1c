import shutil
from pathlib import Path

import pytest

from fgpipe.errors import DataError
from fgpipe.images.known_images import known_images
from fgpipe.images.labels_file import read_labels
from fgpipe.records import file_sha256


@pytest.fixture
def raw(world: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(world, tmp_path / "raw"))


def test_every_image_has_its_label_hash_and_group(world: Path) -> None:
    images = known_images(world)

    labels = {image.path: image for image in read_labels(world)}
    assert [image.path for image in images] == sorted(labels)
    for image in images:
        assert image.label == labels[image.path].label
        assert image.sha256 == file_sha256(world / image.path)
    given = {image.path: labels[image.path].group for image in images}
    together = {(image.group, given[image.path]) for image in images}
    assert len(together) == len({group for group, _ in together}) == 40


def test_images_that_changed_or_are_gone_are_named_with_the_way_out(raw: Path) -> None:
    first, second, *_ = sorted((raw / "images").iterdir())
    first.unlink()
    second.write_bytes(second.read_bytes() + b"x")

    with pytest.raises(DataError) as error:
        known_images(raw)

    text = str(error.value)
    assert text.startswith("2 of 120 images of labels.csv are not as imported")
    assert f"images/{first.name}: cannot be read" in text
    assert f"images/{second.name} is not in groups.csv" in text
    assert "dvc checkout data/raw" in text
