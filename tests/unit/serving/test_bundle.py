import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fgpipe.errors import NotReadyError, ParityError
from fgpipe.serving.bundle import (
    Probe,
    check_probe,
    open_bundle,
    seal_bundle,
)
from fgpipe.serving.labels import Labels
from fgpipe.serving.predictor import Prediction, Predictor
from tests.support.tiny_model import Done

FACTS = {
    "name": "tiny",
    "description": "",
    "license": "CC0-1.0",
    "train_sha256": "0" * 64,
    "protocol": "stable",
    "labels": ("a", "b"),
    "parents": {},
    "image_size_px": 64,
    "precision": "f32",
    "runtime": "openvino 1.2.3",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sealed folder of two files; nothing in it is a model."""
    folder = tmp_path / "bundle"
    (folder / "probe").mkdir(parents=True)
    (folder / "labels.json").write_text("{}")
    (folder / "probe" / "one.png").write_bytes(b"pixels")
    seal_bundle(folder, facts=FACTS)
    return folder


@pytest.fixture(scope="module")
def packaged(done: Done) -> Path:
    """A real bundle; not to be changed."""
    return done.packaged


class Blind:
    """A predictor whose network gives no numbers."""

    precision = "f32"

    def __init__(self, labels: Labels) -> None:
        self.labels = labels

    def predict(self, images: list[bytes], *, boxes: object = None) -> list[Prediction]:
        answer = Prediction(
            label="",
            probability=0.0,
            alternatives=tuple((label, float("nan")) for label in self.labels.names),
            parent=None,
            parent_probability=None,
        )
        return [answer for _ in images]


def test_the_hash_is_over_names_and_hashes_of_all_files_sorted_by_name(folder: Path) -> None:
    digest = hashlib.sha256()
    for name in ("bundle.json", "labels.json", "probe/one.png"):
        content = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        digest.update(f"{content}  {name}\n".encode())

    assert open_bundle(folder).bundle_sha256 == digest.hexdigest()


def test_a_bundle_opens_with_what_it_was_sealed_with(folder: Path) -> None:
    description = open_bundle(folder)

    assert description.precision == "f32"
    assert description.labels == ("a", "b")
    assert set(description.files) == {"labels.json", "probe/one.png"}


def test_files_that_a_store_adds_beside_it_change_nothing(folder: Path) -> None:
    before = open_bundle(folder).bundle_sha256

    (folder / "model.yaml").write_text("name: bento\n")

    assert open_bundle(folder).bundle_sha256 == before


def changed(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes() + b" ")


def removed(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def reworded(folder: Path) -> None:
    """A valid description that says something else, written in another form."""
    content = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps(content | {"name": "other"}))


@pytest.mark.parametrize(
    ("tamper", "name"),
    [
        (changed("labels.json"), r"labels\.json"),
        (changed("probe/one.png"), r"probe/one\.png"),
        (removed("probe/one.png"), r"probe/one\.png"),
        (changed("bundle.json"), r"bundle\.json"),
        (reworded, r"bundle\.json"),
    ],
)
def test_a_bundle_with_other_bytes_is_refused_and_the_file_named(
    folder: Path, tamper: Callable[[Path], None], name: str
) -> None:
    tamper(folder)

    with pytest.raises(NotReadyError, match=rf"{name} is missing or changed"):
        open_bundle(folder)


def test_swapping_a_file_and_its_hash_gives_another_bundle(folder: Path) -> None:
    before = open_bundle(folder).bundle_sha256

    (folder / "labels.json").write_text("[]")
    (folder / "bundle.json").unlink()
    seal_bundle(folder, facts=FACTS)

    assert open_bundle(folder).bundle_sha256 != before


@pytest.mark.parametrize("version", [0, 2])
def test_another_schema_is_refused_with_both_numbers(folder: Path, version: int) -> None:
    content = json.loads((folder / "bundle.json").read_text()) | {
        "schema_version": version,
        "a_field_of_that_version": True,
    }
    (folder / "bundle.json").write_text(json.dumps(content))

    with pytest.raises(NotReadyError, match=rf"schema {version}, this fgpipe reads 1"):
        open_bundle(folder)


@pytest.mark.parametrize("text", [None, "junk", "{}", "[1]", '{"schema_version": 1}'])
def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "bundle.json").write_text(text)

    with pytest.raises(NotReadyError, match=r"bundle\.json"):
        open_bundle(tmp_path)


def test_a_real_bundle_gives_its_probe(packaged: Path) -> None:
    predictor = Predictor.load(packaged)

    check_probe(predictor, packaged)

    assert predictor.bundle_sha256 == open_bundle(packaged).bundle_sha256
    assert predictor.temperature != 1


def test_a_predictor_refuses_a_bundle_that_was_tampered_with(
    packaged: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(packaged, tmp_path / "bundle")
    (folder / "calibration.json").write_text(
        (folder / "calibration.json").read_text().replace('"temperature": ', '"temperature": 1')
    )

    with pytest.raises(NotReadyError, match=r"calibration\.json"):
        Predictor.load(folder)


def test_another_temperature_fails_the_probe(packaged: Path) -> None:
    predictor = Predictor.load(packaged)

    with pytest.raises(ParityError, match=r"probe/.* differs by .* allowed at f32 is 0\.001"):
        check_probe(predictor.with_temperature(1.2 * predictor.temperature), packaged)


def with_probability_off_by(difference: float, *, packaged: Path, folder: Path) -> Path:
    """A copy whose probe's last image expects a first probability that is off."""
    probe = Probe.load(packaged / "probe.json")
    last = probe.images[-1]
    predictor = Predictor.load(packaged)
    [answer] = predictor.predict([(packaged / last.file).read_bytes()])
    expected = [dict(answer.alternatives)[label] for label in predictor.labels.names]
    expected[0] += difference
    moved = last.model_copy(update={"probabilities": tuple(expected)})
    shutil.copytree(packaged, folder)
    text = probe.model_copy(update={"images": (*probe.images[:-1], moved)}).to_json()
    (folder / "probe.json").write_text(text)
    return folder


def test_a_probability_within_the_tolerance_passes(packaged: Path, tmp_path: Path) -> None:
    folder = with_probability_off_by(0.9e-3, packaged=packaged, folder=tmp_path / "bundle")

    check_probe(Predictor.load(packaged), folder)


def test_a_probability_beyond_the_tolerance_fails(packaged: Path, tmp_path: Path) -> None:
    folder = with_probability_off_by(1.1e-3, packaged=packaged, folder=tmp_path / "bundle")

    with pytest.raises(ParityError, match=r"differs by 0\.0011"):
        check_probe(Predictor.load(packaged), folder)


def test_a_graph_that_gives_no_numbers_fails(packaged: Path) -> None:
    with pytest.raises(ParityError):
        check_probe(Blind(Labels.load(packaged / "labels.json")), packaged)
