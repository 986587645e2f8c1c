import pytest
import torch

from fgpipe.training.averaging import MovingAverage, greedy_soup, mean_of
from tests.support.learning import network


def test_a_moving_average_is_a_slow_loop_over_the_steps() -> None:
    model = torch.nn.Linear(3, 2)
    average = MovingAverage(model, decay=0.6)
    expected = model.weight.detach().clone()
    generator = torch.Generator().manual_seed(0)

    for step in range(12):
        with torch.no_grad():
            model.weight.copy_(torch.randn(2, 3, generator=generator))
        average.update(model, step=step)
        decay = min(0.6, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.weight.detach()

    assert torch.allclose(average.weights["weight"], expected, atol=1e-6)


def test_a_moving_average_takes_in_batch_statistics_and_counts() -> None:
    model = network()
    average = MovingAverage(model, decay=0.5)
    model.train()

    model(torch.zeros(2, 32, 32, 3, dtype=torch.uint8))
    average.update(model, step=10**6)

    before = network().backbone.network.bn1.running_mean
    after = model.backbone.network.bn1.running_mean
    name = "backbone.network.bn1"
    assert torch.allclose(average.weights[f"{name}.running_mean"], (before + after) / 2)
    assert average.weights[f"{name}.num_batches_tracked"] == 1


def member(*values: float) -> dict[str, torch.Tensor]:
    return {"w": torch.tensor(values), "n": torch.tensor(7)}


def test_a_mean_of_states_is_taken_number_by_number_and_of_counts_the_first() -> None:
    mean = mean_of([member(1.0, 2.0), member(2.0, 4.0), member(6.0, 0.0)])

    assert mean["w"].tolist() == [3.0, 2.0]
    assert mean["w"].dtype == torch.float32
    assert mean["n"] == 7


def test_a_soup_takes_in_what_makes_it_better_and_nothing_else() -> None:
    members = [member(0.5), member(10.0), member(-0.7)]

    weights, chosen = greedy_soup(members, loss=lambda state: abs(float(state["w"])))

    assert chosen == (0, 2)
    assert float(weights["w"]) == pytest.approx(-0.1)
