"""A bundle that needs no training: three colours told apart by the mean of their channels."""

import io
import json
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from fgpipe.images.transforms import Preprocessing
from fgpipe.records import Score
from fgpipe.serving.bundle import (
    CALIBRATION_FILE,
    PROBE_FILE,
    BundleDescription,
    Calibration,
    Probe,
    ProbeImage,
    seal_bundle,
)
from tests.support.tiny_model import SIZE_PX, tiny_graph

LABELS = ("amber", "blue", "green")
PARENTS = {"amber": "warm", "blue": "cold", "green": "cold"}
TRAIN_SHA256 = "7" * 64
WEIGHTS = np.array([[8, 0, 0], [0, 0, 4], [0, 4, 0]])
"""Row a channel's mean, column a label: amber is red, blue is blue, green is green."""
COLOURS = {"amber": (250, 60, 10), "blue": (10, 60, 250), "green": (10, 250, 60)}


def tiny_bundle(
    folder: Path,
    *,
    name: str = "tiny",
    description: str = "Tells colours apart.",
    train_sha256: str = TRAIN_SHA256,
    probe_shift: float = 0.0,
    precision: Literal["f32", "bf16"] = "f32",
) -> BundleDescription:
    """Write a bundle; ``probe_shift`` moves the probabilities its probe asks for."""
    from fgpipe.serving.predictor import Predictor

    (folder / "probe").mkdir(parents=True)
    graph = tiny_graph(WEIGHTS, np.zeros(3), cell_px=SIZE_PX)
    (folder / "model.onnx").write_bytes(graph.SerializeToString())
    (folder / "labels.json").write_text(json.dumps({"labels": LABELS, "parents": PARENTS}))
    transform = Preprocessing.from_config(image_size_px=SIZE_PX, resize="squash")
    (folder / "transform.json").write_text(transform.to_json())
    Calibration(
        train_sha256=train_sha256,
        temperature=2.0,
        precision=precision,
        runtime="openvino",
        n_calibration_images=3,
        n_test_images=3,
        n_test_groups=3,
        confidence_level=0.95,
        scores={"top1": Score(value=1.0, low=1.0, high=1.0)},
    ).save(folder / CALIBRATION_FILE)
    predictor = Predictor.load(folder, precision=precision)
    images = []
    for label, colour in COLOURS.items():
        content = png(colour)
        (folder / "probe" / f"{label}.png").write_bytes(content)
        given = dict(predictor.predict([content])[0].alternatives)
        probabilities = tuple(given[name] + probe_shift for name in LABELS)
        images.append(
            ProbeImage(file=f"probe/{label}.png", sha256="0" * 64, probabilities=probabilities)
        )
    Probe(images=tuple(images)).save(folder / PROBE_FILE)
    return seal_bundle(
        folder,
        facts={
            "name": name,
            "description": description,
            "license": "Apache-2.0",
            "train_sha256": train_sha256,
            "protocol": "stable",
            "labels": LABELS,
            "parents": PARENTS,
            "image_size_px": SIZE_PX,
            "precision": precision,
            "runtime": "openvino",
        },
    )


def png(colour: tuple[int, int, int], *, size: tuple[int, int] = (48, 40)) -> bytes:
    """An image file of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, format="PNG")
    return buffer.getvalue()
