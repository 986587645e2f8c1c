import math

import numpy as np
import pytest
import torch

from fgpipe.nn.losses import Criterion, create_criterion, log_sums, smooth, sums

PARENTS = np.array([0, 1, 0, 1, 2])


def criterion(**options: object) -> Criterion:
    chosen = {
        "label_smoothing": 0.0,
        "logit_adjustment": 0.0,
        "class_counts": np.array([5, 10, 20, 40, 25]),
        "parents": PARENTS,
        "parent_weight": 0.0,
    } | options
    return create_criterion(**chosen)


def logits() -> torch.Tensor:
    return 3 * torch.randn(4, 5, generator=torch.Generator().manual_seed(0))


def soft() -> torch.Tensor:
    return torch.randn(4, 5, generator=torch.Generator().manual_seed(1)).softmax(dim=1)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_the_loss_is_torchs_cross_entropy(label_smoothing: float) -> None:
    loss = criterion(label_smoothing=label_smoothing)(logits(), soft())

    expected = torch.nn.functional.cross_entropy(logits(), soft(), label_smoothing=label_smoothing)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_smoothing_keeps_what_a_row_sums_to() -> None:
    targets = torch.tensor([[0.5, 0.1, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])

    smoothed = smooth(targets, label_smoothing=0.2)

    expected = [0.8 * 0.5 + 0.03, 0.8 * 0.1 + 0.03, 0.03, 0.03]
    assert smoothed[0].tolist() == pytest.approx(expected)
    assert smoothed[1].tolist() == pytest.approx([0.05, 0.05, 0.05, 0.85])
    assert torch.allclose(smoothed.sum(dim=1), targets.sum(dim=1))


def test_an_image_whose_targets_sum_to_half_counts_half() -> None:
    chosen = criterion(label_smoothing=0.1, parent_weight=0.4)

    whole, half = chosen(logits(), soft()), chosen(logits(), soft() / 2)

    assert half.item() == pytest.approx(whole.item() / 2, rel=1e-5)


def test_logit_adjustment_adds_the_logarithm_of_the_classes_shares() -> None:
    loss = criterion(logit_adjustment=0.5)(logits(), soft())

    total = 0.0
    for row, target in zip(logits().tolist(), soft().tolist(), strict=True):
        shares = (0.05, 0.1, 0.2, 0.4, 0.25)
        adjusted = [value + 0.5 * math.log(share) for value, share in zip(row, shares, strict=True)]
        whole = math.log(sum(math.exp(value) for value in adjusted))
        total -= sum(t * (value - whole) for t, value in zip(target, adjusted, strict=True))
    assert loss.item() == pytest.approx(total / 4, rel=1e-5)


def test_adjusted_logits_of_nothing_but_class_shares_are_all_alike() -> None:
    shares = torch.tensor([0.05, 0.1, 0.2, 0.4, 0.25])
    free = torch.zeros(1, 5, requires_grad=True)

    criterion(logit_adjustment=1.0)(free, shares[None]).backward()

    assert torch.allclose(free.grad, torch.zeros(1, 5), atol=1e-6)


def test_a_class_without_training_images_counts_as_one_of_one() -> None:
    counts = [np.array([0, 10, 20, 40, 25]), np.array([1, 10, 20, 40, 25])]

    losses = [
        criterion(logit_adjustment=1.0, class_counts=each)(logits(), soft()) for each in counts
    ]

    assert losses[0].isfinite()
    assert losses[0] == losses[1]


def test_the_loss_over_parents_is_a_slow_loop_over_their_classes() -> None:
    loss = criterion(parent_weight=0.3, label_smoothing=0.1, logit_adjustment=1.0)(logits(), soft())

    priors = torch.tensor([0.05, 0.1, 0.2, 0.4, 0.25]).log()
    probabilities = (logits() + priors).softmax(dim=1).tolist()
    of_classes = of_parents = 0.0
    for row, target in zip(probabilities, soft().tolist(), strict=True):
        smoothed = [0.9 * value + 0.02 for value in target]
        of_classes -= sum(t * math.log(p) for t, p in zip(smoothed, row, strict=True))
        for parent in range(3):
            members = [index for index in range(5) if PARENTS[index] == parent]
            probability = sum(row[member] for member in members)
            of_parents -= sum(smoothed[member] for member in members) * math.log(probability)
    assert loss.item() == pytest.approx((0.7 * of_classes + 0.3 * of_parents) / 4, rel=1e-4)


def test_without_parents_their_weight_says_nothing() -> None:
    without, unweighted = criterion(parents=None, parent_weight=0.7), criterion()

    assert without(logits(), soft()) == unweighted(logits(), soft())


def test_the_right_parent_costs_less_than_a_wrong_one_where_the_class_is_wrong() -> None:
    chosen = criterion(parent_weight=0.5)
    target = torch.eye(5)[[0]]

    sibling, stranger = 5 * torch.eye(5)[[2]], 5 * torch.eye(5)[[3]]

    assert chosen(sibling, target) < chosen(stranger, target) - 1


def test_parents_that_are_improbable_altogether_have_finite_losses_and_gradients() -> None:
    free = torch.tensor([[-400.0, 300.0, -500.0, 0.0, -300.0]], requires_grad=True)

    loss = criterion(parent_weight=1.0)(free, torch.eye(5)[[2]])
    loss.backward()

    assert loss.item() == pytest.approx(700.0)
    assert free.grad[0].tolist() == pytest.approx([-1.0, 1.0, 0.0, 0.0, 0.0], abs=1e-6)


def test_log_sums_are_numpys() -> None:
    values = logits()

    of_parents = log_sums(values, torch.from_numpy(PARENTS))

    for parent in range(3):
        members = values[:, torch.from_numpy(parent == PARENTS)].numpy()
        expected = np.logaddexp.reduce(members, axis=1)
        assert np.allclose(of_parents[:, parent].numpy(), expected, atol=1e-5)


def test_parents_are_summed_exactly_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        of_parents = sums(soft(), torch.from_numpy(PARENTS))
        loss = criterion(parent_weight=0.5)(logits(), soft())

    expected = torch.stack(
        [soft()[:, [0, 2]].sum(1), soft()[:, [1, 3]].sum(1), soft()[:, 4]], dim=1
    )
    assert torch.allclose(of_parents, expected, atol=1e-7)
    assert loss == criterion(parent_weight=0.5)(logits(), soft())


def test_half_precision_logits_are_taken_in_float32() -> None:
    half = logits().bfloat16()

    loss = criterion(parent_weight=0.5)(half, soft())

    assert loss.dtype == torch.float32
    assert loss == criterion(parent_weight=0.5)(half.float(), soft())
