from pathlib import Path

import pytest
import torch

from fgpipe.errors import NotFiniteError
from fgpipe.training.finite import gradient_scaler, is_spoiled, refuse


def updates(precision: str, gradients: list[float]) -> tuple[float, list[bool]]:
    """A weight after updates at rate 1 from 0; after each, whether it is spoiled."""
    weight = torch.nn.Parameter(torch.zeros(()))
    optimiser = torch.optim.SGD([weight], lr=1.0)
    scaler = gradient_scaler(torch.device("cpu"), precision)
    spoiled = []
    for gradient in gradients:
        optimiser.zero_grad()
        scaler.scale(weight * gradient).backward()
        scaler.step(optimiser)
        scaler.update()
        spoiled.append(is_spoiled(scaler))
    return weight.item(), spoiled


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("bad", [torch.inf, torch.nan])
def test_an_update_by_a_gradient_that_is_not_finite_is_left_out_and_told(
    precision: str, bad: float
) -> None:
    assert updates(precision, [0.25, bad, 0.5]) == (-0.75, [False, True, True])


def test_under_fp16_a_gradient_is_told_only_where_no_scale_makes_it_finite() -> None:
    too_long_at_first = 3e38 / 2**10

    assert updates("fp16", [too_long_at_first] * 6)[1] == [False] * 6
    assert updates("fp16", [torch.inf] * 17)[1] == [False] * 16 + [True]


def test_what_nothing_was_at_hand_of_is_refused_without_a_file(tmp_path: Path) -> None:
    with pytest.raises(NotFiniteError, match=r"^an answer is nan; a lower train\.learning_rate"):
        refuse("an answer is nan", keep_in=tmp_path)

    assert not list(tmp_path.iterdir())
