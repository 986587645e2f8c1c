"""Boxes go the whole way: the test split, the champion, the probe and the bundle."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fgpipe.images.boxes import boxes_of
from fgpipe.images.table import TABLE_NAME, read_table
from fgpipe.images.transforms import Preprocessing
from fgpipe.records import Evaluation, Manifest, Stored
from fgpipe.serving.answers import card_of
from fgpipe.serving.bundle import PROBE_FILE, Probe, check_probe, open_bundle
from fgpipe.serving.predictor import Predictor
from fgpipe.stages import evaluate
from tests.support.ports import fake_ports
from tests.support.tiny_model import (
    SIZE_PX,
    Done,
    Tiny,
    copied,
    register_champion,
    run_evaluate,
    run_package,
)


@dataclass(frozen=True)
class Boxed:
    tiny: Tiny
    evaluation: Evaluation
    """With the same model as champion."""
    packaged: Path


def with_boxes(manifest: Stored[Manifest], folder: Path) -> Stored[Manifest]:
    """Every image but each fifth has a box of its own."""
    table = read_table(manifest.payload)
    table["box"] = [None if n % 5 == 0 else f"{n % 17} {n % 13} 40 45" for n in range(len(table))]
    folder.mkdir()
    table.to_parquet(folder / TABLE_NAME)
    return Stored(record=manifest.record, payload=folder)


@pytest.fixture(scope="module")
def boxed(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Boxed:
    folder = tmp_path_factory.mktemp("boxed")
    train = copied(tiny.train, folder / "train")
    transform = Preprocessing.from_config(image_size_px=SIZE_PX, resize="box", box_margin=0.1)
    (train.payload / "transform.json").write_text(transform.to_json())
    changed = replace(tiny, manifest=with_boxes(tiny.manifest, folder / "table"), train=train)
    ports = fake_ports(folder)
    with pytest.MonkeyPatch.context() as patch:
        # The pages say nothing of boxes, and would take most of the time.
        patch.setattr(evaluate, "render_report", lambda *_, **__: "")
        run_evaluate(changed, folder / "first")
        run_package(changed, folder / "first", folder / "package")
        baseline = register_champion(folder / "package" / "payload", ports)
        evaluation = run_evaluate(changed, folder / "second", baseline=baseline, ports=ports)
    return Boxed(changed, evaluation, folder / "package" / "payload")


def test_the_figures_are_those_of_what_the_boxes_hold(boxed: Boxed) -> None:
    table = read_table(boxed.tiny.manifest.payload)
    rows = table[table["split"] == "test"].reset_index(drop=True)
    predictor = Predictor.load(boxed.packaged)
    contents = [(boxed.tiny.raw / path).read_bytes() for path in rows["path"]]

    inside = predictor.predict(contents, boxes=boxes_of(rows))
    whole = predictor.predict(contents)

    pairs = list(zip(inside, rows["label"], strict=True))
    right = sum(answer.label == label for answer, label in pairs) / len(rows)
    assert boxed.evaluation.candidate.top1.value == pytest.approx(right)
    assert [answer.label for answer in inside] != [answer.label for answer in whole]


def test_the_champion_is_shown_the_boxes_too(boxed: Boxed) -> None:
    comparison = boxed.evaluation.comparison

    assert comparison is not None
    assert comparison.champion.log_loss.value == boxed.evaluation.candidate.log_loss.value
    assert comparison.top1.value == 0


def test_the_probe_carries_its_boxes_and_the_bundle_is_held_to_them(boxed: Boxed) -> None:
    images = Probe.load(boxed.packaged / PROBE_FILE).images

    table = read_table(boxed.tiny.manifest.payload)
    boxes = dict(zip(table["sha256"], boxes_of(table), strict=True))
    assert [image.box for image in images] == [
        None if boxes[image.sha256] is None else str(boxes[image.sha256]) for image in images
    ]
    assert None in {image.box for image in images}
    assert len({image.box for image in images}) > 2
    check_probe(Predictor.load(boxed.packaged), boxed.packaged)


def test_a_model_of_boxes_says_so_and_what_happens_without_one(boxed: Boxed, done: Done) -> None:
    card = (boxed.packaged / "README.md").read_text()

    assert "- **Box:** trained on what each image's box holds." in card
    assert "Without a box the whole image is taken" in card
    assert "**Box:**" not in (done.packaged / "README.md").read_text()
    for folder, uses_box in ((boxed.packaged, True), (done.packaged, False)):
        predictor = Predictor.load(folder)
        assert card_of(open_bundle(folder), uses_box=predictor.uses_box).uses_box == uses_box
