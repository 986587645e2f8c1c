"""Memory that runs out: what that looks like, and work taken in parts where it happens."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from fgpipe.errors import PipelineError


def is_out_of_memory(error: RuntimeError) -> bool:
    """On a GPU it has a class of its own; the CPU's allocator says it in words."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def in_parts(
    work: Callable[..., Tensor], batches: Iterable[tuple[Tensor, ...]], *, n_parts: int = 1
) -> Iterator[Tensor]:
    """What ``work`` makes of each batch; where memory runs out, of smaller parts of them.

    Args:
        work: Makes a row of each image, whatever images are beside it.
        batches: What it is given: images, and what has as many rows as there are images.
        n_parts: To begin with; twice as many each time that memory runs out.

    Raises:
        PipelineError: If memory does not do for one image.
    """
    for batch in batches:
        while True:
            splits = (each.tensor_split(min(n_parts, len(each))) for each in batch)
            try:
                results = [work(*part) for part in zip(*splits, strict=True)]
                # Under bf16 a CPU's autocast refuses to join what is float16.
                with torch.autocast(results[0].device.type, enabled=False):
                    result = torch.cat(results)
                break
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                reason = str(error).splitlines()[0]
            # Not in the handler above: the error holds on to what memory was taken for.
            if n_parts >= len(batch[0]):
                raise PipelineError(
                    f"memory does not do for one image ({reason}); a lower "
                    "preprocess.image_size_px or a smaller train.backbone takes less"
                )
            n_parts *= 2
            release_memory()
        yield result


def release_memory() -> None:
    """Give back what a GPU's allocator keeps, which may be in pieces that are too small."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
