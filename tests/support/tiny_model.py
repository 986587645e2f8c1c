"""A model in a few lines of ONNX, so that what evaluates and serves is tested without torch.

Images are averaged over square cells (the embedding) and multiplied by weights that least
squares fitted on the training split: right often enough to be interesting.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
from onnx import TensorProto, helper, numpy_helper

from fgpipe.config import EvaluateConfig, ManifestConfig, PackageConfig
from fgpipe.images.files import read_image
from fgpipe.images.table import read_table
from fgpipe.images.transforms import Preprocessing
from fgpipe.ports import Ports
from fgpipe.records import (
    Baseline,
    Bundle,
    EpochFigures,
    Evaluation,
    Manifest,
    Protocol,
    RecogniserSpec,
    Resolved,
    Stored,
    TrainedModel,
    file_sha256,
)
from fgpipe.serving.bundle import open_bundle, seal_bundle
from fgpipe.stages.evaluate import evaluate
from fgpipe.stages.manifest import manifest
from fgpipe.stages.package import package
from tests.support.ports import fake_ports

SIZE_PX, CELL_PX = 64, 8

FRACTIONS = {"train": 0.5, "validation": 0.1, "calibration": 0.2, "test": 0.2}


EVALUATE = EvaluateConfig(
    precision="f32", views="one", n_bootstrap=100, confidence_level=0.9, n_bins=5, seed=0
)
PACKAGE = PackageConfig(
    name="tiny", description="Tells marks apart.", license="CC0-1.0", profile_sample=0
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiny:
    """Images, their manifest and two models; not to be changed."""

    raw: Path
    manifest: Stored[Manifest]
    train: Stored[TrainedModel]
    """Right about most images."""
    worse: Stored[TrainedModel]
    """The same with noise on its weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A model that was evaluated without a champion and packaged; not to be changed."""

    evaluation: Evaluation
    evaluated: Path
    """Folder of the evaluate stage."""
    ports: Ports
    """Those of the evaluation."""
    bundle: Bundle
    packaged: Path
    """Folder of the bundle."""


def make_tiny(raw: Path, folder: Path, *, protocol: Protocol = "stable") -> Tiny:
    """Run the real manifest stage over ``raw`` and fit two models to it."""
    stored = tiny_manifest(raw, folder / "manifest", protocol=protocol)
    return Tiny(
        raw=raw,
        manifest=stored,
        train=tiny_train(raw, stored, folder / "train", noise=0.05, scale=12),
        worse=tiny_train(raw, stored, folder / "worse", noise=0.3),
    )


def finish(tiny: Tiny, train: Stored[TrainedModel], folder: Path) -> Done:
    """Evaluate and package a model."""
    ports = fake_ports(folder)
    evaluation = run_evaluate(tiny, folder / "evaluate", train=train, ports=ports)
    bundle = run_package(tiny, folder / "evaluate", folder / "package", train=train)
    return Done(
        evaluation=evaluation,
        evaluated=folder / "evaluate",
        ports=ports,
        bundle=bundle,
        packaged=folder / "package" / "payload",
    )


def run_evaluate(
    tiny: Tiny,
    out: Path,
    *,
    train: Stored[TrainedModel] | None = None,
    baseline: Baseline | None = None,
    ports: Ports | None = None,
    config: EvaluateConfig = EVALUATE,
) -> Evaluation:
    """The evaluate stage, as ``run_stage`` calls it."""
    for name in ("candidate", "payload"):
        (out / name).mkdir(parents=True)
    return evaluate(
        raw=tiny.raw,
        baseline=baseline,
        manifest=tiny.manifest,
        train=train or tiny.train,
        config=config,
        out=out,
        ports=ports or fake_ports(out),
    )


def run_package(
    tiny: Tiny, evaluated: Path, out: Path, *, train: Stored[TrainedModel] | None = None
) -> Bundle:
    """The package stage over what :func:`run_evaluate` left in ``evaluated``."""
    (out / "payload").mkdir(parents=True)
    return package(
        raw=tiny.raw,
        manifest=tiny.manifest,
        train=train or tiny.train,
        candidate=evaluated / "candidate",
        config=PACKAGE,
        out=out,
        ports=fake_ports(out),
    )


def register_champion(bundle: Path, ports: Ports) -> Baseline:
    """Make a bundle the one to beat."""
    description = open_bundle(bundle)
    entry = ports.registry.register(
        bundle,
        bundle_sha256=description.bundle_sha256,
        train_sha256=description.train_sha256,
        tags={},
    )
    ports.registry.promote(entry.version)
    return Baseline(
        version=entry.version,
        bundle_sha256=entry.bundle_sha256,
        train_sha256=entry.train_sha256,
    )


def resealed(
    bundle: Path, folder: Path, *, change: Callable[[Path], None], **facts: object
) -> Path:
    """A copy of a bundle with changed files, sealed again: another bundle, and whole."""
    shutil.copytree(bundle, folder)
    known = open_bundle(folder).model_dump(exclude={"files"})
    (folder / "bundle.json").unlink()
    change(folder)
    seal_bundle(folder, facts=known | facts)
    return folder


def copied(train: Stored[TrainedModel], folder: Path, **changes: object) -> Stored[TrainedModel]:
    """A model in a folder of its own, to be changed."""
    shutil.copytree(train.payload, folder)
    return Stored(record=train.record.model_copy(update=changes), payload=folder)


def tiny_embedding(pixels: np.ndarray, *, cell_px: int = CELL_PX) -> np.ndarray:
    """What the graph calls ``embedding``, in numpy: channel, row, column of the cells."""
    n, height, width, channels = pixels.shape
    cells = pixels.reshape(n, height // cell_px, cell_px, width // cell_px, cell_px, channels)
    return (cells / 255).mean(axis=(2, 4)).transpose(0, 3, 1, 2).reshape(n, -1)


def tiny_graph(weights: np.ndarray, bias: np.ndarray, *, cell_px: int = CELL_PX) -> onnx.ModelProto:
    """uint8 images -> mean over cells (``embedding``) -> linear (``logits``)."""
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["float", "scale"], ["unit"]),
        helper.make_node("Transpose", ["unit"], ["pixels"], perm=[0, 3, 1, 2]),
        helper.make_node(
            "AveragePool", ["pixels"], ["cells"], kernel_shape=[cell_px] * 2, strides=[cell_px] * 2
        ),
        helper.make_node("Flatten", ["cells"], ["embedding"]),
        helper.make_node("Gemm", ["embedding", "weights", "bias"], ["logits"]),
    ]
    constants = {"scale": np.float32(255), "weights": weights, "bias": bias}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info(
                "images", TensorProto.UINT8, ["batch", SIZE_PX, SIZE_PX, 3]
            )
        ],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(bias)]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", len(weights)]),
        ],
        [
            numpy_helper.from_array(np.asarray(value, dtype=np.float32), name)
            for name, value in constants.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def tiny_manifest(raw: Path, out: Path, *, protocol: Protocol = "stable") -> Stored[Manifest]:
    """The real manifest stage over ``raw``."""
    config = ManifestConfig(
        protocol=protocol,
        fractions=FRACTIONS,
        seed=0,
        n_folds=4,
        fold=0,
        max_quarantined_fraction=0.05,
    )
    (out / "payload").mkdir(parents=True)
    record = manifest(raw=raw, config=config, out=out, ports=fake_ports(out))
    return Stored(record=record, payload=out / "payload")


def tiny_train(
    raw: Path,
    stored: Stored[Manifest],
    out: Path,
    *,
    noise: float = 0.0,
    scale: float = 6,
    seed: int = 0,
) -> Stored[TrainedModel]:
    """The payload and record that the train stage would leave.

    Args:
        raw: The images.
        stored: Their manifest.
        out: The stage's folder, made here.
        noise: Standard deviation added to the weights: a worse model.
        scale: Of the logits: how sure it is of itself.
        seed: Of the noise.
    """
    payload = out / "payload"
    payload.mkdir(parents=True)
    table = read_table(stored.payload)
    transform = Preprocessing.from_config(image_size_px=SIZE_PX, resize="letterbox")
    chosen = table[table["split"] == "train"]
    pixels = np.stack([transform(read_image(raw / path)) for path in chosen["path"]])
    wanted = scale * (np.eye(len(stored.record.labels))[chosen["target"]])
    weights, bias = _fitted(pixels, wanted - wanted.mean(axis=1, keepdims=True))
    weights = weights + np.random.default_rng(seed).normal(0, noise, weights.shape)

    (payload / "model.onnx").write_bytes(tiny_graph(weights, bias).SerializeToString())
    (payload / "model.safetensors").write_bytes(weights.astype(np.float32).tobytes())
    (payload / "transform.json").write_text(transform.to_json())
    labels = {"labels": stored.record.label_names, "parents": stored.record.parents}
    (payload / "labels.json").write_text(json.dumps(labels))
    seen = table[table["split"].isin(["train", "validation"])]
    seen[["sha256", "group", "split"]].to_csv(payload / "seen.csv", index=False)
    record = _record(stored.record, payload)
    (payload / "recogniser.json").write_text(record.recogniser.model_dump_json())
    pd.DataFrame([entry.model_dump() for entry in record.curves]).to_csv(payload / "curves.csv")
    return Stored(record=record, payload=payload)


def _fitted(pixels: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regression onto the logits wanted."""
    features = tiny_embedding(pixels)
    mean = features.mean(axis=0)
    centred = features - mean
    weights = np.linalg.solve(centred.T @ centred + np.eye(centred.shape[1]), centred.T @ wanted)
    return weights, -mean @ weights


def _record(manifest_: Manifest, payload: Path) -> TrainedModel:
    curves = tuple(
        EpochFigures(
            epoch=epoch,
            learning_rate=1e-3 / epoch,
            train_loss=1.4 / epoch,
            validation_loss=1.5 / epoch + 0.1 * (epoch == 3),
            validation_top1=0.4 + 0.1 * epoch,
            validation_macro_recall=0.38 + 0.1 * epoch,
            validation_coarse_accuracy=0.6 + 0.1 * epoch if manifest_.parents else None,
        )
        for epoch in (1, 2, 3)
    )
    return TrainedModel(
        manifest_sha256=manifest_.sha256(),
        preprocessed_sha256="0" * 64,
        protocol=manifest_.protocol,
        recogniser=RecogniserSpec(
            backbone="tiny",
            head="linear",
            n_classes=len(manifest_.labels),
            dropout=0.0,
            image_size_px=SIZE_PX,
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
        ),
        labels=manifest_.label_names,
        parents=manifest_.parents,
        resolved=Resolved(device="cpu", precision="fp32", threads=1, libraries={"numpy": "2"}),
        initial_weights="scratch",
        n_parameters=SIZE_PX,
        best_epoch=2,
        curves=curves,
        weights_sha256=file_sha256(payload / "model.safetensors"),
        graph_sha256=file_sha256(payload / "model.onnx"),
        graph_max_error=0.0,
    )
