"""03 preprocess: decode every image once and keep it as a memory-mapped uint8 array."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from fgpipe.config import PreprocessConfig
from fgpipe.images.files import read_image
from fgpipe.images.table import read_table
from fgpipe.images.transforms import Preprocessing
from fgpipe.ports import Ports
from fgpipe.records import Manifest, Preprocessed, Stored, Validation, file_sha256

Channels = tuple[float, float, float]


def preprocess(
    *,
    raw: Path,
    manifest: Stored[Manifest],
    validate: Stored[Validation],  # noqa: ARG001 - only valid data are worth the time
    config: PreprocessConfig,
    out: Path,
    ports: Ports,  # noqa: ARG001 - a stage takes them all
) -> Preprocessed:
    """Write ``images.npy``, one row a row of the manifest, and ``transform.json``.

    Raises:
        DataError: If a file does not decode.
    """
    table = read_table(manifest.payload)
    transform = Preprocessing.from_config(
        image_size_px=config.image_size_px,
        color_space=config.color_space,
        resize=config.resize,
    )
    array_path = out / "payload" / "images.npy"
    size = config.image_size_px
    pixels = np.lib.format.open_memmap(
        array_path, mode="w+", dtype=np.uint8, shape=(len(table), size, size, 3)
    )
    paths = [raw / path for path in table["path"]]
    progress = tqdm(
        _transformed(paths, transform),
        total=len(paths),
        desc="preprocess",
        unit="image",
        disable=None,
    )
    for row, image in enumerate(progress):
        pixels[row] = image
    pixels.flush()
    transform_path = out / "payload" / "transform.json"
    transform_path.write_text(transform.to_json())

    mean, std = channel_statistics(pixels, rows=np.flatnonzero(table["split"] == "train"))
    return Preprocessed(
        manifest_sha256=manifest.record.sha256(),
        n_images=len(table),
        image_size_px=size,
        channel_mean=mean,
        channel_std=std,
        array_sha256=file_sha256(array_path),
        transform_sha256=file_sha256(transform_path),
    )


def _transformed(paths: list[Path], transform: Preprocessing) -> Iterator[UInt8[np.ndarray, "..."]]:
    """Each path's image, in order, a bounded number of them in memory."""
    n_threads = cpu_count() or 1
    chunk = 16 * n_threads
    with ThreadPoolExecutor(n_threads) as pool:
        for start in range(0, len(paths), chunk):
            images = pool.map(read_image, paths[start : start + chunk])
            yield from (transform(image) for image in images)


def channel_statistics(
    pixels: UInt8[np.ndarray, "images height width 3"], *, rows: np.ndarray
) -> tuple[Channels, Channels]:
    """Mean and standard deviation of each channel over some images, on the scale 0 to 1.

    Sums are integers, so that the result does not depend on how rows are blocked.
    """
    total = np.zeros(3, dtype=np.int64)
    squares = np.zeros(3, dtype=np.int64)
    for start in range(0, len(rows), 256):
        block = np.asarray(pixels[rows[start : start + 256]]).reshape(-1, 3)
        counts = np.stack([np.bincount(block[:, c], minlength=256) for c in range(3)])
        values = np.arange(256, dtype=np.int64)
        total += counts @ values
        squares += counts @ values**2
    n = len(rows) * pixels.shape[1] * pixels.shape[2]
    mean = total / n
    std = np.sqrt(np.maximum(squares / n - mean**2, 0))
    return _rounded(mean), _rounded(std)


def _rounded(values: np.ndarray) -> Channels:
    red, green, blue = (round(float(value) / 255, 6) for value in values)
    return red, green, blue
