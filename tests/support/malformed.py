"""Files that are no whole image, each with its reason, and odd ones that are.

:func:`malformed` and :func:`odd` are bytes; :func:`write_unopenable` makes what only a file
system can hold: pipes, links, folders under an image's name.
"""

import io
import os
import socket
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tests.support.synthetic import LABELS, draw

PIXELS = draw(LABELS[0], group=0, size_px=96)
"""What the whole files show."""

RGB = Image.fromarray(PIXELS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed:
    """A file that must be refused."""

    kind: str
    """What is wrong with it."""
    name: str
    """Its name."""
    content: bytes
    reason: str
    """In the message, a regular expression."""


def saved(image: Image.Image, format_: str, *others: Image.Image, **options: object) -> bytes:
    """A file's content, with further pictures behind the first."""
    file = io.BytesIO()
    if others:
        options |= {"save_all": True, "append_images": [other.copy() for other in others]}
    # Copies, because TIFF stumbles over what saving as JPEG leaves in an image.
    image.copy().save(file, format_, **options)
    return file.getvalue()


def whole() -> dict[str, bytes]:
    """A whole file of each way to store pixels."""
    grey, palette = RGB.convert("L"), RGB.convert("P")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    return {
        "baseline.jpg": saved(RGB, "JPEG", quality=90),
        "progressive.jpg": saved(RGB, "JPEG", quality=90, progressive=True),
        "grey.jpg": saved(grey, "JPEG", quality=90),
        "cmyk.jpg": saved(RGB.convert("CMYK"), "JPEG", quality=90),
        "colour.png": saved(RGB, "PNG"),
        "palette.png": saved(palette, "PNG"),
        "deep.png": saved(deep, "PNG"),
        "a.bmp": saved(RGB, "BMP"),
        "a.gif": saved(palette, "GIF"),
        "plain.tif": saved(RGB, "TIFF"),
        "lzw.tif": saved(RGB, "TIFF", compression="tiff_lzw"),
        "lossy.webp": saved(RGB, "WEBP"),
        "lossless.webp": saved(RGB, "WEBP", lossless=True),
        "a.ppm": saved(RGB, "PPM"),
        "a.pgm": saved(grey, "PPM"),
    }


def malformed() -> list[Malformed]:
    """Every file, of distinct kind and name."""
    found = [*_of_no_format(), *_of_no_sense(), *_bombs()]
    for name, content in whole().items():
        n = len(content)
        found += [
            _made("cut in half", name, content[: n // 2], "damaged|not decode to its end"),
            _made("without its end", name, content[: n - n // 10], "damaged|not decode to its end"),
            _made("cut in its header", name, content[:11], "damaged|not"),
        ]
        middle = n // 2
        if name.endswith(".jpg"):
            damage = content[:middle] + b"\xff\xd5" * 40 + content[middle + 80 :]
            found.append(_made("overwritten in its middle", name, damage, "damaged"))
        if name.endswith(".png"):
            damage = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
            found += [
                _made("with a bit turned over", name, damage, r"damaged \(broken PNG file"),
                _made("without pixels", name, _without(content, b"IDAT"), "damaged|not decode"),
            ]
    return found


def _of_no_format() -> list[Malformed]:
    generator = np.random.default_rng(0)
    contents = {
        "empty": (b"", "empty file"),
        "one byte": (b"\xff", "not an image"),
        "text": (b"these are words, not pixels\n" * 20, r"not an image \(BMP, GIF, JPEG"),
        "noise": (b"?" + generator.bytes(500), "not an image"),
        "zeros": (bytes(3000), "zeros: was its copy cut short"),
        "HTML": (b"\n<!DOCTYPE html><html>404</html>", "an HTML page: did its download fail"),
        "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "XML or SVG"),
        "PDF": (b"%PDF-1.7\n", "a PDF"),
        "zip": (b"PK\x03\x04" + bytes(50), "a zip archive"),
        "gzip": (b"\x1f\x8b" + bytes(50), "gzip data"),
        "Git LFS": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        "HEIC": (b"\0\0\0\x18ftypheic" + bytes(50), "but HEIC"),
        "AVIF": (saved(RGB, "AVIF"), "but AVIF"),
        "video": (b"\0\0\0\x18ftypmp42" + bytes(50), "but a video"),
        "macOS": (b"\0\x05\x16\x07\0\x02\0\0" + bytes(50), "macOS"),
        "JPEG 2000": (saved(RGB, "JPEG2000"), "but JPEG 2000"),
        "icon": (saved(RGB, "ICO"), "but an icon"),
        "NumPy": (b"\x93NUMPY" + bytes(50), "a NumPy array"),
    }
    return [
        _made(f"not an image: {what}", f"{what}.jpg", content, reason)
        for what, (content, reason) in contents.items()
    ]


def _of_no_sense() -> list[Malformed]:
    """Files whose header says what cannot be."""
    files = whole()
    jpeg, png, gif = files["baseline.jpg"], files["colour.png"], files["a.gif"]
    start_of_scan = jpeg.index(b"\xff\xda")
    floating = Image.fromarray(np.asarray(RGB.convert("L")).astype(np.float32))
    signed = Image.fromarray(np.asarray(RGB.convert("L")).astype(np.int32))
    lab = saved(Image.merge("LAB", RGB.split()), "TIFF")
    other_pixels = zlib.compress(b"\x09" * (96 * 289))  # there is no filter 9
    return [
        _made("without a scan", "a.jpg", jpeg[:start_of_scan] + b"\xff\xd9", "damaged"),
        _made("of no height", "a.jpg", _claiming_jpeg(jpeg, 96, 0), "damaged|not an image"),
        _made("higher than its data", "a.jpg", _claiming_jpeg(jpeg, 96, 500), "damaged"),
        _made("of no width", "a.png", _claiming_png(png, 0, 96), "damaged|not an image"),
        _made("of pixels of no sense", "a.png", _with_pixels(png, other_pixels), "not decode"),
        _made("of data of no sense", "a.png", _with_pixels(png, b"no zlib" * 20), "not decode"),
        _made("of no size", "a.ppm", b"P6\n0 0\n255\n", "not an image|damaged|not decode"),
        _made("without numbers", "a.ppm", b"P6\nx y\n255\n" + bytes(99), "not an image"),
        _made("without a picture", "a.gif", gif[:13] + b";", "damaged|not decode"),
        _made("pointing beyond its end", "a.tif", b"II*\0\xff\xff\xff\x7f" + bytes(90), "damaged"),
        _made("without tags", "a.tif", b"II*\0\x08\0\0\0\0\0\0\0\0\0", "damaged"),
        _made("32-bit samples", "float.tif", saved(floating, "TIFF"), "32-bit samples"),
        _made("32-bit samples", "signed.tif", saved(signed, "TIFF"), "32-bit samples"),
        _made("Lab colours", "lab.tif", lab, "Lab colours; save it as RGB"),
    ]


def _bombs() -> list[Malformed]:
    """Small files that claim to be so large that they would fill memory."""
    files = whole()
    side = 40_000
    bmp = bytearray(files["a.bmp"])
    bmp[18:26] = struct.pack("<ii", side, side)
    gif = files["a.gif"][:6] + struct.pack("<HH", 65_535, 65_535) + files["a.gif"][10:]
    tiff = files["plain.tif"]
    for tag in (256, 257):
        place = tiff.index(struct.pack("<HHI", tag, 4, 1))
        tiff = tiff[: place + 8] + struct.pack("<I", side) + tiff[place + 12 :]
    contents = {
        "a.png": _claiming_png(files["colour.png"], side, side),
        "a.jpg": _claiming_jpeg(files["baseline.jpg"], side, side),
        "a.bmp": bytes(bmp),
        "a.gif": gif,
        "a.tif": tiff,
        "a.ppm": f"P6\n{side} {side}\n255\n".encode() + bytes(99),
    }
    found = [
        _made("bomb", name, content, "more than 80,000,000 pixels")
        for name, content in contents.items()
    ]
    text = b"Comment\0\0" + zlib.compress(bytes(80_000_000), 9)
    with_text = _with_chunk(files["colour.png"], b"zTXt", text)
    return [*found, _made("bomb of text", "a.png", with_text, "damaged|not decode")]


def _made(kind: str, name: str, content: bytes, reason: str) -> Malformed:
    return Malformed(
        kind=kind, name=f"{kind} {name}".replace(":", ""), content=content, reason=reason
    )


def _claiming_png(content: bytes, width: int, height: int) -> bytes:
    png = bytearray(content)
    png[16:24] = struct.pack(">II", width, height)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    return bytes(png)


def _claiming_jpeg(content: bytes, width: int, height: int) -> bytes:
    place = content.index(b"\xff\xc0") + 5
    return content[:place] + struct.pack(">HH", height, width) + content[place + 4 :]


def _chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    found, place = [], 8
    while place < len(png):
        (n,) = struct.unpack(">I", png[place : place + 4])
        found.append((png[place + 4 : place + 8], png[place + 8 : place + 8 + n]))
        place += 12 + n
    return found


def _png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def _without(png: bytes, kind: bytes) -> bytes:
    return _png([chunk for chunk in _chunks(png) if chunk[0] != kind])


def _with_pixels(png: bytes, data: bytes) -> bytes:
    header, *_, end = _chunks(png)
    return _png([header, (b"IDAT", data), end])


def _with_chunk(png: bytes, kind: bytes, data: bytes) -> bytes:
    header, *rest = _chunks(png)
    return _png([header, (kind, data), *rest])


def write_unopenable(folder: Path) -> dict[str, str]:
    """Things under an image's name whose bytes cannot be had; the reason of each."""
    (folder / "a folder.jpg").mkdir()
    os.mkfifo(folder / "a pipe.jpg")
    (folder / "a dangling link.jpg").symlink_to("nowhere.jpg")
    (folder / "a link to itself.jpg").symlink_to("a link to itself.jpg")
    (folder / "a link to a folder.jpg").symlink_to(folder)
    (folder / "a link to a device.jpg").symlink_to("/dev/zero")
    with (folder / "a giant.jpg").open("wb") as file:
        file.truncate(1_000_000_001)
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(folder)  # a socket's path has 107 bytes at most
        try:
            listener.bind("a socket.jpg")
        finally:
            os.chdir(here)
    return {
        "a folder.jpg": "a folder, not a file",
        "a pipe.jpg": "a pipe, not a file",
        "a dangling link.jpg": "No such file or directory",
        "a link to itself.jpg": "Too many levels of symbolic links",
        "a link to a folder.jpg": "a folder, not a file",
        "a link to a device.jpg": "a device, not a file",
        "a giant.jpg": "1,000,000,001 bytes; at most 1,000,000,000 are read",
        "a socket.jpg": "a socket, not a file",
        "not there.jpg": "No such file or directory",
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Odd:
    """A file that is unusual and yet whole."""

    name: str
    content: bytes
    pixels: np.ndarray
    """What it shows, RGB."""
    tolerance: float = 0.0
    """Mean difference allowed, for formats that lose some."""


def odd() -> list[Odd]:
    """Every file, of distinct name."""
    black = Image.new("RGB", RGB.size)
    grey = np.asarray(RGB.convert("L"))
    palette = RGB.convert("P", palette=Image.Palette.ADAPTIVE)
    of_palette = np.asarray(palette.convert("RGB"))
    clear = RGB.convert("RGBA")
    clear.putalpha(Image.fromarray(np.where(grey > 120, 255, 0).astype(np.uint8)))
    on_white = np.where(grey[..., None] > 120, PIXELS, 255)
    files = whole()
    jpeg = files["baseline.jpg"]
    lossy: list[tuple[str, bytes]] = [
        ("plain.jpg", jpeg),
        ("progressive.jpg", files["progressive.jpg"]),
        ("CASE.JPG", jpeg),
        ("spaces and 'quotes'.jpg", jpeg),
        ("ünïcode 図.jpg", jpeg),
        ("line\nbreak.jpg", jpeg),
        ("with junk behind it.jpg", jpeg + b"junk" * 100),
        ("a JPEG in truth.png", jpeg),
        ("with a comment.jpg", saved(RGB, "JPEG", quality=90, comment=b"x" * 60_000)),
        ("with a colour profile.jpg", saved(RGB, "JPEG", quality=90, icc_profile=b"x" * 90_000)),
        ("several pictures.mpo.jpg", saved(RGB, "MPO", black, black, quality=90)),
        ("cmyk.jpg", saved(RGB.convert("CMYK"), "JPEG", quality=95)),
        ("unsampled.jpg", saved(RGB, "JPEG", quality=95, subsampling=0)),
        ("restarting.jpg", saved(RGB, "JPEG", quality=90, restart_marker_blocks=4)),
        ("animated.webp", saved(RGB, "WEBP", black, black, quality=90)),
        ("jpeg.tif", saved(RGB, "TIFF", compression="jpeg", quality=95)),
    ]
    exact: list[tuple[str, bytes, np.ndarray]] = [
        ("a PNG in truth.jpg", files["colour.png"], PIXELS),
        ("without extension", files["colour.png"], PIXELS),
        ("grey.png", saved(RGB.convert("L"), "PNG"), _grey3(grey)),
        ("two tones.png", saved(RGB.convert("1"), "PNG"), _of(RGB.convert("1"))),
        ("16 bits.png", files["deep.png"], _grey3(grey)),
        ("16 bits.pgm", _deep_pgm(grey), _grey3(grey)),
        ("16 bits.tif", saved(Image.open(io.BytesIO(files["deep.png"])), "TIFF"), _grey3(grey)),
        ("palette.png", saved(palette, "PNG"), of_palette),
        ("palette.gif", saved(palette, "GIF"), of_palette),
        ("palette.bmp", saved(palette, "BMP"), of_palette),
        ("alpha.png", saved(clear, "PNG"), on_white),
        ("alpha.webp", saved(clear, "WEBP", lossless=True), on_white),
        ("alpha.tif", saved(clear, "TIFF"), on_white),
        ("animated.png", saved(RGB, "PNG", black, black), PIXELS),
        ("several pictures.tif", saved(RGB, "TIFF", black, black), PIXELS),
        ("lzw.tif", files["lzw.tif"], PIXELS),
        ("text.ppm", _ppm_in_words(), PIXELS),
        ("one pixel.png", saved(Image.new("RGB", (1, 1), (9, 8, 7)), "PNG"), _flat(1, 1)),
        ("one row.png", saved(Image.new("RGB", (4000, 1), (9, 8, 7)), "PNG"), _flat(1, 4000)),
        ("one column.png", saved(Image.new("RGB", (1, 4000), (9, 8, 7)), "PNG"), _flat(4000, 1)),
        ("animated.gif", _animation(palette), of_palette),
    ]
    return [
        *(Odd(name=name, content=content, pixels=PIXELS, tolerance=9) for name, content in lossy),
        *(Odd(name=name, content=content, pixels=pixels) for name, content, pixels in exact),
        *(_turned(way, saver) for way in range(1, 9) for saver in ("JPEG", "PNG")),
    ]


def _turned(orientation: int, format_: str) -> Odd:
    """Stored in one of the eight ways that EXIF can undo."""
    stored = {
        1: PIXELS,
        2: PIXELS[:, ::-1],
        3: PIXELS[::-1, ::-1],
        4: PIXELS[::-1],
        5: PIXELS.transpose(1, 0, 2),
        6: PIXELS.transpose(1, 0, 2)[::-1],
        7: PIXELS.transpose(1, 0, 2)[::-1, ::-1],
        8: PIXELS.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if format_ == "JPEG" else {}
    content = saved(Image.fromarray(stored.copy()), format_, exif=exif, **options)
    name = f"turned {orientation}.{format_.lower()}"
    return Odd(name=name, content=content, pixels=PIXELS, tolerance=9 if options else 0)


def _grey3(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)


def _of(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"))


def _flat(height: int, width: int) -> np.ndarray:
    return np.broadcast_to(np.array([9, 8, 7], dtype=np.uint8), (height, width, 3))


def _deep_pgm(grey: np.ndarray) -> bytes:
    height, width = grey.shape
    samples = (grey.astype(np.uint16) * 257).astype(">u2")
    return f"P5\n{width} {height}\n65535\n".encode() + samples.tobytes()


def _ppm_in_words() -> bytes:
    height, width, _ = PIXELS.shape
    return f"P3\n# in words\n{width} {height}\n255\n".encode() + b" ".join(
        str(value).encode() for value in PIXELS.ravel()
    )


def _animation(first: Image.Image) -> bytes:
    others = [first.transpose(Image.Transpose.ROTATE_90)] * 2
    return saved(first, "GIF", *others, duration=40)
