import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from fgpipe.metrics.accuracy import coarse_accuracy, macro_recall, parent_probabilities, top1
from tests.support.scores import outputs


@pytest.mark.parametrize("seed", range(5))
def test_top1_and_macro_recall_are_those_of_scikit_learn(seed: int) -> None:
    model = outputs(seed=seed)
    predictions = model.probabilities.argmax(axis=1)

    figures = top1(predictions, model.targets), macro_recall(predictions, model.targets)

    assert figures[0] == pytest.approx(accuracy_score(model.targets, predictions), abs=1e-15)
    assert figures[1] == pytest.approx(
        balanced_accuracy_score(model.targets, predictions), abs=1e-12
    )


def test_macro_recall_leaves_out_classes_without_images_though_they_are_given() -> None:
    targets = np.array([0, 0, 0, 2])
    predictions = np.array([0, 0, 1, 2])

    recall = macro_recall(predictions, targets)

    assert recall == pytest.approx((2 / 3 + 1) / 2)


def test_a_parents_probability_is_the_sum_of_its_classes() -> None:
    model = outputs(n_classes=5)
    parents = np.array([0, 2, 1, 2, 0])

    coarse = parent_probabilities(model.probabilities, parents=parents)

    for image, row in enumerate(model.probabilities):
        for parent in range(3):
            expected = sum(row[c] for c in range(5) if parents[c] == parent)
            assert coarse[image, parent] == pytest.approx(expected, abs=1e-15)
    assert coarse.sum(axis=1) == pytest.approx(1)


def test_the_coarse_answer_can_be_right_where_no_class_of_that_parent_is_the_best() -> None:
    probabilities = np.array([[0.4, 0.3, 0.3]])
    parents = np.array([0, 1, 1])

    accuracy = coarse_accuracy(probabilities, np.array([2]), parents=parents)

    assert accuracy == 1.0
