import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from fgpipe.errors import NotReadyError, ParityError
from fgpipe.records import digest_of_files, file_sha256
from fgpipe.serving.bundle import Probe, check_probe, open_bundle
from fgpipe.serving.predictor import Predictor
from tests.support.ports import fake_ports
from tests.support.synthetic import LABELS
from tests.support.tiny_model import (
    EVALUATE,
    Done,
    Tiny,
    copied,
    register_champion,
    run_evaluate,
    run_package,
)


def test_the_bundle_holds_what_serving_needs_and_the_record_names_it(
    done: Done,
) -> None:
    record, folder = done.bundle, done.packaged

    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}

    assert {name for name in files if not name.startswith("probe/")} == {
        "bundle.json",
        "model.onnx",
        "model.safetensors",
        "recogniser.json",
        "labels.json",
        "transform.json",
        "calibration.json",
        "seen.csv",
        "probe.json",
        "profile.json",
        "README.md",
    }
    assert record.files == {name: file_sha256(folder / name) for name in files}
    assert record.bundle_sha256 == digest_of_files(record.files)
    assert record.bundle_sha256 == open_bundle(folder).bundle_sha256
    assert record.n_bytes == sum((folder / name).stat().st_size for name in files)


def test_a_bundle_answers_alone_and_elsewhere_as_evaluation_did(
    tiny: Tiny, done: Done, tmp_path: Path
) -> None:
    folder = shutil.copytree(done.packaged, tmp_path / "elsewhere")
    expected = Probe.load(done.evaluated / "candidate" / "probe.json").images

    predictor = Predictor.load(folder)
    answers = predictor.predict([(tiny.raw / image.file).read_bytes() for image in expected])

    check_probe(predictor, folder)
    for answer, image in zip(answers, expected, strict=True):
        chances = dict(answer.alternatives)
        assert [chances[label] for label in LABELS] == pytest.approx(
            list(image.probabilities), abs=1e-6
        )


def test_a_bundle_looks_at_an_image_in_as_many_ways_as_it_was_evaluated_with(
    tiny: Tiny, done: Done, tmp_path: Path
) -> None:
    config = EVALUATE.model_copy(update={"views": "square"})

    evaluation = run_evaluate(tiny, tmp_path / "evaluate", config=config)
    run_package(tiny, tmp_path / "evaluate", tmp_path / "package")

    assert evaluation.candidate.log_loss != done.evaluation.candidate.log_loss
    predictor = Predictor.load(tmp_path / "package" / "payload")
    assert predictor.views == "square"
    check_probe(predictor, tmp_path / "package" / "payload")
    assert "several views" in (tmp_path / "package" / "payload" / "README.md").read_text()


def test_the_probes_images_are_the_real_ones(tiny: Tiny, done: Done) -> None:
    folder = done.packaged
    originals = {file_sha256(path) for path in (tiny.raw / "images").iterdir()}

    images = Probe.load(folder / "probe.json").images

    assert len(images) == 8
    for image in images:
        assert file_sha256(folder / image.file) == image.sha256
        assert image.sha256 in originals


def test_the_same_model_is_the_same_bundle_whoever_is_champion(
    tiny: Tiny, done: Done, worse: Done, tmp_path: Path
) -> None:
    ports = fake_ports(tmp_path)
    baseline = register_champion(worse.packaged, ports)
    run_evaluate(tiny, tmp_path / "evaluate", baseline=baseline, ports=ports)

    bundle = run_package(tiny, tmp_path / "evaluate", tmp_path / "package")

    assert bundle == done.bundle


def test_the_card_tells_a_person_what_this_is_and_holds_no_verdict(done: Done) -> None:
    card = (done.packaged / "README.md").read_text()

    calibration = json.loads((done.evaluated / "candidate" / "calibration.json").read_text())
    top1 = calibration["scores"]["top1"]
    row = f"{top1['value']:.3f} | {top1['low']:.3f} to {top1['high']:.3f} |"
    assert f"| top-1 accuracy | {row}" in card
    assert card.startswith("# tiny\n\nTells marks apart.\n")
    assert "CC0-1.0" in card
    for label in LABELS:
        assert f"| {label} | {label.split('_')[0]} |" in card
    assert "90 % intervals" in card
    for word in ("champion", "passed", "rejected", "promote"):
        assert word not in card.lower()


def test_the_description_names_precision_and_runtime_evaluated_with(tiny: Tiny, done: Done) -> None:
    description = open_bundle(done.packaged)

    assert description.precision == "f32"
    assert description.runtime.startswith("openvino 2")
    assert description.train_sha256 == tiny.train.record.sha256()
    assert (description.name, description.license) == ("tiny", "CC0-1.0")
    assert description.labels == LABELS
    assert description.protocol == "stable"


def test_an_evaluation_of_another_model_is_refused(tiny: Tiny, done: Done, tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="another model"):
        run_package(tiny, done.evaluated, tmp_path / "out", train=tiny.worse)


def test_a_graph_that_gives_other_numbers_than_were_evaluated_is_not_packaged(
    tiny: Tiny, done: Done, tmp_path: Path
) -> None:
    train = copied(tiny.train, tmp_path / "train")
    shutil.copyfile(tiny.worse.payload / "model.onnx", train.payload / "model.onnx")

    with pytest.raises(ParityError, match="differs by"):
        run_package(tiny, done.evaluated, tmp_path / "out", train=train)


@pytest.mark.parametrize("flaw", ["missing", "changed"])
def test_a_probe_image_that_is_not_what_it_was_is_named(
    tiny: Tiny, done: Done, tmp_path: Path, flaw: str
) -> None:
    raw = shutil.copytree(tiny.raw, tmp_path / "raw")
    path = Probe.load(done.evaluated / "candidate" / "probe.json").images[0].file
    content = (raw / path).read_bytes()
    (raw / path).unlink()
    if flaw == "changed":
        (raw / path).write_bytes(content + b" ")

    with pytest.raises(NotReadyError, match=path):
        run_package(replace(tiny, raw=raw), done.evaluated, tmp_path / "out")
