"""Many image files through a predictor: the serving path, a batch at a time."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8
from tqdm import tqdm

from fgpipe.images.content import read_below
from fgpipe.images.labels_file import Box
from fgpipe.serving.predictor import Image, Outputs, Predictor

BATCH_SIZE = 32
"""Images at a time; no figure depends on it (see :mod:`fgpipe.serving.predictor`)."""


def logits_of_files(
    predictor: Predictor,
    names: Sequence[str],
    *,
    folder: Path,
    description: str,
    boxes: Sequence[Box | None] | None = None,
    change: Callable[[Image], Image] | None = None,
) -> Float32[np.ndarray, "images classes"]:
    """The predictor's logits for each file; arguments and errors as :func:`outputs_of_files`."""
    outputs = outputs_of_files(
        predictor, names, folder=folder, description=description, boxes=boxes, change=change
    )
    empty = np.zeros((0, len(predictor.labels.names)), dtype=np.float32)
    return np.concatenate([empty, *(part.logits for part in outputs)])


def outputs_of_files(
    predictor: Predictor,
    names: Sequence[str],
    *,
    folder: Path,
    description: str,
    boxes: Sequence[Box | None] | None = None,
    change: Callable[[Image], Image] | None = None,
) -> Iterator[Outputs]:
    """Logits and embeddings of the files, a batch at a time, with a progress bar.

    Args:
        predictor: What to ask.
        names: Paths of the images below ``folder``.
        folder: Where they are.
        description: What the progress bar says.
        boxes: Where in each image the object is; None, or None for one, for all of it.
        change: Made to each decoded image first.

    Raises:
        DataError: If a file does not decode, or a box that is used is outside its image.
    """
    boxes = boxes or [None] * len(names)

    def prepare(name: str, box: Box | None) -> UInt8[np.ndarray, "size size 3"]:
        content = read_below(folder, name)
        return predictor.prepare(content, name=name, box=box, change=change)

    with (
        ThreadPoolExecutor(cpu_count() or 1) as pool,
        tqdm(total=len(names), desc=description, unit="image", disable=None) as progress,
    ):
        for start in range(0, len(names), BATCH_SIZE):
            part = slice(start, start + BATCH_SIZE)
            prepared = list(pool.map(prepare, names[part], boxes[part]))
            yield predictor.outputs(np.stack(prepared))
            progress.update(len(prepared))
