import numpy as np
import pytest

from fgpipe.metrics.confident_learning import (
    confident_joint,
    confident_thresholds,
    estimated_joint,
    find_label_errors,
    normalised_margins,
)


def noisy(
    *, n_images: int = 600, n_classes: int = 5, flipped: float = 0.1, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities of a fair model, labels of which some are flipped, and which are."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, n_classes, n_images)
    logits = rng.normal(0, 1, (n_images, n_classes))
    logits[np.arange(n_images), true] += 3
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    wrong = rng.random(n_images) < flipped
    given = np.where(wrong, (true + rng.integers(1, n_classes, n_images)) % n_classes, true)
    return probabilities, given, wrong


def test_a_case_worked_by_hand() -> None:
    probabilities = np.array(
        [[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.45, 0.55]]
    )
    targets = np.array([0, 0, 0, 1, 1, 1])

    thresholds = confident_thresholds(probabilities, targets)
    counts = confident_joint(probabilities, targets)
    found = find_label_errors(probabilities, targets)

    assert thresholds == pytest.approx([0.6, (0.8 + 0.7 + 0.55) / 3])
    assert counts.tolist() == [[2, 1], [0, 2]]
    assert found.joint.tolist() == [[2, 1], [0, 3]]
    assert found.suspects.tolist() == [2]


@pytest.mark.parametrize("seed", range(5))
def test_the_joint_is_what_a_plain_loop_counts(seed: int) -> None:
    probabilities, given, _ = noisy(n_images=200, seed=seed)
    n_classes = probabilities.shape[1]

    counts = confident_joint(probabilities, given)
    joint = estimated_joint(counts, given)

    thresholds = []
    for k in range(n_classes):
        own = [row[k] for row, label in zip(probabilities, given, strict=True) if label == k]
        thresholds.append(sum(own) / len(own))
    expected = [[0] * n_classes for _ in range(n_classes)]
    for row, label in zip(probabilities.tolist(), given.tolist(), strict=True):
        sure = [k for k in range(n_classes) if row[k] >= thresholds[k]]
        if sure:
            expected[label][max(sure, key=lambda k: row[k])] += 1
    assert counts.tolist() == expected
    for k in range(n_classes):
        total, n_given = sum(expected[k]), int((given == k).sum())
        assert joint[k].tolist() == pytest.approx([n / total * n_given for n in expected[k]])
    assert joint.sum() == pytest.approx(len(given))


def test_margins_are_the_given_label_against_the_best_other() -> None:
    probabilities, given, _ = noisy(n_images=50)

    margins = normalised_margins(probabilities, given)

    for row, label, margin in zip(probabilities.tolist(), given.tolist(), margins, strict=True):
        others = [value for k, value in enumerate(row) if k != label]
        assert margin == pytest.approx(row[label] - max(others))


def test_suspects_come_by_margin_and_most_are_the_flipped_ones() -> None:
    probabilities, given, wrong = noisy(n_images=2000)

    found = find_label_errors(probabilities, given)

    margins = normalised_margins(probabilities, given)[found.suspects]
    assert (np.diff(margins) >= 0).all()
    assert (margins < 0).all()
    assert wrong[found.suspects].mean() > 0.8
    assert wrong[found.suspects].sum() / wrong.sum() > 0.8
    n_estimated = found.joint.sum() - np.trace(found.joint)
    assert n_estimated == pytest.approx(wrong.sum(), rel=0.25)


def test_an_image_that_the_model_takes_for_its_label_is_counted_but_no_suspect() -> None:
    probabilities = np.array(
        [[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4], [0.7, 0.3], [0.7, 0.3]]
    )
    targets = np.array([0, 0, 0, 0, 1, 1])

    found = find_label_errors(probabilities, targets)

    assert found.joint[0].tolist() == [2, 2], "0.4 is sure for class 1, 0.6 is not for class 0"
    assert found.suspects.tolist() == []


def test_equal_probabilities_reach_their_own_average() -> None:
    targets = np.repeat([0, 1, 2], 7)

    counts = confident_joint(np.eye(3)[targets] * 0.1 + 0.3, targets)

    assert counts.tolist() == [[7, 0, 0], [0, 7, 0], [0, 0, 7]]


def test_suspects_do_not_depend_on_the_order_of_images() -> None:
    probabilities, given, _ = noisy()
    order = np.random.default_rng(1).permutation(len(given))

    found = find_label_errors(probabilities, given).suspects
    mixed = find_label_errors(probabilities[order], given[order]).suspects

    assert order[mixed].tolist() == found.tolist()


def test_a_class_without_images_is_never_suggested() -> None:
    probabilities, given, _ = noisy(n_classes=4)
    padded = np.insert(probabilities, 2, 1e-9, axis=1)
    moved = np.where(given >= 2, given + 1, given)

    found = find_label_errors(padded, moved)

    assert confident_thresholds(padded, moved)[2] == np.inf
    assert found.joint[2].tolist() == found.joint[:, 2].tolist() == [0] * 5
    assert found.suspects.tolist() == find_label_errors(probabilities, given).suspects.tolist()


def test_labels_that_a_sure_model_agrees_with_are_not_suspected() -> None:
    targets = np.arange(60) % 3

    found = find_label_errors(np.eye(3)[targets] * 0.97 + 0.01, targets)

    assert found.suspects.tolist() == []


def test_probabilities_in_single_precision_give_the_same_suspects() -> None:
    probabilities, given, _ = noisy()

    double = find_label_errors(probabilities, given).suspects
    single = find_label_errors(probabilities.astype(np.float32), given).suspects

    assert single.tolist() == double.tolist()
