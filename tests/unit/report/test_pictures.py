from collections.abc import Callable
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from fgpipe.metrics.calibration import ReliabilityBin
from fgpipe.records import EpochFigures, Score
from fgpipe.report.pictures import (
    MAX_COUNTED,
    MAX_LABELLED,
    confusion_picture,
    curves_picture,
    intervals_picture,
    reliability_picture,
    repeats_picture,
)


def confusion(n: int) -> bytes:
    counts = np.arange(n * n).reshape(n, n) % 7 + np.diag(np.full(n, 1000))
    return confusion_picture(counts, labels=[f"label{index}" for index in range(n)])


def curves(*, n_epochs: int = 3, coarse: float | None = 0.9) -> bytes:
    figures = [
        EpochFigures(
            epoch=epoch,
            learning_rate=0.1,
            train_loss=1 / epoch,
            validation_loss=2 / epoch,
            validation_top1=0.5,
            validation_macro_recall=0.4,
            validation_coarse_accuracy=coarse,
        )
        for epoch in range(1, n_epochs + 1)
    ]
    return curves_picture(figures, best_epoch=n_epochs)


def reliability() -> bytes:
    entries = [
        ReliabilityBin(low=low / 5, high=low / 5 + 0.2, n_images=low, confidence=0.5, accuracy=0.4)
        for low in (2, 3, 4)
    ]
    return reliability_picture(entries)


def intervals(*, champion: bool = True) -> bytes:
    score = Score(value=0.5, low=0.4, high=0.6)
    rows = [("Top-1", score, score if champion else None)]
    return intervals_picture(rows, champion="champion v7")


def repeats() -> bytes:
    rows = [("gru", [0.7, 0.8, 0.9], (0.6, 1.0)), ("linear", [0.5], None)]
    return repeats_picture(rows, reference=0.5)


def texts(svg: bytes) -> list[str]:
    """The words of a picture; fails if it is not XML."""
    root = ET.fromstring(svg)
    return [
        "".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text")
    ]


@pytest.mark.parametrize("draw", [lambda: confusion(4), curves, reliability, intervals, repeats])
def test_a_picture_has_the_same_bytes_twice_and_no_date(draw: Callable[[], bytes]) -> None:
    first, second = draw(), draw()

    assert first == second
    assert b"dc:date" not in first


def test_the_confusion_matrix_names_labels_counts_and_shares() -> None:
    svg = confusion_picture(np.array([[30, 10], [0, 5]]), labels=["ruff", "reeve"])

    words = texts(svg)
    assert words.count("ruff") == words.count("reeve") == 2
    assert {"30", "75%", "10", "25%", "0", "5", "100%"} <= set(words)


def test_a_class_without_images_is_drawn_empty() -> None:
    assert "ruff" in texts(confusion_picture(np.zeros((2, 2), dtype=int), labels=["ruff", "reeve"]))


def test_many_classes_lose_first_their_counts_and_then_their_names() -> None:
    counted, named, bare = (
        texts(confusion(n)) for n in (MAX_COUNTED, MAX_COUNTED + 1, MAX_LABELLED + 1)
    )

    assert any(word.startswith("100") and word.isdigit() for word in counted)
    assert not any(word.startswith("100") and word.isdigit() for word in named)
    assert "label0" in named
    assert "label0" not in bare


def test_labels_are_words_and_not_formulas_or_markup() -> None:
    labels = ["$\\frac{1}$", "<b>&amp;", "\N{CJK UNIFIED IDEOGRAPH-9CE5}"]

    words = texts(confusion_picture(np.eye(3, dtype=int), labels=labels))

    assert set(labels) <= set(words)


def test_a_long_label_is_cut() -> None:
    words = texts(confusion_picture(np.eye(2, dtype=int), labels=["x" * 100, "short"]))

    assert "x" * 23 + "\N{HORIZONTAL ELLIPSIS}" in words


def test_curves_show_the_parents_only_where_there_are_any() -> None:
    assert "parent" in texts(curves())
    assert "parent" not in texts(curves(coarse=None))


def test_one_epoch_is_a_picture_too() -> None:
    assert "kept epoch" in texts(curves(n_epochs=1))


def test_a_champion_is_drawn_only_where_there_is_one() -> None:
    assert "champion v7" in texts(intervals())
    assert "champion v7" not in texts(intervals(champion=False))


def test_every_method_is_named_beside_its_interval_and_a_long_name_is_cut() -> None:
    rows = [("<gru>, $x$", [0.7, 0.8, 0.9], (0.6, 1.0)), ("y" * 99, [0.5], None)]

    words = texts(repeats_picture(rows, reference=None))

    assert "<gru>, $x$" in words
    assert "y" * 59 + "\N{HORIZONTAL ELLIPSIS}" in words


def test_an_interval_is_drawn_only_where_there_is_one_and_each_repeat_always() -> None:
    with_interval = repeats_picture([("gru", [0.7, 0.9], (0.6, 1.0))], reference=None)
    without = repeats_picture([("gru", [0.7, 0.9], None)], reference=None)

    assert with_interval.count(b"stroke: #0072b2; stroke-width: 3") == 1
    assert without.count(b"stroke: #0072b2; stroke-width: 3") == 0
    marks = [svg.count(b"fill: #d55e00") for svg in (with_interval, without)]
    assert marks[0] == marks[1] >= 2
