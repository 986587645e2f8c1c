"""Reading and measuring files, whole, odd and broken."""

import hashlib
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from sklearn.datasets import load_sample_image

from fgpipe.errors import DataError
from fgpipe.images.files import (
    MEASURES_VERSION,
    all_usable,
    list_images,
    list_names,
    listed,
    measure,
    read_image,
)
from fgpipe.images.measuring import measure_all, measured
from tests.support.synthetic import LABELS, Flaw, draw, encoded, flawed

FLAWS: tuple[Flaw, ...] = (
    "empty",
    "text",
    "truncated_jpeg",
    "truncated_png",
    "zeroed_jpeg",
    "flipped_png",
)
PIXELS = draw(LABELS[0], group=0)
PHOTO = Image.fromarray(load_sample_image("china.jpg")[:400, 100:500])
GOLDEN = ("f00f4f3434c3d3cc", 0.676866, 0.135993, 135.339)


def saved(image: Image.Image, format_: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def claiming(side: int) -> bytes:
    """A small PNG whose header says it is large."""
    png = bytearray(encoded("PNG"))
    png[16:24] = struct.pack(">II", side, side)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    return bytes(png)


def test_a_lossless_image_is_read_pixel_for_pixel() -> None:
    for format_ in ("PNG", "BMP", "TIFF"):
        image = read_image(encoded(format_))

        np.testing.assert_array_equal(image, PIXELS)


def test_an_image_read_from_a_file_is_the_one_read_from_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded("JPEG"))

    image = read_image(path)

    np.testing.assert_array_equal(image, read_image(path.read_bytes()))
    assert image.flags.writeable


def test_grey_is_repeated_in_three_channels() -> None:
    grey = Image.fromarray(PIXELS).convert("L")

    image = read_image(saved(grey, "PNG"))

    for channel in range(3):
        np.testing.assert_array_equal(image[..., channel], np.asarray(grey))


def test_16_bit_grey_keeps_its_full_range() -> None:
    samples = np.array([[0, 257 * 100, 65535, 128, 257 * 200 + 128]], dtype=np.uint16)

    for format_ in ("PNG", "TIFF"):
        image = read_image(saved(Image.fromarray(samples), format_))

        assert image[0, :, 0].tolist() == [0, 100, 255, 0, 200]


def test_a_palette_gives_its_colours() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 0])
    palette.putpixel((1, 0), 1)

    image = read_image(saved(palette, "PNG"))

    assert image.tolist() == [[[10, 20, 30], [200, 100, 0]]]


def test_what_is_transparent_becomes_white() -> None:
    see_through = Image.fromarray(np.array([[[9, 9, 9, 0], [9, 9, 9, 255]]], dtype=np.uint8))
    palette = Image.new("P", (1, 1))
    palette.putpalette([10, 20, 30])

    colours = read_image(saved(see_through, "PNG"))
    from_palette = read_image(saved(palette, "PNG", transparency=0))

    assert colours.tolist() == [[[255, 255, 255], [9, 9, 9]]]
    assert from_palette.tolist() == [[[255, 255, 255]]]


def test_cmyk_becomes_rgb() -> None:
    cmyk = Image.fromarray(PIXELS).convert("CMYK")

    image = read_image(saved(cmyk, "JPEG", quality=95))

    assert np.abs(image.astype(int) - PIXELS).mean() < 5


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "TIFF"])
def test_exif_orientation_is_applied(orientation: int, format_: str, tmp_path: Path) -> None:
    upright = np.zeros((16, 32, 3), dtype=np.uint8)
    upright[:8, :16] = 255
    turned_as_stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.img"
    path.write_bytes(saved(Image.fromarray(turned_as_stored.copy()), format_, exif=exif))

    image = read_image(path)
    measures = measure(path)

    assert np.abs(image.astype(int) - upright).max() < 10
    assert (measures.width_px, measures.height_px) == (32, 16)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's
def test_unreadable_exif_is_no_reason_to_refuse_an_image() -> None:
    jpeg = encoded("JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff broken")

    image = read_image(jpeg)

    assert image.shape == (64, 64, 3)


def test_32_bit_samples_are_refused_because_their_range_is_unknown() -> None:
    with pytest.raises(DataError, match="32-bit"):
        read_image(saved(Image.new("F", (4, 4)), "TIFF"))


def test_an_image_that_would_fill_memory_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(DataError, match="more than 1,000 pixels"):
        read_image(encoded("PNG"), max_pixels=1000)
    for side in (9_000, 10_000, 30_000):
        with pytest.raises(DataError, match="more than 80,000,000 pixels"):
            read_image(claiming(side))


@pytest.mark.parametrize("flaw", [flaw for flaw in FLAWS if flaw != "zeroed_jpeg"])
def test_what_is_not_a_whole_image_is_not_read(flaw: Flaw) -> None:
    with pytest.raises(DataError, match="upload"):
        read_image(flawed(flaw), name="upload")


@pytest.mark.parametrize("flaw", FLAWS)
def test_what_is_not_a_whole_image_is_not_measured(flaw: Flaw, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(flawed(flaw))

    with pytest.raises(DataError, match=r"a\.png"):
        measure(path)


@given(
    format_=st.sampled_from(["JPEG", "PNG", "TIFF", "WEBP", "BMP"]),
    cut=st.floats(0, 1),
    damage=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=8),
)
def test_whatever_the_bytes_nothing_but_a_data_error_escapes(
    format_: str, cut: float, damage: list[tuple[float, int]]
) -> None:
    data = bytearray(encoded(format_, size_px=16))
    for place, value in damage:
        data[int(place * len(data))] = value
    data = data[: int(cut * len(data)) + 1]

    try:
        image = read_image(bytes(data))
    except DataError:
        return

    assert image.dtype == np.uint8
    assert image.ndim == 3


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png: cannot be read"):
        read_image(tmp_path / "gone.png")


def test_measures_are_those_that_numpy_gives(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded("PNG"))

    measures = measure(path)

    grey = np.asarray(Image.fromarray(PIXELS).convert("L")) / 255
    assert measures.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (measures.width_px, measures.height_px, measures.channels) == (64, 64, 3)
    assert measures.n_bytes == path.stat().st_size
    assert measures.brightness == pytest.approx(grey.mean(), abs=1e-6)
    assert measures.contrast == pytest.approx(grey.std(), abs=1e-6)


@pytest.mark.parametrize(
    ("mode", "channels"), [("L", 1), ("LA", 2), ("P", 3), ("RGB", 3), ("RGBA", 4)]
)
def test_channels_are_counted_as_stored(mode: str, channels: int, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).convert("RGBA").convert(mode).save(path)

    measures = measure(path)

    assert measures.channels == channels


def test_a_large_image_is_measured_reduced_and_hardly_differs(tmp_path: Path) -> None:
    small = Image.fromarray(draw(LABELS[0], group=0, size_px=256))
    large = small.resize((1100, 1100), Image.Resampling.BICUBIC)
    small.save(tmp_path / "small.png")
    large.save(tmp_path / "large.png")
    large.save(tmp_path / "large.jpg", quality=95)

    measures = {path.name: measure(path) for path in list_images(tmp_path)}

    for name in ("large.png", "large.jpg"):
        assert (measures[name].width_px, measures[name].height_px) == (1100, 1100)
        assert measures[name].brightness == pytest.approx(
            measures["small.png"].brightness, abs=0.005
        )
        assert measures[name].contrast == pytest.approx(measures["small.png"].contrast, abs=0.02)


def test_measuring_many_keeps_their_order(tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(9)]
    for i, name in enumerate(names):
        Image.new("L", (10, 10 + i)).save(tmp_path / name)

    measures = all_usable(measure_all(tmp_path, names[::-1], description="x"), way_out="y")

    assert [each.height_px for each in measures] == [18, 17, 16, 15, 14, 13, 12, 11, 10]


def test_measuring_more_than_a_threads_share_gives_what_one_by_one_gives(tmp_path: Path) -> None:
    names = [f"{i}.jpg" for i in range(75)]
    for i, name in enumerate(names):
        (tmp_path / name).write_bytes(encoded("JPEG", size_px=30 + i))
    (tmp_path / "30.jpg").write_bytes(b"")

    results = measure_all(tmp_path, names, description="x")

    assert str(results[30]) == "30.jpg: empty file"
    for position, (name, result) in enumerate(zip(names, results, strict=True)):
        if position != 30:
            assert result == measure(tmp_path / name)


def test_contents_that_are_known_are_not_decoded(tmp_path: Path) -> None:
    content = encoded("PNG")
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(content)
    marked = measure(tmp_path / "a.png")._replace(brightness=0.123)

    known = {hashlib.sha256(content).hexdigest(): marked}

    found = measured(tmp_path, ["a.png", "b.png"], known=lambda: known)

    assert list(found) == [marked] * 2


def test_a_blurred_image_is_less_sharp_whatever_its_size(tmp_path: Path) -> None:
    sharpness = {}
    for size in (200, 600, 1500):
        crisp = PHOTO.resize((size, size), Image.Resampling.LANCZOS)
        for blur in (0.0, 0.02, 0.04):
            path = tmp_path / "a.jpg"
            crisp.filter(ImageFilter.GaussianBlur(blur * size)).save(path, quality=90)
            sharpness[size, blur] = measure(path).sharpness

    for size in (200, 600, 1500):
        assert sharpness[size, 0] > 4 * sharpness[size, 0.02] > 16 * sharpness[size, 0.04]
        assert sharpness[size, 0] == pytest.approx(sharpness[600, 0], rel=0.3)
    assert min(s for (_, blur), s in sharpness.items() if blur == 0) > 2 * max(
        s for (_, blur), s in sharpness.items() if blur > 0
    )


def test_sharpness_is_the_variance_of_the_laplacian(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded("PNG"))
    grey = np.asarray(Image.fromarray(PIXELS).convert("L")).astype(int)

    near = np.pad(grey, 1, mode="reflect")
    rows = near[:-2] + 2 * near[1:-1] + near[2:]
    smooth = (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:] + 8) // 16
    near = np.pad(smooth, 1, mode="reflect")
    edges = near[:-2, 1:-1] + near[2:, 1:-1] + near[1:-1, :-2] + near[1:-1, 2:] - 4 * smooth

    assert measure(path).sharpness == pytest.approx(edges.var(), abs=1e-3)


def test_measures_of_a_version_are_these(tmp_path: Path) -> None:
    """If this turns red, MEASURES_VERSION must rise: caches hold what the code gave before."""
    path = tmp_path / "a.png"
    path.write_bytes(encoded("PNG", size_px=200))

    measures = measure(path)

    assert MEASURES_VERSION == 1
    assert (measures.phash, measures.brightness, measures.contrast, measures.sharpness) == GOLDEN


def test_of_many_bad_files_five_are_listed_and_all_are_counted(tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(8)]
    for name in names:
        (tmp_path / name).write_bytes(flawed("text"))

    with pytest.raises(DataError) as caught:
        all_usable(measure_all(tmp_path, names, description="x"), way_out="mend them")

    lines = str(caught.value).splitlines()
    assert lines[0] == "8 of 8 images cannot be used:"
    assert [line.split(":")[0].strip() for line in lines[1:6]] == names[:5]
    assert lines[6:] == ["  and 3 more", "mend them"]


def test_a_short_list_has_no_rest() -> None:
    assert listed("what", ["a"], "way out").splitlines() == ["what:", "  a", "way out"]


def test_images_are_found_by_extension_in_any_depth_but_not_hidden(tmp_path: Path) -> None:
    for name in ("b/x.PNG", "a/deep/y.jpeg", "z.webp", ".hidden.png", ".git/q.png", "a/Thumbs.db"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    found = list_images(tmp_path)

    assert [path.relative_to(tmp_path).as_posix() for path in found] == [
        "a/deep/y.jpeg",
        "b/x.PNG",
        "z.webp",
    ]


def test_folders_that_are_links_are_passed_over_and_links_to_files_are_not(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.png").touch()
    (tmp_path / "a" / "round").symlink_to(tmp_path)
    (tmp_path / "a" / "y.png").symlink_to(tmp_path / "a" / "x.png")
    (tmp_path / "quarantine").mkdir()
    (tmp_path / "quarantine" / "z.png").touch()
    (tmp_path / "a" / "quarantine").mkdir()
    (tmp_path / "a" / "quarantine" / "z.png").touch()

    found = list_names(tmp_path, without="quarantine")

    assert found == ["a/quarantine/z.png", "a/x.png", "a/y.png"]
    assert list_images(tmp_path) == [tmp_path / name for name in [*found, "quarantine/z.png"]]


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ünï.png").touch()
    assert len(list_images(tmp_path)) == 1
    (tmp_path / os.fsdecode(b"\xe9t\xe9.png")).touch()

    with pytest.raises(DataError, match=r"\\xe9t\\xe9\.png' is not in UTF-8; rename"):
        list_images(tmp_path)
