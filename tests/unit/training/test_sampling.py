from types import SimpleNamespace

import numpy as np
import pytest

from fgpipe.training.features import FeatureMaps, _shuffled
from fgpipe.training.recipe import Recipe

TARGETS = np.array([0] * 20 + [1] * 4)


def drawn(sampling: str) -> np.ndarray:
    """Classes of an epoch of the head alone."""
    features = FeatureMaps(
        maps=np.arange(24, dtype=np.float16).reshape(24, 1, 1, 1), targets=TARGETS
    )
    counted = Recipe.counted
    recipe = SimpleNamespace(batch_size=6, sampling=sampling)
    recipe.counted = lambda targets: counted(recipe, targets)
    batches = list(_shuffled(features, recipe=recipe, seed=0))
    for maps, targets in batches:
        assert np.array_equal(TARGETS[maps.ravel().numpy().astype(int)], targets.numpy())
    return np.concatenate([targets.numpy() for _, targets in batches])


@pytest.mark.parametrize(("sampling", "counts"), [("uniform", [20, 4]), ("balanced", [12, 12])])
def test_the_epochs_of_the_head_alone_draw_classes_as_the_others_do(
    sampling: str, counts: list[int]
) -> None:
    assert np.bincount(drawn(sampling)).tolist() == counts
