"""What is refused and why, what is odd and yet right, and the strict decode for measuring."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fgpipe.errors import DataError
from fgpipe.images.decoding import decode_reduced
from fgpipe.images.files import measure, read_image
from fgpipe.images.measuring import measure_all
from tests.support.malformed import RGB, Odd, malformed, odd, saved, whole, write_unopenable

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, on broken headers

FILES = whole()


def test_there_are_sixty_malformed_files_of_twenty_kinds() -> None:
    files = malformed()

    assert len(files) >= 60
    assert len({file.kind for file in files}) >= 20
    assert len({file.name for file in files}) == len(files)


def test_each_malformed_file_is_named_with_its_reason_and_none_stops_the_others(
    tmp_path: Path,
) -> None:
    files = malformed()
    for file in files:
        (tmp_path / file.name).write_bytes(file.content)
    (tmp_path / "whole.jpg").write_bytes(FILES["baseline.jpg"])
    names = [file.name for file in files]

    *results, last = measure_all(tmp_path, [*names, "whole.jpg"], description="x")

    assert not isinstance(last, DataError)
    for file, result in zip(files, results, strict=True):
        assert isinstance(result, DataError), file.name
        assert str(result).startswith(f"{file.name}: ")
        assert re.search(file.reason, str(result).removeprefix(file.name)), str(result)
        assert len(str(result)) < 250


def test_what_has_an_images_name_and_no_bytes_is_named_and_nothing_hangs(tmp_path: Path) -> None:
    reasons = write_unopenable(tmp_path)

    results = measure_all(tmp_path, list(reasons), description="x")

    for (name, reason), result in zip(reasons.items(), results, strict=True):
        assert str(result).startswith(f"{name}: ")
        assert reason in str(result)


@pytest.mark.parametrize("file", odd(), ids=lambda file: file.name)
def test_an_odd_file_shows_what_it_should(file: Odd, tmp_path: Path) -> None:
    (tmp_path / file.name).write_bytes(file.content)

    image = read_image(tmp_path / file.name)
    measures = measure(tmp_path / file.name)

    assert image.shape == file.pixels.shape
    assert np.abs(image.astype(int) - file.pixels).mean() <= file.tolerance
    assert (measures.height_px, measures.width_px) == image.shape[:2]
    grey = np.asarray(Image.fromarray(image).convert("L")).astype(int)
    assert measures.brightness == pytest.approx(grey.mean() / 255, abs=0.01)
    reduced = decode_reduced(file.content, name="x", min_side_px=64).grey
    assert np.abs(reduced - grey).mean() < 3


def test_a_link_to_a_file_elsewhere_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(FILES["colour.png"])
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.png").symlink_to(tmp_path / "elsewhere")

    measures = measure(tmp_path / "raw" / "a.png")

    assert measures == measure(tmp_path / "elsewhere")


@given(
    name=st.sampled_from(sorted(name for name in FILES if name.endswith(".jpg"))),
    damage=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=4),
    in_header=st.booleans(),
)
def test_what_is_measured_can_be_read_later_and_nothing_else_escapes(
    name: str, damage: list[tuple[float, int]], *, in_header: bool
) -> None:
    data = bytearray(FILES[name])
    end = data.index(b"\xff\xda") if in_header else len(data)
    for place, value in damage:
        data[int(place * end)] = value

    try:
        reduced = decode_reduced(bytes(data), name="x", min_side_px=96)
    except DataError:
        return

    assert read_image(bytes(data)).shape[:2] == (reduced.height_px, reduced.width_px)


@pytest.mark.parametrize("size", [(96, 191), (192, 192), (191, 300), (384, 388), (1000, 768)])
@pytest.mark.parametrize("format_", ["JPEG", "PNG"])
def test_a_reduced_picture_is_like_the_image_resized(format_: str, size: tuple[int, int]) -> None:
    large = RGB.resize(size, Image.Resampling.BICUBIC)

    reduced = decode_reduced(saved(large, format_), name="x", min_side_px=96)

    height, width = reduced.grey.shape
    factor = next(f for f in (8, 4, 2, 1) if min(size) >= 96 * f or f == 1)
    assert (width, height) == (-(-size[0] // factor), -(-size[1] // factor))
    assert (reduced.width_px, reduced.height_px) == size
    expected = large.convert("L").resize((width, height), Image.Resampling.BOX)
    difference = np.abs(reduced.grey.astype(int) - np.asarray(expected))
    assert difference.mean() < 4


def test_damage_in_the_middle_is_found_also_where_a_decode_at_full_size_passes_it() -> None:
    large = saved(RGB.resize((600, 600)), "JPEG", quality=90)
    middle = len(large) // 2
    damaged = large[:middle] + bytes(400) + large[middle + 400 :]

    Image.open(io.BytesIO(damaged)).load()

    with pytest.raises(DataError, match="x: damaged"):
        decode_reduced(damaged, name="x", min_side_px=96)
