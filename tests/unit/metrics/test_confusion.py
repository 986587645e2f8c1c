import numpy as np
import pytest
from sklearn.metrics import confusion_matrix as confusion_of_sklearn
from sklearn.metrics import precision_recall_fscore_support

from fgpipe.metrics.confusion import confusion_matrix, per_class
from tests.support.scores import outputs


@pytest.mark.parametrize("seed", range(5))
def test_rows_are_true_classes_and_columns_given_ones_as_in_scikit_learn(seed: int) -> None:
    model = outputs(seed=seed, n_classes=6, n_images=60)
    predictions = model.probabilities.argmax(axis=1)

    matrix = confusion_matrix(predictions, model.targets, n_classes=6)

    expected = confusion_of_sklearn(model.targets, predictions, labels=range(6))
    np.testing.assert_array_equal(matrix, expected)


@pytest.mark.parametrize("seed", range(5))
def test_figures_of_each_class_are_those_of_scikit_learn(seed: int) -> None:
    model = outputs(seed=seed, n_classes=6, n_images=40)
    predictions = model.probabilities.argmax(axis=1)
    labels = [f"class {index}" for index in range(6)]

    scores = per_class(confusion_matrix(predictions, model.targets, n_classes=6), labels=labels)

    precision, recall, f1, n_images = precision_recall_fscore_support(
        model.targets, predictions, labels=range(6), zero_division=0
    )
    assert [entry.label for entry in scores] == labels
    assert [entry.n_images for entry in scores] == n_images.tolist()
    assert [entry.precision for entry in scores] == pytest.approx(precision.tolist())
    assert [entry.recall for entry in scores] == pytest.approx(recall.tolist())
    assert [entry.f1 for entry in scores] == pytest.approx(f1.tolist())


def test_a_share_of_nothing_is_zero() -> None:
    targets, predictions = np.array([0, 0, 1]), np.array([0, 0, 0])

    never_given, without_images = per_class(
        confusion_matrix(predictions, targets, n_classes=3), labels=["a", "b", "c"]
    )[1:]

    assert (never_given.n_images, never_given.precision, never_given.f1) == (1, 0.0, 0.0)
    assert (without_images.n_images, without_images.recall, without_images.f1) == (0, 0.0, 0.0)
