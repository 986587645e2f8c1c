"""What a file with an image's name is, if its header cannot be read as an image's.

People look into a file for one of a few reasons: it was cut short, a web page was saved in
its place, or it is in a format that cameras write and few programs read. Naming the reason
saves the look.
"""

_OURS = (
    (b"\xff\xd8", "JPEG"),
    (b"\x89PNG", "PNG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"RIFF", "WEBP"),
)
"""How files of the formats that are read begin."""

_OTHERS = (
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "gzip data"),
    (b"version https://git-lfs", "a pointer of Git LFS: `git lfs pull` fetches the image"),
    (b"\0\x05\x16\x07", "what macOS stores beside an image"),
    (b"\0\0\0\x0cjP", "JPEG 2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"8BPS", "a Photoshop file"),
    (b"\0\0\x01\0", "an icon"),
    (b"\x93NUMPY", "a NumPy array"),
)
"""What else is found under an image's name, and how it begins."""

_BRANDS = {b"avif": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIC"}
"""Of files in the boxes of MPEG-4: what is an image."""


def damaged_format(data: bytes) -> str | None:
    """The format that is read whose files begin like this one."""
    return next((format_ for start, format_ in _OURS if data.startswith(start)), None)


def described(data: bytes) -> str | None:
    """What a file is that is no image, as far as its first bytes tell; None if unknown."""
    for start, what in _OTHERS:
        if data.startswith(start):
            return what
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12], "a video")
    text = data[:512].lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "an HTML page: did its download fail?"
    if text.startswith((b"<svg", b"<?xml")):
        return "XML or SVG"
    return None if any(data) else "zeros: was its copy cut short?"
