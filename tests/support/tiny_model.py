"""A model in a few lines of ONNX, so that what evaluates and serves is tested without torch.

Images are averaged over square cells (the embedding) and multiplied by weights that least
squares fitted on the training split: right often enough to be interesting.
"""

import json
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
from onnx import TensorProto, helper, numpy_helper

from fgpipe.config import ManifestConfig
from fgpipe.images.files import read_image
from fgpipe.images.table import read_table
from fgpipe.images.transforms import Preprocessing
from fgpipe.ports import Ports
from fgpipe.records import (
    EpochFigures,
    Manifest,
    Protocol,
    RecogniserSpec,
    Resolved,
    Stored,
    TrainedModel,
    file_sha256,
)
from fgpipe.stages.manifest import manifest
from tests.adapters.checker import FakeChecker
from tests.adapters.registry import FakeRegistry
from tests.adapters.tracker import FakeTracker

SIZE_PX, CELL_PX = 64, 8

FRACTIONS = {"train": 0.5, "validation": 0.1, "calibration": 0.2, "test": 0.2}


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
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", SIZE_PX, SIZE_PX, 3])],
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


def tiny_ports(tmp_path: Path) -> Ports:
    """Ports whose fakes a test can look into."""
    return Ports(
        checker=FakeChecker(),
        tracker=FakeTracker(),
        registry=FakeRegistry(),
        checkpoints=tmp_path / "checkpoints",
    )


def tiny_manifest(raw: Path, out: Path, *, protocol: Protocol = "stable") -> Stored[Manifest]:
    """The real manifest stage over ``raw``."""
    config = ManifestConfig(protocol=protocol, fractions=FRACTIONS, seed=0, n_folds=4, fold=0)
    (out / "payload").mkdir(parents=True)
    record = manifest(raw=raw, config=config, out=out, ports=tiny_ports(out))
    return Stored(record=record, payload=out / "payload")


def tiny_train(
    raw: Path, stored: Stored[Manifest], out: Path, *, noise: float = 0.0, seed: int = 0
) -> Stored[TrainedModel]:
    """The payload and record that the train stage would leave.

    Args:
        raw: The images.
        stored: Their manifest.
        out: The stage's folder, made here.
        noise: Standard deviation added to the weights: a worse model.
        seed: Of the noise.
    """
    payload = out / "payload"
    payload.mkdir(parents=True)
    table = read_table(stored.payload)
    transform = Preprocessing.from_config(
        image_size_px=SIZE_PX, color_space="rgb", resize="letterbox"
    )
    chosen = table[table["split"] == "train"]
    pixels = np.stack([transform(read_image(raw / path)) for path in chosen["path"]])
    weights, bias = _fitted(pixels, chosen["target"].to_numpy(), n=len(stored.record.labels))
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


def _fitted(pixels: np.ndarray, targets: np.ndarray, *, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regression onto one-hot targets, scaled up to look like logits."""
    features = tiny_embedding(pixels)
    mean = features.mean(axis=0)
    centred = features - mean
    wanted = 6 * (np.eye(n)[targets] - 1 / n)
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
