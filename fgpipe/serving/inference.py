"""Many image files through a predictor: the serving path, a batch at a time."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8
from tqdm import tqdm

from fgpipe.serving.predictor import Predictor

BATCH_SIZE = 32
"""Images at a time; no figure depends on it (see :mod:`fgpipe.serving.predictor`)."""


def logits_of_files(
    predictor: Predictor, names: Sequence[str], *, folder: Path, description: str
) -> Float32[np.ndarray, "images classes"]:
    """The predictor's logits for each file, with a progress bar.

    Args:
        predictor: What to ask.
        names: Paths of the images below ``folder``.
        folder: Where they are.
        description: What the progress bar says.

    Raises:
        DataError: If a file does not decode.
    """

    def prepare(name: str) -> UInt8[np.ndarray, "size size 3"]:
        return predictor.prepare((folder / name).read_bytes(), name=name)

    parts = [np.zeros((0, len(predictor.labels.names)), dtype=np.float32)]
    with (
        ThreadPoolExecutor(cpu_count() or 1) as pool,
        tqdm(total=len(names), desc=description, unit="image", disable=None) as progress,
    ):
        for start in range(0, len(names), BATCH_SIZE):
            chosen = names[start : start + BATCH_SIZE]
            parts.append(predictor.logits(np.stack(list(pool.map(prepare, chosen)))))
            progress.update(len(chosen))
    return np.concatenate(parts)
