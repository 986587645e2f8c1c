import csv
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import numpy_helper

from fgpipe.errors import DataError, NotReadyError
from fgpipe.images.table import read_table
from fgpipe.metrics.calibration import log_loss, softmax
from fgpipe.metrics.headline import headline
from fgpipe.operations.planning import looks_of_evaluation
from fgpipe.records import Manifest, Stored, file_sha256
from fgpipe.serving.bundle import Calibration, Probe
from fgpipe.serving.inference import logits_of_files
from fgpipe.serving.predictor import Outputs, Predictor
from fgpipe.stages import evaluate as evaluate_stage
from tests.support.ports import fake_ports
from tests.support.synthetic import LABELS, parent_of
from tests.support.tiny_model import (
    EVALUATE,
    Done,
    Tiny,
    copied,
    make_tiny,
    register_champion,
    resealed,
    run_evaluate,
)


@pytest.fixture(scope="module")
def against(tiny: Tiny, worse: Done, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The better model with the worse one as champion; it is not packaged."""
    folder = tmp_path_factory.mktemp("against")
    ports = fake_ports(folder)
    baseline = register_champion(worse.packaged, ports)
    evaluation = run_evaluate(tiny, folder / "evaluate", baseline=baseline, ports=ports)
    return replace(worse, evaluation=evaluation, evaluated=folder / "evaluate", ports=ports)


def predictions(done: Done) -> list[dict[str, str]]:
    """What ``predictions.csv`` says."""
    with (done.evaluated / "payload" / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def rows_of(tiny: Tiny, split: str) -> pd.DataFrame:
    table = read_table(tiny.manifest.payload)
    return table[table["split"] == split].reset_index(drop=True)


def test_every_test_image_has_a_row_with_probabilities_that_sum_to_1(
    tiny: Tiny, done: Done
) -> None:
    assert [row["path"] for row in predictions(done)] == rows_of(tiny, "test")["path"].tolist()
    for row in predictions(done):
        chances = {label: float(row[f"probability_{label}"]) for label in LABELS}
        assert sum(chances.values()) == pytest.approx(1, abs=3e-6)
        assert row["predicted"] == max(chances, key=chances.__getitem__)
        assert row["parent"] == parent_of(row["label"])


def test_the_figures_are_those_of_the_predictions(done: Done) -> None:
    scores, rows = done.evaluation.candidate, predictions(done)
    n = len(rows)

    top1 = sum(row["predicted"] == row["label"] for row in rows) / n
    recalls, coarse, surprise = [], 0, 0.0
    for entry, label in zip(scores.per_class, LABELS, strict=True):
        of_label = [row for row in rows if row["label"] == label]
        given = [row for row in rows if row["predicted"] == label]
        right = sum(row["predicted"] == label for row in of_label)
        recalls.append(right / len(of_label))
        assert entry.n_images == len(of_label)
        assert entry.recall == pytest.approx(right / len(of_label))
        assert entry.precision == pytest.approx(right / len(given) if given else 0)
    for row in rows:
        amber = sum(float(row[f"probability_{label}"]) for label in LABELS if "amber" in label)
        answer = "amber" if amber > 0.5 else "blue"
        assert row["predicted_parent"] == answer
        coarse += answer == row["parent"]
        surprise -= math.log(float(row[f"probability_{row['label']}"])) / n
    bins: dict[int, list[tuple[float, bool]]] = {}
    for row in rows:
        confidence = max(float(row[f"probability_{label}"]) for label in LABELS)
        index = math.ceil(confidence * EVALUATE.n_bins)
        bins.setdefault(index, []).append((confidence, row["predicted"] == row["label"]))
    gaps = [
        abs(sum(c for c, _ in entries) - sum(r for _, r in entries)) for entries in bins.values()
    ]

    assert 0.5 < top1 < 1, "a world in which all or nothing is right tests little"
    assert scores.top1.value == pytest.approx(top1)
    assert scores.macro_recall.value == pytest.approx(sum(recalls) / 4)
    assert scores.coarse_accuracy is not None
    assert scores.coarse_accuracy.value == pytest.approx(coarse / n)
    assert scores.log_loss.value == pytest.approx(surprise, abs=1e-5)
    assert scores.calibration_error.value == pytest.approx(sum(gaps) / n, abs=1e-5)


def test_the_intervals_resample_the_manifests_groups(tiny: Tiny, done: Done) -> None:
    rows = rows_of(tiny, "test")
    names = sorted(set(rows["group"]))
    probabilities = np.array(
        [[float(row[f"probability_{label}"]) for label in LABELS] for row in predictions(done)]
    )

    expected = headline(
        probabilities,
        rows["target"].to_numpy(),
        np.array([names.index(group) for group in rows["group"]]),
        np.array([0, 0, 1, 1]),
        n_bins=EVALUATE.n_bins,
        n_bootstrap=EVALUATE.n_bootstrap,
        confidence_level=EVALUATE.confidence_level,
        seed=EVALUATE.seed,
    )

    assert done.evaluation.candidate.n_groups == len(names)
    assert done.evaluation.candidate.top1 == expected.top1
    assert done.evaluation.candidate.macro_recall == expected.macro_recall
    assert expected.top1.low < expected.top1.high


def test_slices_hold_the_images_with_their_attribute(tiny: Tiny, done: Done) -> None:
    rows = rows_of(tiny, "test")

    for entry in done.evaluation.candidate.slices:
        inside = [
            row
            for row, light in zip(predictions(done), rows["attribute_light"], strict=True)
            if light == entry.value
        ]
        assert entry.attribute == "light"
        assert entry.n_images == len(inside)
        right = sum(row["predicted"] == row["label"] for row in inside)
        assert entry.top1.value == pytest.approx(right / len(inside))
    assert {entry.value for entry in done.evaluation.candidate.slices} == {"day", "night"}


def test_the_confusion_matrix_counts_the_predictions(done: Done) -> None:
    with (done.evaluated / "payload" / "confusion.csv").open(newline="") as file:
        pairs = [(row["actual"], row["predicted"]) for row in csv.DictReader(file)]

    assert pairs == [(row["label"], row["predicted"]) for row in predictions(done)]
    for actual, counts in zip(LABELS, done.evaluation.confusion, strict=True):
        assert counts == tuple(pairs.count((actual, given)) for given in LABELS)


def test_the_reliability_table_covers_every_image(done: Done) -> None:
    table = pd.read_csv(done.evaluated / "payload" / "reliability.csv")

    assert table["n_images"].sum() == len(predictions(done))
    right = (table["n_images"] * table["accuracy"]).sum() / len(predictions(done))
    assert right == pytest.approx(done.evaluation.candidate.top1.value, abs=1e-5)


def test_no_other_temperature_suits_the_calibration_split_better(tiny: Tiny, done: Done) -> None:
    rows = rows_of(tiny, "calibration")
    predictor = Predictor.load(tiny.train.payload, precision="f32")
    logits = logits_of_files(predictor, rows["path"].tolist(), folder=tiny.raw, description="test")

    def loss(temperature: float) -> float:
        return log_loss(softmax(logits, temperature=temperature), rows["target"].to_numpy())

    best = done.evaluation.temperature
    assert all(loss(best) <= loss(factor * best) for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2))
    assert best != pytest.approx(1, abs=0.01)


def test_probabilities_are_at_the_fitted_temperature(tiny: Tiny, done: Done) -> None:
    predictor = Predictor.load(tiny.train.payload, precision="f32")
    row = predictions(done)[0]

    [answer] = predictor.with_temperature(done.evaluation.temperature).predict(
        [(tiny.raw / row["path"]).read_bytes()]
    )

    for label, probability in answer.alternatives:
        assert float(row[f"probability_{label}"]) == pytest.approx(probability, abs=6e-7)


def test_the_candidates_part_tells_how_it_was_evaluated(tiny: Tiny, done: Done) -> None:
    calibration = Calibration.load(done.evaluated / "candidate" / "calibration.json")

    assert calibration.train_sha256 == tiny.train.record.sha256()
    assert calibration.temperature == done.evaluation.temperature
    assert calibration.precision == done.evaluation.precision == "f32"
    assert calibration.runtime.startswith("openvino 2")
    assert calibration.n_calibration_images == len(rows_of(tiny, "calibration"))
    assert calibration.scores == done.evaluation.candidate.headline


def test_the_probe_is_of_test_images_of_every_class_with_their_predictions(
    tiny: Tiny, done: Done
) -> None:
    probe = Probe.load(done.evaluated / "candidate" / "probe.json")

    by_path = {row["path"]: row for row in predictions(done)}
    assert len(probe.images) == 8
    assert {by_path[image.file]["label"] for image in probe.images} == set(LABELS)
    for image in probe.images:
        assert image.sha256 == file_sha256(tiny.raw / image.file)
        written = [float(by_path[image.file][f"probability_{label}"]) for label in LABELS]
        assert list(image.probabilities) == pytest.approx(written, abs=1e-6)


def test_the_tracker_is_told_once_all_is_written(done: Done) -> None:
    [(evaluation, payload)] = done.ports.tracker.evaluations

    assert evaluation == done.evaluation
    assert {path.name for path in payload.iterdir()} == {
        "report.html",
        "predictions.csv",
        "confusion.csv",
        "reliability.csv",
    }


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_the_same_input_gives_the_same_bytes(
    tiny: Tiny, worse: Done, against: Done, tmp_path: Path
) -> None:
    ports = fake_ports(tmp_path)
    baseline = register_champion(worse.packaged, ports)

    evaluation = run_evaluate(tiny, tmp_path / "out", baseline=baseline, ports=ports)

    assert evaluation.to_json() == against.evaluation.to_json()
    assert contents(tmp_path / "out") == contents(against.evaluated)


def test_a_champion_changes_nothing_in_the_candidates_part(done: Done, against: Done) -> None:
    assert contents(done.evaluated / "candidate") == contents(against.evaluated / "candidate")
    assert done.evaluation.candidate == against.evaluation.candidate


def test_the_champion_is_scored_from_its_bundle_on_the_same_images(
    tiny: Tiny, worse: Done, against: Done
) -> None:
    champion = Predictor.load(worse.packaged)
    answers = champion.predict(
        [(tiny.raw / row["path"]).read_bytes() for row in predictions(against)]
    )

    comparison = against.evaluation.comparison

    assert comparison is not None
    assert (comparison.version, comparison.n_groups_left_out) == (1, 0)
    assert comparison.champion.train_sha256 == tiny.worse.record.sha256()
    assert comparison.n_images == len(predictions(against))
    labels = [row["label"] for row in predictions(against)]
    right = [answer.label == label for answer, label in zip(answers, labels, strict=True)]
    assert comparison.champion.top1.value == pytest.approx(sum(right) / len(right))
    coarse = [
        answer.parent == parent_of(label) for answer, label in zip(answers, labels, strict=True)
    ]
    assert comparison.champion.coarse_accuracy is not None
    assert comparison.champion.coarse_accuracy.value == pytest.approx(sum(coarse) / len(coarse))
    candidate = against.evaluation.candidate
    assert comparison.top1.value == pytest.approx(candidate.top1.value - sum(right) / len(right))
    assert comparison.top1.value > 0


def champion_that_saw(worse: Done, folder: Path, *, hashes: list[str], groups: list[str]) -> Path:
    """A champion whose list of seen images has these besides its own."""

    def change(bundle: Path) -> None:
        more = pd.DataFrame({"sha256": hashes, "group": groups, "split": "train"})
        seen = pd.concat([pd.read_csv(bundle / "seen.csv"), more])
        seen.to_csv(bundle / "seen.csv", index=False)

    return resealed(worse.packaged, folder, change=change)


def test_groups_that_a_model_has_seen_are_left_out_of_the_comparison(
    tiny: Tiny, done: Done, worse: Done, tmp_path: Path
) -> None:
    rows = rows_of(tiny, "test")
    by_name, by_hash = sorted(set(rows["group"]))[:2]
    image = rows[rows["group"] == by_hash]["sha256"].iloc[0]
    ports = fake_ports(tmp_path)
    champion = champion_that_saw(
        worse, tmp_path / "bundle", hashes=["f" * 64, image], groups=[by_name, "another"]
    )

    evaluation = run_evaluate(
        tiny, tmp_path / "out", baseline=register_champion(champion, ports), ports=ports
    )

    comparison = evaluation.comparison
    kept = ~rows["group"].isin([by_name, by_hash])
    assert comparison is not None
    assert comparison.n_groups_left_out == 2
    assert comparison.n_groups == rows["group"].nunique() - 2
    assert comparison.n_images == comparison.champion.n_images == kept.sum()
    right = [row["predicted"] == row["label"] for row in predictions(done)]
    candidate = np.mean(np.array(right)[kept])
    assert comparison.top1.value == pytest.approx(candidate - comparison.champion.top1.value)
    assert evaluation.candidate == done.evaluation.candidate


def test_what_the_candidate_has_seen_is_left_out_too(
    tiny: Tiny, worse: Done, tmp_path: Path
) -> None:
    group = rows_of(tiny, "test")["group"].iloc[0]
    train = copied(tiny.train, tmp_path / "train")
    with (train.payload / "seen.csv").open("a") as file:
        file.write(f"{'f' * 64},{group},train\n")
    ports = fake_ports(tmp_path)
    baseline = register_champion(worse.packaged, ports)

    evaluation = run_evaluate(tiny, tmp_path / "out", train=train, baseline=baseline, ports=ports)

    assert evaluation.comparison is not None
    assert evaluation.comparison.n_groups_left_out == 1


def test_with_one_unseen_group_left_nothing_is_compared_and_the_note_says_why(
    tiny: Tiny, worse: Done, tmp_path: Path
) -> None:
    groups = sorted(set(rows_of(tiny, "test")["group"]))
    ports = fake_ports(tmp_path)
    champion = champion_that_saw(
        worse, tmp_path / "bundle", hashes=["f" * 64] * (len(groups) - 1), groups=groups[1:]
    )

    evaluation = run_evaluate(
        tiny, tmp_path / "out", baseline=register_champion(champion, ports), ports=ports
    )

    assert evaluation.comparison is None
    assert evaluation.comparison_note is not None
    assert f"has seen {len(groups) - 1} of the {len(groups)} test groups" in (
        evaluation.comparison_note
    )


def reordered(worse: Done, folder: Path, *, names: list[str], order: list[int]) -> Path:
    """The champion's bundle with its classes in another order and under these names."""

    def change(bundle: Path) -> None:
        model = onnx.load(bundle / "model.onnx")
        for constant in model.graph.initializer:
            if constant.name in {"weights", "bias"}:
                value = numpy_helper.to_array(constant)[..., order]
                constant.CopyFrom(numpy_helper.from_array(value.copy(), constant.name))
        (bundle / "model.onnx").write_bytes(model.SerializeToString())
        (bundle / "labels.json").write_text(json.dumps({"labels": names, "parents": {}}))

    return resealed(worse.packaged, folder, change=change, labels=tuple(names), parents={})


def test_a_champion_with_its_labels_in_another_order_is_compared_label_by_label(
    tiny: Tiny, worse: Done, against: Done, tmp_path: Path
) -> None:
    order = [2, 0, 3, 1]
    ports = fake_ports(tmp_path)
    champion = reordered(
        worse, tmp_path / "bundle", names=[LABELS[index] for index in order], order=order
    )

    evaluation = run_evaluate(
        tiny, tmp_path / "out", baseline=register_champion(champion, ports), ports=ports
    )

    assert evaluation.comparison is not None
    assert against.evaluation.comparison is not None
    assert evaluation.comparison.champion == against.evaluation.comparison.champion
    assert evaluation.comparison.top1 == against.evaluation.comparison.top1


def test_a_champion_that_knows_other_labels_is_not_compared_and_the_note_names_them(
    tiny: Tiny, worse: Done, tmp_path: Path
) -> None:
    names = [*LABELS[:3], "green_disc"]
    ports = fake_ports(tmp_path)
    champion = reordered(worse, tmp_path / "bundle", names=names, order=[0, 1, 2, 3])

    evaluation = run_evaluate(
        tiny, tmp_path / "out", baseline=register_champion(champion, ports), ports=ports
    )

    assert evaluation.comparison is None
    assert evaluation.comparison_note is not None
    assert "green_disc" in evaluation.comparison_note


def test_without_a_champion_there_is_neither_comparison_nor_note(done: Done) -> None:
    assert done.evaluation.comparison is None
    assert done.evaluation.comparison_note is None


def test_a_random_split_is_evaluated_but_not_compared_on_groups_that_were_seen(
    world: Path, worse: Done, tmp_path: Path
) -> None:
    random = make_tiny(world, tmp_path / "random", protocol="random")
    ports = fake_ports(tmp_path)
    baseline = register_champion(worse.packaged, ports)

    evaluation = run_evaluate(random, tmp_path / "out", baseline=baseline, ports=ports)

    rows = rows_of(random, "test")
    seen = pd.read_csv(random.train.payload / "seen.csv")["group"]
    assert rows["group"].isin(seen).any(), "otherwise nothing is shared"
    assert evaluation.protocol == "random"
    assert evaluation.candidate.n_groups == rows["group"].nunique()
    comparison = evaluation.comparison
    if comparison is None:
        assert "has seen" in str(evaluation.comparison_note)
    else:
        assert comparison.n_groups <= rows[~rows["group"].isin(seen)]["group"].nunique()


def test_a_model_of_another_manifest_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    other = tiny.manifest.record.model_copy(update={"table_sha256": "0" * 64})
    stored: Stored[Manifest] = Stored(record=other, payload=tiny.manifest.payload)

    with pytest.raises(NotReadyError, match="another manifest"):
        run_evaluate(replace(tiny, manifest=stored), tmp_path / "out")


def test_an_image_that_does_not_decode_is_named(tiny: Tiny, tmp_path: Path) -> None:
    raw = shutil.copytree(tiny.raw, tmp_path / "raw")
    path = rows_of(tiny, "test")["path"].iloc[0]
    (raw / path).unlink()
    (raw / path).write_bytes(b"words")

    with pytest.raises(DataError, match=path):
        run_evaluate(replace(tiny, raw=raw), tmp_path / "out")


def test_how_much_each_class_goes_by_colour_is_told_beside_its_recall(done: Done) -> None:
    color = done.evaluation.color

    assert color is not None
    scores = done.evaluation.candidate.per_class
    assert [(each.label, each.n_images, each.recall) for each in color.per_class] == [
        (each.label, each.n_images, each.recall) for each in scores
    ]
    n_right = sum(each.recall * each.n_images for each in color.per_class)
    n_right_in_grey = sum(each.recall_grey * each.n_images for each in color.per_class)
    n_images = done.evaluation.candidate.n_images
    assert color.grey.value == pytest.approx((n_right_in_grey - n_right) / n_images)


@pytest.fixture(scope="module")
def searchable(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """The worse model, whose embeddings are its logits: some of a class lie together."""
    train = copied(tiny.worse, tmp_path_factory.mktemp("searchable") / "train")
    model = onnx.load(train.payload / "model.onnx")
    logits = next(node for node in model.graph.node if list(node.output) == ["logits"])
    logits.input[0] = "flat"
    next(node for node in model.graph.node if node.op_type == "Flatten").output[0] = "flat"
    model.graph.node.append(onnx.helper.make_node("Identity", ["logits"], ["embedding"]))
    model.graph.output[1].CopyFrom(
        onnx.helper.make_tensor_value_info("embedding", onnx.TensorProto.FLOAT, ["batch", 4])
    )
    (train.payload / "model.onnx").write_bytes(model.SerializeToString())
    return replace(tiny, train=train)


def search_by_loop(tiny: Tiny, rows: pd.DataFrame) -> tuple[list[float], list[float]]:
    """Image by image: whether the nearest is of the class, and average precision at R."""
    predictor = Predictor.load(tiny.train.payload, precision="f32")
    embeddings = []
    for path in rows["path"]:
        prepared = predictor.prepare((tiny.raw / path).read_bytes())
        row = predictor.outputs(prepared[None]).embedding[0].astype(np.float64)
        embeddings.append(row / np.sqrt((row * row).sum()))
    first, precisions = [], []
    for own, label, group in zip(embeddings, rows["label"], rows["group"], strict=True):
        others = [
            (float(own @ other), other_label == label)
            for other, other_label, other_group in zip(
                embeddings, rows["label"], rows["group"], strict=True
            )
            if other_group != group
        ]
        right = [of_class for _, of_class in sorted(others, key=lambda other: -other[0])]
        n_right = sum(right)
        first.append(float(right[0]))
        hits = [sum(right[: rank + 1]) / (rank + 1) for rank in range(n_right) if right[rank]]
        precisions.append(sum(hits) / n_right)
    return first, precisions


def test_search_by_image_is_told_as_a_loop_over_the_embeddings_finds_it(
    searchable: Tiny, tmp_path: Path
) -> None:
    first, precisions = search_by_loop(searchable, rows_of(searchable, "test"))

    retrieval = run_evaluate(searchable, tmp_path / "out").retrieval

    assert retrieval is not None
    assert retrieval.n_images == len(first)
    assert retrieval.recall_at_1.value == pytest.approx(np.mean(first))
    assert retrieval.map_at_r.value == pytest.approx(np.mean(precisions))
    assert retrieval.map_at_r.low < retrieval.map_at_r.value < retrieval.map_at_r.high
    assert 0.3 < retrieval.map_at_r.value < 1, "where all or nothing is found little is tested"


def test_many_test_images_search_a_sample_of_themselves(
    searchable: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate_stage, "MAX_SEARCHED", 16)
    rows = rows_of(searchable, "test")
    chosen = np.sort(np.random.default_rng(EVALUATE.seed).permutation(len(rows))[:16])

    evaluation = run_evaluate(searchable, tmp_path / "out")

    first, _ = search_by_loop(searchable, rows.iloc[chosen])
    assert len(rows) > 16
    assert evaluation.retrieval is not None
    assert evaluation.retrieval.n_images == 16
    assert evaluation.retrieval.recall_at_1.value == pytest.approx(np.mean(first))


def test_a_plan_counts_every_look_of_an_evaluation(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = 0
    infer = Predictor._infer

    def counting(self: Predictor, batch: np.ndarray) -> Outputs:
        nonlocal shown
        shown += len(batch)
        return infer(self, batch)

    monkeypatch.setattr(Predictor, "_infer", counting)
    run_evaluate(tiny, tmp_path / "out", config=EVALUATE.model_copy(update={"views": "flips"}))

    table = read_table(tiny.manifest.payload)
    assert shown == looks_of_evaluation(table, views="flips", is_compared=False)
    n_more = looks_of_evaluation(table, views="flips", is_compared=True) - shown
    assert n_more == 4 * len(rows_of(tiny, "test"))
