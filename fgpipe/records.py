"""What crosses a stage boundary.

A record says what was made and from what; never when, where or how fast, so that an
unchanged run rewrites it byte for byte. Each is one JSON file, ``record.json``, beside
the stage's ``payload/``, saved last and by one rename: where a record is, its payload is
whole. A headline figure is a :class:`Score`: it never travels without its interval.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from fgpipe.errors import NotReadyError, PipelineError

SCHEMA_VERSION: Final = 1
"""Version of every record and bundle written by this code."""

Split = Literal["train", "validation", "calibration", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "calibration", "test")

Protocol = Literal["stable", "given", "random", "fold"]
"""How images were split; only a model of ``stable`` or ``given`` splits can be promoted."""

PROMOTABLE: tuple[Protocol, ...] = ("stable", "given")
"""Protocols under which no group is in two splits and the test split stays what it is."""


ColorSpace = Literal["rgb", "gray", "hsv", "lab", "ycrcb"]
"""What the channels are that a backbone is given."""

Severity = Literal["warn", "refuse"]
"""What it means for the data not to meet an expectation."""

Verdict = Literal["pass", "warn", "refuse"]
"""What was found of an expectation, from the best to the worst."""


class Part(BaseModel):
    """Something inside a record: frozen, and closed to unknown fields."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )


class Record(Part):
    """What a stage hands on, as one JSON file."""

    schema_version: Literal[1] = SCHEMA_VERSION
    """Version of this layout; another one is refused."""

    def to_json(self) -> str:
        """The record as canonical JSON: sorted keys, two spaces, a final newline."""
        content = self.model_dump(mode="json")
        return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    def sha256(self) -> str:
        """Hash of the canonical JSON, which is how other records name this one."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Write to ``path`` by one atomic rename."""
        write_atomically(path, self.to_json().encode())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read from ``path``.

        Raises:
            NotReadyError: If there is no such file, or another version of fgpipe wrote it.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            message = f"{path} does not exist; `dvc repro` makes it"
            raise NotReadyError(message) from None
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            message = (
                f"{path} is not a {cls.__name__} record of schema {SCHEMA_VERSION}; "
                f"`dvc repro --force` makes it again ({error.error_count()} problems, "
                f"first: {error.errors()[0]['msg']})"
            )
            raise NotReadyError(message) from None


R_co = TypeVar("R_co", bound=Record, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored(Generic[R_co]):
    """A stage's output as the next ones read it."""

    record: R_co
    """What it says."""
    payload: Path
    """The folder of what it made."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader finds the former content or this, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def file_sha256(path: Path) -> str:
    """Hash of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Score(Part):
    """A figure with its interval."""

    value: float
    """The figure on all the images it is about."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end of the interval."""

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


class LabelCount(Part):
    """One class and how many images of it each split holds."""

    label: str
    """The class's name."""
    parent: str | None
    """The coarser class it belongs to, if the data name one."""
    n_images: dict[Split, int]
    """Images in each split."""


class Manifest(Record):
    """One row an image. Payload: ``manifest.parquet``, sorted by path."""

    protocol: Protocol
    """How the images were split."""
    n_images: int
    """Rows of the table."""
    n_groups: int
    """Groups: images of one group are in one split (but for the ``random`` protocol)."""
    n_quarantined: int
    """Images that came in and cannot be used; ``data/raw/quarantine.csv`` says why."""
    labels: tuple[LabelCount, ...]
    """The classes, sorted by name; a class's position is its integer target."""
    attributes: dict[str, tuple[str, ...]]
    """Further columns of ``labels.csv`` with their values, for slices."""
    table_sha256: str
    """Hash of the table's file."""

    @property
    def label_names(self) -> tuple[str, ...]:
        """The classes' names, in the order of their integer targets."""
        return tuple(entry.label for entry in self.labels)

    @property
    def parents(self) -> dict[str, str]:
        """Each class's parent; empty if the data name none."""
        return {entry.label: entry.parent for entry in self.labels if entry.parent is not None}


class ExpectationResult(Part):
    """What one expectation found."""

    name: str
    """Short name, unique in the suite."""
    description: str
    """What is expected, for a person."""
    table: str
    """What its rows are: ``images``, ``classes``, ``groups``, ``data`` or ``drift``."""
    verdict: Verdict
    """``pass`` where the data meet it, else its severity."""
    n_unexpected: int
    """Rows (or values) that do not."""
    examples: tuple[str, ...]
    """At most five of them, with the value found."""
    offenders: tuple[str, ...]
    """Names of at most twelve of these rows, to show them."""

    @property
    def passed(self) -> bool:
        """Whether the data meet it."""
        return self.verdict == "pass"


class DriftFigure(Part):
    """How far one feature of the data added is from what the champion was trained on."""

    feature: str
    """``labels``, a measure of the images, or ``embeddings``."""
    measure: Literal["psi", "auc"]
    """Population stability index (0: the same), or how well a linear classifier tells the
    two apart (area under the curve; 0.5: not at all, 1: always)."""
    value: float
    """The figure."""
    by_chance: float
    """What data without drift stay below in 99 of 100 cases, at these numbers of images."""
    n_then: int
    """Images behind it that the champion's version had."""
    n_since: int
    """Images behind it that were added since, or of today if none was."""

    @property
    def beyond_chance(self) -> float:
        """The figure, or that of no drift where chance alone explains it."""
        if self.value > self.by_chance:
            return self.value
        return 0.5 if self.measure == "auc" else 0.0


class Validation(Record):
    """What Great Expectations found. Payload: ``results.json`` in full, ``report.html``."""

    manifest_sha256: str
    """The manifest looked at."""
    verdict: Literal["pass", "warn"]
    """The worst of all expectations'; data that are refused have no record."""
    expectations: tuple[ExpectationResult, ...]
    """Every expectation of the suite."""
    drift_note: str
    """What the data are compared with, or why with nothing."""
    drift: tuple[DriftFigure, ...]
    """One entry a feature; none without something to compare with."""

    @property
    def warnings(self) -> tuple[ExpectationResult, ...]:
        """The expectations that are not met."""
        return tuple(result for result in self.expectations if not result.passed)


class Preprocessed(Record):
    """Decoded and resized images. Payload: ``images.npy``, ``transform.json``.

    ``images.npy`` is RGB, uint8 of shape ``(n_images, size, size, 3)``, its rows those of the
    manifest, and is meant to be memory-mapped.
    """

    manifest_sha256: str
    """The manifest whose rows these are."""
    n_images: int
    """Rows of the array."""
    image_size_px: int
    """Height and width."""
    color_space: ColorSpace = "rgb"
    """What a network is to make of them."""
    n_without_box: int | None = None
    """Images taken whole because no box came with them; none if boxes are not used."""
    channel_mean: tuple[float, float, float]
    """Mean of the training split's pixels, 0 to 1."""
    channel_std: tuple[float, float, float]
    """Standard deviation of the training split's pixels, 0 to 1."""
    array_sha256: str
    """Hash of ``images.npy``."""
    transform_sha256: str
    """Hash of ``transform.json``."""


TestTimeViews = Literal["one", "mirror", "flips", "square"]
"""How an image is looked at when it is classified: once, or in several ways."""


class Resolved(Part):
    """What ``auto`` came to, and the libraries in use: part of what made the numbers."""

    device: str
    """``cpu`` or ``cuda``."""
    precision: Literal["fp32", "bf16", "fp16"]
    """Precision of the forward and backward pass."""
    threads: int
    """Threads of a torch operation on the CPU, shared out among processes."""
    processes: int = 1
    """Processes that shared each batch."""
    libraries: dict[str, str]
    """Versions of the libraries that can change a number."""


PretrainingMethod = Literal["none", "simsiam", "byol", "dino"]
"""How a backbone may learn from images without their labels."""


class PretrainingFigures(Part):
    """One row of the curves of a pretraining, the first the weights it started from."""

    epoch: int
    """From 0, which is before the first."""
    loss: float | None
    """Mean over the epoch's batches; none before the first."""
    spread: float | None
    """How different the rows are that views are compared by, mean over the epoch's batches:
    0 where all images have one row, 1 at most; none before the first."""
    effective_rank: float
    """Directions in which the frozen backbone's rows of training images differ."""
    neighbour_accuracy: float
    """Share of the validation images to whose class their nearest training images belong."""


class Probed(Part):
    """How well a frozen backbone parts the classes of validation."""

    neighbour_accuracy: float
    """Share of the images that their nearest training images give the right class."""
    linear_accuracy: float
    """Share of the images that logistic regression on the training images gives it."""


class Pretraining(Part):
    """A pretraining and whether what came of it is handed on."""

    manifest_sha256: str
    """The manifest whose training split was learnt from."""
    preprocessed_sha256: str
    """The arrays learnt from."""
    backbone: str
    """A timm model name."""
    initial_weights: str
    """Where its first weights came from."""
    n_train_images: int
    """Images of the training split learnt from, without their labels."""
    n_unlabelled_images: int
    """Further images learnt from."""
    n_left_out: int
    """Images beside those labelled that were not: in the manifest, or there twice."""
    resolved: Resolved
    """What ``auto`` came to."""
    curves: tuple[PretrainingFigures, ...]
    """One entry an epoch, and one before."""
    collapsed: bool
    """Whether it ended early because the rows of all images became one."""
    kept_epoch: int | None
    """The epoch with the best neighbours on validation; none if the first collapsed."""
    before: Probed
    """The weights it started from."""
    after: Probed | None
    """The weights of the epoch kept."""
    handed_on: bool
    """Whether training proper starts from them: not where linear accuracy fell."""
    reason: str
    """Why, in a sentence, with both numbers where there are two."""
    weights_sha256: str | None
    """Hash of ``backbone.safetensors``, if it is handed on."""


class Pretrained(Record):
    """What the backbone learnt from images without their labels.

    Payload: ``curves.csv``, without rows if there was no method; and, if weights are handed
    on, ``backbone.safetensors`` and ``unlabelled.csv`` (hash of every image learnt from
    that is not in the manifest).
    """

    method: PretrainingMethod
    """How it learnt."""
    pretraining: Pretraining | None
    """What came of it; none without a method."""

    @property
    def handed_on(self) -> bool:
        """Whether training proper starts from weights of the payload."""
        return self.pretraining is not None and self.pretraining.handed_on


HeadName = Literal["linear", "mlp", "gru", "lstm", "isqrt", "bilinear", "cal", "cosine"]
"""The heads there are."""


class RecogniserSpec(Part):
    """All that is needed to build the network again, without its weights."""

    backbone: str
    """A timm model name, with or without the tag of its weights, or ``seed_cnn``."""
    mid_level: bool = False
    """Whether the feature map before the last halving is joined to the last one."""
    head: HeadName
    """Which head reads the feature map."""
    n_classes: int
    """Width of the logits."""
    dropout: float
    """Share of the embedding that training drops."""
    pooling: Literal["average", "gem"] = "average"
    """Of ``linear``, ``mlp`` and ``cosine``."""
    batch_norm: bool = False
    """Of the same: whether the pooled features are normalised."""
    scan: Literal["rows", "shuffled"] = "rows"
    """Of ``gru`` and ``lstm``: the order of the cells."""
    n_attentions: int = 32
    """Of ``cal``: attention maps."""
    margin: Literal["arcface", "cosface"] = "arcface"
    """Of ``cosine``: which margin training keeps."""
    margin_size: float = 0.0
    """Of ``cosine``: how large."""
    n_centres: int = 1
    """Of ``cosine``: centres a class."""
    image_size_px: int
    """Height and width of the input."""
    color_space: ColorSpace = "rgb"
    """What it makes of its RGB input first."""
    color_version: Literal[1] = 1
    """Which definition of the colour spaces that is; another one is refused."""
    mean: tuple[float, float, float]
    """Subtracted from channels in 0 to 1."""
    std: tuple[float, float, float]
    """Channels are divided by it after that."""


class EpochFigures(Part):
    """One row of the training curves."""

    epoch: int
    """From 1."""
    learning_rate: float
    """Of the head, at the end of the epoch."""
    train_loss: float
    """Mean over the epoch's batches, with label smoothing."""
    validation_loss: float
    """Cross-entropy without label smoothing, at the temperature that suits it best, as
    serving scales too; the epoch with the lowest is kept."""
    validation_top1: float
    """Share of the validation images whose best class is right."""
    validation_macro_recall: float
    """Mean over classes of the share that is right."""
    validation_coarse_accuracy: float | None
    """Share whose most probable parent label is right, if there are parents."""


class TrainedModel(Record):
    """A trained network.

    Payload: ``model.safetensors``, ``model.onnx``, ``recogniser.json``,
    ``transform.json``, ``labels.json``, ``seen.csv`` (hash and group of every image it
    was pretrained, trained or chosen on), ``data.csv`` (hash and label of every image of
    the manifest) and ``curves.csv``.

    The graph takes ``images``, uint8 of shape ``(batch, size, size, 3)``, and gives
    ``logits``, float32 of shape ``(batch, n_classes)``, and ``embedding``, float32 of
    shape ``(batch, features)``; normalisation is inside.
    """

    manifest_sha256: str
    """The manifest trained on."""
    preprocessed_sha256: str
    """The arrays trained on."""
    protocol: Protocol
    """How the images were split."""
    recogniser: RecogniserSpec
    """The network."""
    labels: tuple[str, ...]
    """Classes in the order of the logits."""
    parents: dict[str, str]
    """Each class's parent; empty if there are none."""
    resolved: Resolved
    """What ``auto`` came to."""
    initial_weights: str
    """Where the backbone's first weights came from."""
    pretrained_sha256: str | None = None
    """The pretraining that made them, if one did."""
    n_parameters: int
    """Weights of the whole network."""
    best_epoch: int
    """The epoch whose weights were kept, chosen on validation."""
    averaged_epochs: tuple[int, ...] = ()
    """Epochs whose weights' mean was kept instead, the best first; empty but for a soup."""
    n_batch_parts: int = 1
    """Parts that each process took its share of a batch in."""
    curves: tuple[EpochFigures, ...]
    """One entry an epoch."""
    weights_sha256: str
    """Hash of ``model.safetensors``."""
    graph_sha256: str
    """Hash of ``model.onnx``."""
    graph_max_error: float
    """Largest difference of a probability between torch and the graph, both float32, over at
    most 32 images of validation."""


class ClassScores(Part):
    """One class's figures on the test split."""

    label: str
    """The class's name."""
    n_images: int
    """Test images of it."""
    recall: float
    """Share of its images that are given its label."""
    precision: float
    """Share of the images given its label that are of it (0 if none is)."""
    f1: float
    """Harmonic mean of the two."""


class SliceScores(Part):
    """Figures on the test images that share a value of an attribute."""

    attribute: str
    """A column of ``labels.csv``."""
    value: str
    """Its value."""
    n_images: int
    """Test images with it."""
    top1: Score
    """Share whose best class is right."""
    coarse_accuracy: Score | None
    """Share whose most probable parent is right, if there are parents."""


class ModelScores(Part):
    """One model on the test split, as it would be served."""

    train_sha256: str
    """The trained model's record."""
    n_images: int
    """Test images."""
    n_groups: int
    """Groups among them; the intervals resample these."""
    top1: Score
    """Share whose best class is right."""
    macro_recall: Score
    """Mean over classes of the share that is right."""
    coarse_accuracy: Score | None
    """Share whose most probable parent is right, if there are parents."""
    calibration_error: Score
    """Expected calibration error of the served probabilities, equal-width bins."""
    log_loss: Score
    """Mean negative log probability of the right class."""
    per_class: tuple[ClassScores, ...]
    """One entry a class, in the order of the labels."""
    slices: tuple[SliceScores, ...]
    """One entry a value of an attribute."""

    @property
    def headline(self) -> dict[str, Score]:
        """The headline figures by name, without a coarse one where there are no parents."""
        scores = {
            "top1": self.top1,
            "macro_recall": self.macro_recall,
            "coarse_accuracy": self.coarse_accuracy,
            "calibration_error": self.calibration_error,
            "log_loss": self.log_loss,
        }
        return {name: score for name, score in scores.items() if score is not None}


class Comparison(Part):
    """Candidate minus champion, paired on the same test images."""

    version: int
    """The champion's version in the registry."""
    champion: ModelScores
    """The champion's figures on the images compared."""
    n_images: int
    """Images compared."""
    n_groups: int
    """Groups compared."""
    n_groups_left_out: int
    """Test groups that one of the two models has seen while it was made."""
    top1: Score
    """Difference of top-1."""
    macro_recall: Score
    """Difference of macro recall."""
    coarse_accuracy: Score | None
    """Difference of the coarse score."""


class ColorOfClass(Part):
    """How much one class goes by colour."""

    label: str
    """Its name."""
    n_images: int
    """Test images of it."""
    recall: float
    """Share that is right, as the images are."""
    recall_grey: float
    """Without colour."""
    recall_turned: float
    """With all hues turned by 120 degrees, as light as they were."""


class ColorReliance(Part):
    """What becomes of the answers where colours are taken away or turned."""

    grey: Score
    """Top-1 without colour minus top-1."""
    turned: Score
    """Top-1 with turned hues minus top-1."""
    per_class: tuple[ColorOfClass, ...]
    """In the order of the labels."""


class Retrieval(Part):
    """How well test images find others of their class by their embeddings.

    What may be found is every image of another group; nearest is the largest cosine.
    """

    n_images: int
    """Images that asked: those with another of their class outside their group."""
    recall_at_1: Score
    """Share of them whose nearest image is of the class."""
    map_at_r: Score
    """Mean average precision at R, the number of others of the class."""


class Evaluation(Record):
    """Candidate and champion on the same test images.

    Payload: ``report.html``, ``predictions.csv``, ``confusion.csv``,
    ``reliability.csv``; beside it ``candidate/calibration.json``, which the package stage
    takes along.
    """

    train_sha256: str
    """The candidate's training record."""
    manifest_sha256: str
    """The data tested on."""
    protocol: Protocol
    """How the images were split."""
    precision: Literal["f32", "bf16"]
    """Precision the graph ran at, which is the one that serves."""
    temperature: float
    """Logits are divided by it; fitted on the calibration split."""
    views: TestTimeViews = "one"
    """In how many ways each image is looked at, here and when serving."""
    candidate: ModelScores
    """The candidate on the whole test split."""
    comparison: Comparison | None
    """Against the champion; none if there is no champion or nothing to compare on."""
    color: ColorReliance | None = None
    """How much the candidate goes by colour; none where no test image has any."""
    retrieval: Retrieval | None = None
    """How good its embeddings are to search by; none where no class is in two groups."""
    comparison_note: str | None
    """Why there is no comparison though there is a champion."""
    confusion: tuple[tuple[int, ...], ...]
    """Candidate's test images: row the true class, column the given one."""


class GateCheck(Part):
    """One condition of the gate."""

    name: str
    """The key in ``params.yaml`` it comes from (``max_drop.top1``: with the figure, where
    one key is for several), or ``protocol``."""
    passed: bool
    """Whether it holds."""
    reason: str
    """Both numbers, in a sentence."""


class GateDecision(Record):
    """Whether the candidate may be promoted, and why. A refusal is a result."""

    verdict: Literal["passed", "rejected", "hold"]
    """``hold``: the candidate could not be compared with the champion."""
    summary: str
    """One sentence for a person."""
    checks: tuple[GateCheck, ...]
    """Every condition, held or not."""
    train_sha256: str
    """The candidate's training record."""
    evaluation_sha256: str
    """The evaluation judged."""
    test: dict[str, Score]
    """The headline figures, so that git and ``dvc metrics`` show them."""

    @property
    def passed(self) -> bool:
        """Whether the candidate may be promoted."""
        return self.verdict == "passed"


class Bundle(Record):
    """A folder that serves with nothing else. Payload: the bundle itself."""

    bundle_sha256: str
    """Hash over the names and hashes of all files."""
    train_sha256: str
    """The trained model's record."""
    name: str
    """What the model is called."""
    files: dict[str, str]
    """Hash of each file."""
    n_bytes: int
    """Size of all files."""


class Baseline(Part):
    """The model to beat, as ``data/baseline.json`` pins it (``null`` where there is none)."""

    version: int
    """Version in the registry."""
    bundle_sha256: str
    """Its bundle."""
    train_sha256: str
    """Its training record."""

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """Read ``path``; ``null`` is None.

        Raises:
            NotReadyError: If the file is not there or not a baseline.
        """
        try:
            content = json.loads(path.read_text())
            return None if content is None else cls.model_validate(content)
        except (FileNotFoundError, ValueError) as error:
            message = f"{path} must hold null or a baseline; `echo null > {path}` ({error})"
            raise NotReadyError(message) from None

    @staticmethod
    def save(baseline: "Baseline | None", path: Path) -> None:
        """Write ``path`` unless it says so already."""
        content: Mapping[str, object] | None = baseline.model_dump() if baseline else None
        text = (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()
        if not path.exists() or path.read_bytes() != text:
            write_atomically(path, text)


class Champion(Record):
    """What serves, as ``deploy/champion.json`` pins it."""

    model_name: str
    """Name in the registry."""
    version: int
    """Version in the registry."""
    bundle_sha256: str
    """The bundle inside the Bento."""
    train_sha256: str
    """The trained model's record."""
    bento_tag: str
    """``name:version`` of the Bento."""


def digest_of_files(files: Mapping[str, str]) -> str:
    """One hash over names and hashes, whatever their order."""
    if not files:
        message = "a digest needs at least one file"
        raise PipelineError(message)
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()
