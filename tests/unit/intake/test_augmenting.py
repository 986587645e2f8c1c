from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fgpipe.config import PreprocessConfig, TrainConfig, load_params
from fgpipe.errors import ConfigError
from fgpipe.images.files import read_image
from fgpipe.images.labels_file import Box, labels_text, read_labels
from fgpipe.images.measure_cache import MeasureCache
from fgpipe.images.transforms import Preprocessing
from fgpipe.intake.augmenting import MAX_ROWS, N_VERSIONS, look_at_augmented
from fgpipe.intake.showing import show_data
from fgpipe.report.augmented_page import AugmentedLook, render_augmented
from tests.support.synthetic import LABELS

SHIPPED = load_params(Path(__file__).parents[3] / "params.yaml")
PREPROCESS = SHIPPED.preprocess.model_copy(update={"image_size_px": 64})


def train(**changes: object) -> TrainConfig:
    return SHIPPED.train.model_copy(update=changes)


def look(raw: Path, preprocess: PreprocessConfig = PREPROCESS, **changes: object) -> AugmentedLook:
    return look_at_augmented(raw, preprocess=preprocess, train=train(**changes))


def test_a_few_images_of_each_class_are_as_served_and_as_training_sees_them(world: Path) -> None:
    shown = look(world, augment="flips", erasing=0.0)

    assert [row.label for row in shown.rows] == sorted(LABELS * 3)
    transform = Preprocessing.from_config(**PREPROCESS.of_the_array())
    for row in shown.rows:
        square = transform(read_image(world / row.path))
        mirrored = [square, square[::-1], square[:, ::-1], square[::-1, ::-1]]
        assert np.array_equal(row.preprocessed, square)
        assert len(row.versions) == N_VERSIONS
        for version in row.versions:
            assert any(np.array_equal(version, each) for each in mirrored)
    assert len({version.tobytes() for row in shown.rows for version in row.versions}) > 24


def test_boxes_are_cut_out_where_they_are_set_to_be(project: Path) -> None:
    raw = project / "data" / "raw"
    box = Box(left=2, top=3, width=20, height=30)
    images = [image._replace(box=box) for image in read_labels(raw)]
    (raw / "labels.csv").write_text(labels_text(images))
    preprocess = PREPROCESS.model_copy(update={"resize": "box"})

    shown = look(raw, preprocess, augment="none")

    transform = Preprocessing.from_config(**preprocess.of_the_array())
    for row in shown.rows:
        square = transform(read_image(raw / row.path), box)
        assert np.array_equal(row.preprocessed, square)


def test_erasing_is_shown(world: Path) -> None:
    shown = look(world, augment="none", erasing=1.0)

    for row in shown.rows:
        for version in row.versions:
            changed = (version != row.preprocessed).any(axis=2)
            assert 0.01 < changed.mean() < 0.4


@pytest.mark.parametrize("mix", ["mixup", "cutmix", "snapmix"])
def test_pairs_are_shown_with_what_their_labels_weigh(world: Path, mix: str) -> None:
    shown = look(world, augment="none", mix=mix)

    assert 10 <= len(shown.mixed) <= 16
    squares = {row.preprocessed.tobytes() for row in shown.rows}
    for pair in shown.mixed:
        assert pair.picture.tobytes() not in squares
        assert (pair.weights is None) == (mix == "snapmix")
        assert pair.weights is None or abs(sum(pair.weights) - 1) < 1e-5


def test_a_mixed_pair_is_the_mean_of_two_images_of_its_labels(world: Path) -> None:
    shown = look(world, augment="none", mix="mixup")

    assert len({pair.weights for pair in shown.mixed}) == len(shown.mixed)
    for pair in shown.mixed:
        assert pair.weights is not None
        one, other = pair.weights
        nearest = min(
            np.abs(one * a.preprocessed + other * b.preprocessed - pair.picture).max()
            for a in shown.rows
            for b in shown.rows
            if (a.label, b.label) == pair.labels
        )
        assert nearest <= 0.51


def test_nothing_is_said_of_mixing_where_there_is_none(world: Path) -> None:
    shown = look(world, mix="none")

    assert shown.mixed == ()
    assert 'id="mixed"' not in render_augmented(shown, overview="data.html")


@pytest.mark.parametrize(("n_classes", "n_rows"), [(120, 40), (30, 30), (15, 30)])
def test_the_more_classes_the_fewer_images_of_each(
    project: Path, n_classes: int, n_rows: int
) -> None:
    raw = project / "data" / "raw"
    images = [
        image._replace(label=f"class {number % n_classes}", parent=None)
        for number, image in enumerate(read_labels(raw))
    ]
    (raw / "labels.csv").write_text(labels_text(images))

    shown = look(raw)

    assert len(shown.rows) == n_rows
    assert len({row.label for row in shown.rows}) == min(n_classes, MAX_ROWS)


def test_a_policy_that_is_not_there_is_told(world: Path) -> None:
    with pytest.raises(ConfigError, match=r"train.augment \(mine.json\) does not exist"):
        look(world, augment="mine.json")


def test_the_page_is_one_file_that_leads_back_and_is_led_to(world: Path, tmp_path: Path) -> None:
    shown = look(world, mix="mixup", erasing=0.25)

    overview = show_data(
        world,
        out=tmp_path,
        n_per_class=2,
        embedder=None,
        cache=MeasureCache(None),
        augmented=shown,
    )

    page = (tmp_path / "data-augmented.html").read_text()
    assert 'href="data-augmented.html"' in overview.read_text()
    assert 'href="data.html"' in page
    assert "http" not in page
    assert "<script" not in page
    assert page.count("<img ") == page.count('src="data:image/jpeg;base64,')
    assert page.count("<img ") == len(shown.rows) * (1 + N_VERSIONS) + len(shown.mixed)
    for setting in ("train.augment", "train.erasing", "0.25", "preprocess.resize", "letterbox"):
        assert setting in page


def test_without_being_asked_for_the_page_goes(world: Path, tmp_path: Path) -> None:
    show = {"out": tmp_path, "n_per_class": 2, "embedder": None, "cache": MeasureCache(None)}
    show_data(world, **show, augmented=look(world))

    overview = show_data(world, **show)

    assert not (tmp_path / "data-augmented.html").exists()
    assert "data-augmented" not in overview.read_text()


def test_labels_of_any_letters_are_shown_as_they_are(world: Path) -> None:
    shown = look(world)
    odd = replace(shown, rows=tuple(replace(row, label="<b>ø&") for row in shown.rows))

    page = render_augmented(odd, overview="data.html")

    assert "<b>ø&" not in page
    assert "&lt;b&gt;ø&amp;" in page
