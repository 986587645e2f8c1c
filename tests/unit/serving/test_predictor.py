import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from fgpipe.errors import ConfigError, DataError, NotReadyError
from fgpipe.images.files import read_image
from fgpipe.nn.openvino_cpu import openvino, ov_hint
from fgpipe.serving.predictor import (
    Precision,
    Predictor,
    choose_precision,
    resolve_precision,
)
from tests.support.synthetic import LABELS, draw, encoded
from tests.support.tiny_model import Tiny, copied, tiny_embedding

SUPPORTED: tuple[Precision, ...] = (
    ("f32",) if resolve_precision("auto") == "f32" else ("f32", "bf16")
)


@pytest.fixture(scope="module")
def predictor(tiny: Tiny) -> Predictor:
    return Predictor.load(tiny.train.payload, precision="f32")


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.stack([draw(LABELS[n % 4], group=n, index=n) for n in range(40)])


def test_embedding_is_what_numpy_computes(predictor: Predictor, pixels: np.ndarray) -> None:
    outputs = predictor.outputs(pixels)

    assert outputs.embedding.dtype == outputs.logits.dtype == np.float32
    np.testing.assert_allclose(outputs.embedding, tiny_embedding(pixels), atol=1e-6)


def test_logits_are_those_of_the_reference_implementation(
    tiny: Tiny, predictor: Predictor, pixels: np.ndarray
) -> None:
    reference = ReferenceEvaluator(onnx.load(tiny.train.payload / "model.onnx"))

    expected, _ = reference.run(["logits", "embedding"], {"images": pixels})

    np.testing.assert_allclose(predictor.logits(pixels), expected, atol=1e-4)


@pytest.mark.parametrize("precision", SUPPORTED)
def test_an_image_gets_the_same_bytes_in_any_company(
    tiny: Tiny, pixels: np.ndarray, precision: Precision
) -> None:
    predictor = Predictor.load(tiny.train.payload, precision=precision)

    together = predictor.logits(pixels)

    for size in (1, 3, 32):
        parts = [predictor.logits(pixels[n : n + size]) for n in range(0, len(pixels), size)]
        np.testing.assert_array_equal(np.concatenate(parts), together)
    order = np.random.default_rng(0).permutation(len(pixels))
    np.testing.assert_array_equal(predictor.logits(pixels[order]), together[order])


@pytest.mark.parametrize("precision", SUPPORTED)
def test_the_graph_runs_at_the_precision_asked_for(tiny: Tiny, precision: Precision) -> None:
    predictor = Predictor.load(tiny.train.payload, precision=precision)

    used = predictor._compiled.get_property(ov_hint.inference_precision())

    assert used.to_string() == {"f32": "f32", "bf16": "bf16"}[precision]


def test_a_result_is_not_overwritten_by_the_next_batch(
    predictor: Predictor, pixels: np.ndarray
) -> None:
    first = predictor.outputs(pixels[:2])
    kept = first.logits.copy(), first.embedding.copy()

    predictor.outputs(pixels[2:4])

    np.testing.assert_array_equal(first.logits, kept[0])
    np.testing.assert_array_equal(first.embedding, kept[1])


def test_threads_that_share_a_predictor_get_their_own_answers(
    predictor: Predictor, pixels: np.ndarray
) -> None:
    expected = predictor.logits(pixels)

    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda n: predictor.logits(pixels[n : n + 1])[0], range(40)))

    np.testing.assert_array_equal(np.stack(rows), expected)


def test_probabilities_are_a_softmax_of_logits_over_the_temperature(predictor: Predictor) -> None:
    logits = np.array([[1.0, -2.0, 0.5, 3.0], [80.0, 0.0, 0.0, -80.0]], dtype=np.float32)

    probabilities = predictor.with_temperature(2.5).probabilities(logits)

    for row, found in zip(logits.tolist(), probabilities, strict=True):
        powers = [math.exp(value / 2.5) for value in row]
        assert found.tolist() == pytest.approx([power / sum(powers) for power in powers])
    assert probabilities.sum(axis=1).tolist() == pytest.approx([1, 1], abs=1e-12)


def test_an_answer_ranks_every_label_and_sums_its_parents(predictor: Predictor) -> None:
    content = encoded("PNG")

    [answer] = predictor.predict([content])

    batch = predictor.preprocess(read_image(content))[None]
    [row] = predictor.probabilities(predictor.logits(batch)).tolist()
    chances = dict(zip(LABELS, row, strict=True))
    assert dict(answer.alternatives) == chances
    values = [probability for _, probability in answer.alternatives]
    assert values == sorted(values, reverse=True)
    assert (answer.label, answer.probability) == answer.alternatives[0]
    assert answer.parent is not None
    of_parent = [chance for label, chance in chances.items() if label.startswith(answer.parent)]
    assert answer.parent_probability == pytest.approx(sum(of_parent))
    assert answer.parent_probability >= 0.5


def test_the_parent_is_the_likeliest_one_even_if_the_label_is_of_another(
    predictor: Predictor,
) -> None:
    logits = np.log(np.array([[0.4, 0.0001, 0.3, 0.3]], dtype=np.float32))

    [answer] = predictor.predictions(logits)

    assert (answer.label, answer.parent) == ("amber_disc", "blue")


def test_equal_probabilities_are_ranked_in_the_labels_order(predictor: Predictor) -> None:
    [answer] = predictor.predictions(np.zeros((1, 4), dtype=np.float32))

    assert [label for label, _ in answer.alternatives] == list(LABELS)


def test_labels_without_parents_are_answered_without_one(tiny: Tiny, tmp_path: Path) -> None:
    train = copied(tiny.train, tmp_path / "train")
    (train.payload / "labels.json").write_text('{"labels": ["a", "b", "c", "d"], "parents": {}}')

    [answer] = Predictor.load(train.payload, precision="f32").predict([encoded()])

    assert answer.parent is None
    assert answer.parent_probability is None


def test_no_images_are_no_answers(predictor: Predictor) -> None:
    assert predictor.predict([]) == []


def test_bytes_that_are_no_image_are_refused_under_their_name(predictor: Predictor) -> None:
    with pytest.raises(DataError, match=r"upload\.png"):
        predictor.prepare(b"these are words", name="upload.png")


@pytest.mark.parametrize("name", ["model.onnx", "labels.json", "transform.json"])
@pytest.mark.parametrize("flaw", ["missing", "junk"])
def test_a_missing_or_broken_file_is_named(
    tiny: Tiny, tmp_path: Path, name: str, flaw: str
) -> None:
    folder = copied(tiny.train, tmp_path / "train").payload
    (folder / name).unlink()
    if flaw == "junk":
        (folder / name).write_bytes(b"junk")

    with pytest.raises(NotReadyError, match=name):
        Predictor.load(folder, precision="f32")


def test_a_folder_that_is_no_bundle_needs_a_precision(tiny: Tiny) -> None:
    with pytest.raises(NotReadyError, match="precision"):
        Predictor.load(tiny.train.payload)


@pytest.mark.parametrize(
    ("requested", "capabilities", "chosen"),
    [
        ("auto", ["FP32", "BF16"], "bf16"),
        ("auto", ["FP32", "INT8"], "f32"),
        ("f32", ["FP32", "BF16"], "f32"),
        ("bf16", ["FP32", "BF16"], "bf16"),
    ],
)
def test_auto_is_bf16_only_where_the_cpu_computes_in_it(
    requested: str, capabilities: list[str], chosen: str
) -> None:
    assert choose_precision(requested, capabilities=capabilities) == chosen


def test_bf16_on_a_cpu_without_it_is_refused_with_the_way_out() -> None:
    with pytest.raises(ConfigError, match=r"evaluate\.precision to f32"):
        choose_precision("bf16", capabilities=["FP32"])


def test_the_runtime_reports_to_nobody() -> None:
    telemetry = openvino.tools.ovc.telemetry

    assert type(telemetry).__module__ == "openvino.tools.ovc.telemetry_stub"
    assert sys.modules["openvino_telemetry"] is None


@pytest.mark.integration
def test_another_process_with_other_threads_gives_the_same_bytes(
    tiny: Tiny, pixels: np.ndarray, tmp_path: Path
) -> None:
    np.save(tmp_path / "pixels.npy", pixels)
    script = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from fgpipe.serving.predictor import Predictor\n"
        "p = Predictor.load(Path(sys.argv[1]), precision=sys.argv[2], threads=1)\n"
        "sys.stdout.buffer.write(p.logits(np.load(sys.argv[3])).tobytes())\n"
    )
    for precision in SUPPORTED:
        here = Predictor.load(tiny.train.payload, precision=precision, threads=2).logits(pixels)

        there = subprocess.run(
            [
                sys.executable,
                "-c",
                script,
                str(tiny.train.payload),
                precision,
                str(tmp_path / "pixels.npy"),
            ],
            check=True,
            capture_output=True,
        ).stdout

        assert there == here.tobytes()


@pytest.mark.parametrize(
    ("views", "changes"),
    [
        ("mirror", [lambda image: image, np.fliplr]),
        ("flips", [lambda image: image, np.fliplr, np.flipud, lambda image: np.rot90(image, 2)]),
        (
            "square",
            [
                lambda image, n=n, flip=flip: np.rot90(np.fliplr(image) if flip else image, n)
                for n in range(4)
                for flip in (False, True)
            ],
        ),
    ],
)
def test_outputs_are_the_means_over_views_of_each_image_alone(
    tiny: Tiny, predictor: Predictor, pixels: np.ndarray, views: str, changes: list
) -> None:
    several = Predictor.load(tiny.train.payload, precision="f32", views=views)

    outputs = several.outputs(pixels[:6])

    for image, logits, embedding in zip(pixels[:6], *outputs, strict=True):
        each = [predictor.outputs(np.ascontiguousarray(change(image))[None]) for change in changes]
        expected = [np.mean(values, axis=0)[0] for values in zip(*each, strict=True)]
        np.testing.assert_allclose(logits, expected[0], atol=1e-5)
        np.testing.assert_allclose(embedding, expected[1], atol=1e-5)
    assert several.with_temperature(2.0).views == views
