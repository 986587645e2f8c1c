from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import pytest
from jaxtyping import Float32

from fgpipe.images.data_tables import MEASURES, images_table
from fgpipe.metrics.drift import told_apart
from fgpipe.nn.embedder import Embedder
from fgpipe.serving.data_profile import (
    DataProfile,
    drift_figures,
    drift_table,
    embedding_drift,
    keyed_sample,
    profile_of,
)
from tests.support.tables import sound_table


class FakeEmbedder:
    """Rows that follow from an image's hash and, if its path says so, from its kind."""

    name = "fake"

    def embed(
        self, root: Path, names: list[str], *, sha256s: list[str], description: str
    ) -> Float32[np.ndarray, "images features"]:
        del root, description
        rows = [np.random.default_rng(int(sha256[:12], 16)).normal(size=8) for sha256 in sha256s]
        moved = [np.full(8, 2.0 if "other" in name else 0.0) for name in names]
        return np.array(rows, dtype=np.float32) + np.array(moved, dtype=np.float32)


EMBEDDER = cast("Embedder", FakeEmbedder())


def later(*, path: str) -> pd.DataFrame:
    table = sound_table().assign(batch=2)
    table["path"] = [f"images/{path}{row}.png" for row in range(len(table))]
    table["sha256"] = [f"{row:x}".rjust(2, "0") * 32 for row in range(len(table))]
    return images_table(table)


def profile(*, n_sample: int = 30) -> DataProfile:
    return profile_of(sound_table(), raw=Path(), n_sample=n_sample, embedder=EMBEDDER)


def test_a_profile_counts_what_a_loop_counts_and_survives_its_file(tmp_path: Path) -> None:
    table = sound_table()

    found = profile()

    found.save(tmp_path / "profile.json")
    assert DataProfile.load(tmp_path / "profile.json") == found
    assert found.labels == {label: list(table["label"]).count(label) for label in found.labels}
    assert set(found.measures) == set(MEASURES)
    assert all(sum(h.counts) == len(table) for h in found.measures.values())
    assert (found.n_images, found.last_batch) == (48, 1)
    assert found.sample is not None
    expected = FakeEmbedder().embed(
        Path(), [""] * 30, sha256s=list(found.sample.sha256s), description=""
    )
    assert found.sample.numbers() == pytest.approx(expected.astype(np.float16))


def test_the_sample_is_the_same_whatever_the_order() -> None:
    table = sound_table()
    shuffled = table.sample(frac=1, random_state=3)

    first, again = keyed_sample(table, n=10, seed=4), keyed_sample(shuffled, n=10, seed=4)

    assert first["sha256"].tolist() == again["sha256"].tolist()
    assert set(keyed_sample(table, n=10, seed=5)["sha256"]) != set(first["sha256"])
    assert keyed_sample(table, n=0, seed=4).empty


def test_without_an_embedder_or_a_wish_there_is_no_sample() -> None:
    assert profile(n_sample=0).sample is None
    assert profile_of(sound_table(), raw=Path(), n_sample=9, embedder=None).sample is None


def test_the_same_data_do_not_drift_and_other_classes_and_sizes_do() -> None:
    table = sound_table()
    other = table[table["label"] == "fine"].assign(width_px=900, label="new")

    same = drift_figures(images_table(table), then=profile())
    moved = {
        figure.feature: figure for figure in drift_figures(images_table(other), then=profile())
    }

    assert [figure.feature for figure in same] == ["labels", *MEASURES]
    assert {figure.beyond_chance for figure in same} == {0.0}
    assert {name for name, figure in moved.items() if figure.beyond_chance > 0.25} == {
        "labels",
        "width_px",
        "aspect_ratio",
    }


def test_embeddings_tell_other_images_and_not_like_ones() -> None:
    then = profile().sample
    assert then is not None

    like, other = (
        embedding_drift(
            later(path=path), then=then, raw=Path(), embedder=EMBEDDER, n_sample=40, seed=1
        )
        for path in ("like", "other")
    )

    assert like is not None
    assert other is not None
    assert (like.n_then, like.n_since, like.beyond_chance) == (30, 40, 0.5)
    assert other.beyond_chance > 0.95
    chosen = keyed_sample(later(path="other"), n=40, seed=1)
    rows = FakeEmbedder().embed(
        Path(), chosen["path"].tolist(), sha256s=chosen["sha256"].tolist(), description=""
    )
    since = rows.astype(np.float16).astype(np.float64)
    assert other.value == pytest.approx(told_apart(then.numbers(), since, seed=1), abs=1e-4)


def test_few_images_are_not_told_apart() -> None:
    then = profile().sample
    assert then is not None

    figure = embedding_drift(
        later(path="a").iloc[:19], then=then, raw=Path(), embedder=EMBEDDER, n_sample=40, seed=1
    )

    assert figure is None


def test_images_of_the_sample_itself_are_left_out() -> None:
    then = profile(n_sample=48).sample
    assert then is not None

    figure = embedding_drift(
        images_table(sound_table()), then=then, raw=Path(), embedder=EMBEDDER, n_sample=40, seed=1
    )

    assert figure is None


def test_each_feature_has_a_column_of_its_own_in_the_table_of_drift() -> None:
    figures = drift_figures(images_table(sound_table()), then=profile())

    table = drift_table(figures)

    assert table["feature"].tolist() == [figure.feature for figure in figures]
    for figure in figures:
        own = table.set_index("feature")[figure.feature]
        assert own[figure.feature] == figure.beyond_chance
        assert own.drop(figure.feature).isna().all()
