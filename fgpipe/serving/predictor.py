"""From an image file's bytes to a calibrated answer: what evaluation AND the service run.

The exported graph runs on OpenVINO on the CPU, at a precision that is always named:
left alone, OpenVINO computes in bf16 wherever the CPU can. Measured on an AVX512_BF16 CPU
with EfficientNet-Lite0 and either head, at both precisions: an image's logits are the
same bytes in every process, with one thread or two, and in batches of any size and
company (1 to 128), so that an answer does not depend on who else is asking.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from fgpipe.errors import ConfigError, NotReadyError
from fgpipe.images.files import read_image
from fgpipe.images.labels_file import Box
from fgpipe.images.transforms import Preprocessing
from fgpipe.metrics.accuracy import parent_probabilities
from fgpipe.metrics.calibration import softmax
from fgpipe.nn.openvino_cpu import Precision, capabilities, cpu_options, openvino
from fgpipe.records import TestTimeViews
from fgpipe.serving.bundle import BUNDLE_FILE, CALIBRATION_FILE, Calibration, open_bundle
from fgpipe.serving.labels import Labels
from fgpipe.serving.views import VIEWS, mean_of_views

RUNTIME = f"openvino {openvino.__version__.split('-')[0]}"
"""What runs the graph, for the bundle to name."""

Batch = UInt8[np.ndarray, "batch size size 3"]
Image = UInt8[np.ndarray, "height width 3"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The answer about one image."""

    label: str
    """The most probable class."""
    probability: float
    """Its probability."""
    alternatives: tuple[tuple[str, float], ...]
    """Every class with its probability, the most probable first."""
    parent: str | None
    """The most probable parent, if the classes have parents; not always the label's."""
    parent_probability: float | None
    """The sum of its classes' probabilities."""


class Outputs(NamedTuple):
    """What the graph gives for a batch."""

    logits: Float32[np.ndarray, "batch classes"]
    embedding: Float32[np.ndarray, "batch features"]


class Predictor:
    """A trained network, ready to answer; safe to share between threads."""

    def __init__(
        self,
        compiled: Any,  # noqa: ANN401 - OpenVINO has no types
        *,
        labels: Labels,
        transform: Preprocessing,
        precision: Precision,
        temperature: float = 1.0,
        views: TestTimeViews = "one",
        bundle_sha256: str | None = None,
    ) -> None:
        self.labels = labels
        self.precision = precision
        self.temperature = temperature
        self.views = views
        self.bundle_sha256 = bundle_sha256
        self._compiled = compiled
        self._transform = transform
        self._request = compiled.create_infer_request()
        self._one_at_a_time = threading.Lock()

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        precision: Precision | None = None,
        threads: int | None = None,
        views: TestTimeViews | None = None,
    ) -> "Predictor":
        """Read a bundle, or the payload of the train stage.

        Args:
            folder: With ``model.onnx``, ``labels.json`` and ``transform.json``. If it is a
                bundle its hashes are checked first. Without ``calibration.json`` the
                temperature is 1.
            precision: At which the graph computes; by default the one the bundle was
                evaluated at, which a folder that is no bundle does not tell.
            threads: Threads of an inference; by default one a core.
            views: In how many ways to look at an image; by default as ``calibration.json``
                says, and once without it.

        Raises:
            NotReadyError: If a file is missing, damaged or of another version.
            ConfigError: If this CPU does not compute in ``precision``.
        """
        description = open_bundle(folder) if (folder / BUNDLE_FILE).exists() else None
        if precision is None:
            if description is None:
                raise NotReadyError(f"{folder} is no bundle: it does not say its precision")
            precision = description.precision
        file = folder / CALIBRATION_FILE
        calibration = Calibration.load(file) if file.exists() else None
        return cls(
            _compile(folder / "model.onnx", precision=precision, threads=threads),
            labels=Labels.load(folder / "labels.json"),
            transform=_read_transform(folder / "transform.json"),
            precision=precision,
            temperature=1.0 if calibration is None else calibration.temperature,
            views=views or ("one" if calibration is None else calibration.views),
            bundle_sha256=description.bundle_sha256 if description else None,
        )

    def with_temperature(self, temperature: float) -> "Predictor":
        """The same network, its logits divided by another temperature."""
        return Predictor(
            self._compiled,
            labels=self.labels,
            transform=self._transform,
            precision=self.precision,
            temperature=temperature,
            views=self.views,
            bundle_sha256=self.bundle_sha256,
        )

    @property
    def image_size_px(self) -> int:
        """Height and width of what the graph takes."""
        return self._transform.image_size_px

    @property
    def uses_box(self) -> bool:
        """Whether it was trained on what boxes hold; an image without one is taken whole."""
        return self._transform.uses_box

    def preprocess(
        self, image: UInt8[np.ndarray, "height width 3"], box: Box | None = None
    ) -> UInt8[np.ndarray, "size size 3"]:
        """What the graph takes of a decoded RGB image.

        Args:
            image: Upright.
            box: Where in it the object is; used where the training cut boxes out.

        Raises:
            DataError: If a box that is used is outside the image.
        """
        return self._transform(image, box)

    def prepare(
        self,
        content: bytes,
        *,
        name: str = "image",
        box: Box | None = None,
        change: Callable[[Image], Image] | None = None,
    ) -> UInt8[np.ndarray, "size size 3"]:
        """What the graph takes of an image file's bytes.

        Args:
            content: The file.
            name: What an error calls it.
            box: As for :meth:`preprocess`.
            change: Made to the decoded image first.

        Raises:
            DataError: If it does not decode to its end, or as for :meth:`preprocess`.
        """
        image = read_image(content, name=name)
        return self.preprocess(change(image) if change else image, box)

    def outputs(self, batch: Batch) -> Outputs:
        """Logits and embedding of preprocessed images, the means of their views."""
        seen = [self._infer(np.ascontiguousarray(view(batch))) for view in VIEWS[self.views]]
        logits, embeddings = zip(*seen, strict=True)
        return Outputs(mean_of_views(list(logits)), mean_of_views(list(embeddings)))

    def _infer(self, batch: Batch) -> Outputs:
        with self._one_at_a_time:
            # Shared outputs would be overwritten by the next batch.
            results = self._request.infer({"images": batch}, share_outputs=False)
        return Outputs(results["logits"], results["embedding"])

    def logits(self, batch: Batch) -> Float32[np.ndarray, "batch classes"]:
        """Logits of preprocessed images, before the temperature."""
        return self.outputs(batch).logits

    def probabilities(
        self, logits: Float32[np.ndarray, "batch classes"]
    ) -> Float64[np.ndarray, "batch classes"]:
        """Calibrated probabilities; rows sum to 1."""
        return softmax(logits, temperature=self.temperature)

    def predictions(self, logits: Float32[np.ndarray, "batch classes"]) -> list[Prediction]:
        """The answer for each row of logits."""
        probabilities = self.probabilities(logits)
        parents = self.labels.parent_targets
        coarse = None if parents is None else parent_probabilities(probabilities, parents=parents)
        return [
            self._prediction(row, coarse=None if coarse is None else coarse[index])
            for index, row in enumerate(probabilities)
        ]

    def predict(
        self, images: Sequence[bytes], *, boxes: Sequence[Box | None] | None = None
    ) -> list[Prediction]:
        """The answer for each image file's bytes.

        Args:
            images: The files.
            boxes: As for :meth:`preprocess`, one an image.

        Raises:
            DataError: If one of them does not decode to its end, or as for
                :meth:`preprocess`.
        """
        if not images:
            return []
        pairs = zip(images, boxes or [None] * len(images), strict=True)
        return self.predictions(
            self.logits(np.stack([self.prepare(image, box=box) for image, box in pairs]))
        )

    def _prediction(
        self,
        probabilities: Float64[np.ndarray, " classes"],
        *,
        coarse: Float64[np.ndarray, " parents"] | None,
    ) -> Prediction:
        order = np.argsort(-probabilities, kind="stable")
        ranked = tuple((self.labels.names[index], float(probabilities[index])) for index in order)
        parent = None if coarse is None else int(coarse.argmax())
        return Prediction(
            label=ranked[0][0],
            probability=ranked[0][1],
            alternatives=ranked,
            parent=None if parent is None else self.labels.parent_names[parent],
            parent_probability=None if coarse is None else float(coarse.max()),
        )


def resolve_precision(requested: Literal["auto", "f32", "bf16"]) -> Precision:
    """The precision that ``evaluate.precision`` comes to on this CPU.

    Raises:
        ConfigError: If it asks for bf16 and the CPU does not compute in it.
    """
    return choose_precision(requested, capabilities=capabilities())


def choose_precision(
    requested: Literal["auto", "f32", "bf16"], *, capabilities: Sequence[str]
) -> Precision:
    """The precision that ``requested`` comes to where OpenVINO names these capabilities.

    Raises:
        ConfigError: If bf16 is requested and not among them.
    """
    able = "BF16" in capabilities
    if requested == "bf16" and not able:
        raise ConfigError(
            "this CPU does not compute in bf16; set evaluate.precision to f32 or auto and "
            "evaluate again, or run on a CPU with AVX512_BF16 or AMX"
        )
    if requested == "auto":
        return "bf16" if able else "f32"
    return requested


def _compile(path: Path, *, precision: Precision, threads: int | None) -> Any:  # noqa: ANN401 - OpenVINO has no types
    resolve_precision(precision)
    if not path.exists():
        raise NotReadyError(f"{path} does not exist; `dvc repro` makes it")
    options = cpu_options(precision=precision, aim="LATENCY")
    if threads is not None:
        options[openvino.properties.inference_num_threads()] = threads
    core = openvino.Core()
    try:
        return core.compile_model(core.read_model(path), "CPU", options)
    except RuntimeError as error:
        first = str(error).strip().splitlines()[-1]
        raise NotReadyError(f"{path} is not a graph that OpenVINO runs ({first})") from None


def _read_transform(path: Path) -> Preprocessing:
    try:
        return Preprocessing.from_json(path.read_text())
    except (OSError, ValueError, KeyError) as error:
        raise NotReadyError(f"{path} cannot be read as a transform ({error!r})") from None
