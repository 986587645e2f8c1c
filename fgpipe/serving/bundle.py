"""A bundle: a folder that serves with nothing else, and can prove that it is whole.

=======================  =============================================================
file                     what it holds
=======================  =============================================================
``bundle.json``          what the bundle is, and the hash of every other file
``model.onnx``           the graph that serves: uint8 images in, logits and embedding out
``model.safetensors``    the same weights, to train on from
``recogniser.json``      the network the weights belong to
``labels.json``          classes in the order of the logits, and their parents
``transform.json``       from a decoded image to what the graph takes
``calibration.json``     temperature, precision, runtime and the headline figures
``seen.csv``             hash and group of each image it was trained or chosen on
``probe.json``           images in ``probe/`` and the probabilities they must give
``profile.json``         what the data were like, to tell later data's drift by
``README.md``            the model card
=======================  =============================================================

The hash of the bundle is over the names and hashes of these files. Others may lie beside
them, as a model store adds its own; nothing reads them. Nothing here is unpickled.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import ConfigDict, ValidationError

from fgpipe.errors import NotReadyError, ParityError
from fgpipe.images.labels_file import Box
from fgpipe.records import (
    SCHEMA_VERSION,
    Part,
    Protocol,
    Record,
    Score,
    TestTimeViews,
    digest_of_files,
    file_sha256,
)

if TYPE_CHECKING:
    from fgpipe.serving.predictor import Predictor

BUNDLE_FILE = "bundle.json"
CALIBRATION_FILE = "calibration.json"
PROBE_FILE = "probe.json"
PROBE_FOLDER = "probe"
CARD_FILE = "README.md"
FROM_TRAINING = (
    "model.onnx",
    "model.safetensors",
    "recogniser.json",
    "labels.json",
    "transform.json",
    "seen.csv",
)
"""Files that the train stage made."""

PROBE_TOLERANCE: dict[Literal["f32", "bf16"], float] = {"f32": 1e-3, "bf16": 5e-2}
"""How far a probability may be from the probe's. On the CPU model that made the probe it
is the same to the last digit written; another CPU sums in another order."""


class Calibration(Record):
    """How the graph's logits become the probabilities served, and how good they are."""

    train_sha256: str
    """The trained model's record."""
    temperature: float
    """Logits are divided by it."""
    views: TestTimeViews = "one"
    """In how many ways each image is looked at; logits and embeddings are their means."""
    precision: Literal["f32", "bf16"]
    """Precision the graph was evaluated at."""
    runtime: str
    """What ran the graph, with its version."""
    n_calibration_images: int
    """Images the temperature was fitted on."""
    n_test_images: int
    """Images behind the figures."""
    n_test_groups: int
    """Groups behind the intervals."""
    confidence_level: float
    """Share of resamples inside an interval."""
    scores: dict[str, Score]
    """Headline figures on the test split, by name."""


class ProbeImage(Part):
    """One image and what it must give."""

    file: str
    """Path of the image: below ``data/raw`` before it is packaged, then in the bundle."""
    sha256: str
    """Hash of the file."""
    box: str | None = None
    """Where in it the object is (``left top width height``), if the data say so."""
    probabilities: tuple[float, ...]
    """In the order of the labels."""


class Probe(Record):
    """Images with the probabilities that evaluation found."""

    images: tuple[ProbeImage, ...]
    """A few of the test split, of different classes."""


class BundleDescription(Record):
    """What ``bundle.json`` says."""

    name: str
    """What the model is called."""
    description: str
    """What it is for."""
    license: str
    """Licence of the model."""
    train_sha256: str
    """The trained model's record."""
    protocol: Protocol
    """How its images were split."""
    labels: tuple[str, ...]
    """Classes in the order of the logits."""
    parents: dict[str, str]
    """Each class's parent; empty if there are none."""
    image_size_px: int
    """Height and width of what the graph takes."""
    precision: Literal["f32", "bf16"]
    """Precision it was evaluated at, which is the one to serve at."""
    runtime: str
    """What ran it then, with its version."""
    files: dict[str, str]
    """Hash of every file but ``bundle.json``."""

    @property
    def bundle_sha256(self) -> str:
        """Hash over the names and hashes of all files, ``bundle.json`` among them."""
        return digest_of_files({**self.files, BUNDLE_FILE: self.sha256()})


class _Version(Part):
    """The one field that every version of ``bundle.json`` has."""

    model_config = ConfigDict(extra="ignore")

    schema_version: int

    @classmethod
    def read(cls, path: Path) -> "_Version":
        """Read ``path``; no file or none of ours is a NotReadyError."""
        try:
            return cls.model_validate_json(path.read_text())
        except (OSError, ValueError):
            raise NotReadyError(
                f"{path} is not there or not a bundle's; `dvc repro package` makes one"
            ) from None


def seal_bundle(folder: Path, *, facts: Mapping[str, object]) -> BundleDescription:
    """Write ``bundle.json`` over the files that lie in ``folder``.

    Args:
        folder: With every other file of the bundle, and nothing else.
        facts: The fields of :class:`BundleDescription` but ``files``.
    """
    paths = (path for path in folder.rglob("*") if path.is_file())
    files = {path.relative_to(folder).as_posix(): file_sha256(path) for path in paths}
    assert BUNDLE_FILE not in files, folder
    description = BundleDescription.model_validate({**facts, "files": files})
    description.save(folder / BUNDLE_FILE)
    return description


def open_bundle(folder: Path) -> BundleDescription:
    """Check a bundle and say what it is.

    Raises:
        NotReadyError: If ``folder`` is no bundle, one of another schema, or a file is
            missing or has other bytes than when the bundle was made.
    """
    path = folder / BUNDLE_FILE
    version = _Version.read(path).schema_version
    if version != SCHEMA_VERSION:
        raise NotReadyError(
            f"{path} is of schema {version}, this fgpipe reads {SCHEMA_VERSION}; package the "
            "model again with this version, or serve it with the fgpipe that made it"
        )
    try:
        description = BundleDescription.model_validate_json(path.read_text())
    except ValidationError as error:
        raise NotReadyError(
            f"{path} is not a bundle's of schema {SCHEMA_VERSION}: {error.errors()[0]['msg']}"
        ) from None
    damaged = [
        name
        for name, digest in {**description.files, BUNDLE_FILE: description.sha256()}.items()
        if not (folder / name).is_file() or file_sha256(folder / name) != digest
    ]
    if damaged:
        raise NotReadyError(
            f"{folder} is not the bundle that was made: {', '.join(sorted(damaged)[:5])} "
            "is missing or changed; fetch it again from the registry, or `dvc repro package`"
        )
    return description


def check_probe(predictor: "Predictor", folder: Path) -> None:
    """Hold a predictor to what evaluation found for the bundle's probe.

    Args:
        predictor: Loaded from ``folder``.
        folder: The bundle.

    Raises:
        ParityError: If a probability is off by more than :data:`PROBE_TOLERANCE`.
    """
    images = Probe.load(folder / PROBE_FILE).images
    predictions = predictor.predict(
        [(folder / image.file).read_bytes() for image in images],
        boxes=[Box.parse(image.box) if image.box else None for image in images],
    )
    tolerance = PROBE_TOLERANCE[predictor.precision]
    for image, prediction in zip(images, predictions, strict=True):
        given = dict(prediction.alternatives)
        found = [given[label] for label in predictor.labels.names]
        errors = [abs(a - b) for a, b in zip(found, image.probabilities, strict=True)]
        if not all(error <= tolerance for error in errors):
            raise ParityError(
                f"{image.file}: a probability differs by {max(errors):.2g} from what evaluation "
                f"found, allowed at {predictor.precision} is {tolerance:g}; this machine does "
                "not compute what was evaluated"
            )
