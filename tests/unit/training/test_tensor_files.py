from pathlib import Path

import torch
from torch import nn

from fgpipe.training.tensor_files import (
    below,
    optimiser_tensors,
    read_tensors,
    restore_optimiser,
    under,
    write_tensors,
)


def trained(weights: nn.Linear) -> torch.optim.Optimizer:
    optimiser = torch.optim.AdamW(weights.parameters(), lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        weights(torch.ones(2, 3)).square().sum().backward()
        optimiser.step()
    return optimiser


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    shared = torch.arange(12.0).reshape(3, 4)
    tensors = {"a.one": shared, "a.two": shared.T, "b": torch.tensor(7)}
    file = tmp_path / "folder" / "state.safetensors"

    write_tensors(file, tensors, metadata={"epoch": "3"})

    found = read_tensors(file)
    assert found is not None
    assert found.metadata == {"epoch": "3"}
    assert found.tensors.keys() == tensors.keys()
    assert all(torch.equal(found.tensors[name], value) for name, value in tensors.items())


def test_a_file_that_is_not_there_or_cut_short_is_none(tmp_path: Path) -> None:
    file = tmp_path / "state.safetensors"
    assert read_tensors(file) is None
    write_tensors(file, {"a": torch.zeros(100)}, metadata={})
    file.write_bytes(file.read_bytes()[:50])

    assert read_tensors(file) is None


def test_a_restored_optimiser_steps_as_the_first_would() -> None:
    torch.manual_seed(0)
    one = nn.Linear(3, 2)
    optimiser = trained(one)
    other = nn.Linear(3, 2)
    other.load_state_dict(one.state_dict())
    again = torch.optim.AdamW(other.parameters(), lr=0.1)

    tensors = {name: value.clone() for name, value in optimiser_tensors(optimiser).items()}
    restore_optimiser(again, tensors)

    for network, stepper in ((one, optimiser), (other, again)):
        stepper.zero_grad()
        network(torch.ones(1, 3)).sum().backward()
        stepper.step()
    assert torch.equal(one.weight, other.weight)


def test_a_prefix_is_put_before_names_and_taken_away() -> None:
    tensors = {"a": torch.zeros(1), "b": torch.ones(1)}

    both = under("x", tensors) | under("xy", {"c": torch.ones(2)})

    assert set(both) == {"x.a", "x.b", "xy.c"}
    assert set(below("x", both)) == {"a", "b"}
