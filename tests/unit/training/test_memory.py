from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from fgpipe.errors import PipelineError
from fgpipe.training.memory import in_parts
from fgpipe.training.validation import infer, validation_logits
from tests.support.learning import forty_images, network, running_out_above


def doubled(above: int, sizes: list[int]) -> Callable[[Tensor], Tensor]:
    """Twice the rows, of no more of them than these at once."""

    def work(rows: Tensor) -> Tensor:
        sizes.append(len(rows))
        if len(rows) > above:
            torch.empty(2**60)  # nobody has an exabyte
        return 2 * rows

    return work


def test_work_is_halved_until_memory_does_and_stays_so_for_the_batches_to_come() -> None:
    batches = [(torch.arange(8.0),), (torch.arange(8.0, 14.0),)]
    sizes: list[int] = []

    found = list(in_parts(doubled(3, sizes), batches))

    assert torch.equal(torch.cat(found), 2 * torch.arange(14.0))
    assert [len(each) for each in found] == [8, 6]
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 2, 1, 1]


def test_rows_of_any_type_are_joined_under_any_precision() -> None:
    batch = (torch.arange(4.0),)

    with torch.autocast("cpu", torch.bfloat16):
        (found,) = in_parts(Tensor.half, [batch], n_parts=2)

    assert found.dtype == torch.float16
    assert torch.equal(found.float(), *batch)


def test_memory_that_does_not_do_for_one_image_is_an_error_with_a_way_out() -> None:
    sizes: list[int] = []

    with pytest.raises(PipelineError, match=r"for one image \(.*memory.*\); a lower .*size_px"):
        list(in_parts(doubled(0, sizes), [(torch.arange(5.0),)]))

    assert sizes == [5, 3, 2, 1]


def test_another_error_is_not_taken_for_a_want_of_memory() -> None:
    def work(rows: Tensor) -> Tensor:
        return rows @ torch.zeros(3)

    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        list(in_parts(work, [(torch.zeros(2),)]))


def test_answers_are_the_same_where_memory_does_for_few_images_at_once() -> None:
    examples = forty_images()
    model = network()
    torch.nn.init.normal_(model.head.classifier.weight)
    expected = validation_logits(model, examples, precision="fp32")
    running_out_above(3, model, "features")

    found = validation_logits(model, examples, precision="fp32")

    assert np.allclose(found, expected, atol=1e-4)


def test_answers_that_memory_does_not_do_for_are_an_error_with_a_way_out() -> None:
    examples = forty_images()
    model = network()
    running_out_above(0, model, "features")

    with pytest.raises(PipelineError, match="memory does not do for one image"):
        infer(model, [(examples.pixels[:4], np.arange(4))], precision="fp32")
