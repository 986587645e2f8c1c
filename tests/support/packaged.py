"""A project whose stages are done up to a package, with a bundle of one small file."""

from pathlib import Path
from typing import Literal

from fgpipe.pipeline import stage_named
from fgpipe.records import (
    Bundle,
    GateCheck,
    GateDecision,
    Protocol,
    RecogniserSpec,
    Record,
    Resolved,
    Score,
    TrainedModel,
)
from fgpipe.serving.bundle import seal_bundle


def write_packaged(
    root: Path,
    *,
    weights: str = "first",
    verdict: Literal["passed", "rejected", "hold"] = "passed",
    protocol: Protocol = "stable",
) -> Bundle:
    """Write the records of train, gate and package, and the package's payload."""
    model = trained(weights=weights, protocol=protocol)
    _save(root, "train", model)
    passed = verdict == "passed"
    reason = "top1 0.500 is below min_top1 0.600"
    _save(
        root,
        "gate",
        GateDecision(
            verdict=verdict,
            summary="as good as asked" if passed else "not good enough",
            checks=(GateCheck(name="min_top1", passed=passed, reason=reason),),
            train_sha256=model.sha256(),
            evaluation_sha256="e" * 64,
            test={"top1": Score(value=0.5, low=0.4, high=0.6)},
        ),
    )
    payload = root / stage_named("package").folder / "payload"
    payload.mkdir(parents=True, exist_ok=True)
    (payload / "bundle.json").unlink(missing_ok=True)
    (payload / "model.onnx").write_text(weights)
    facts = {
        "name": "tiny",
        "description": "",
        "license": "Apache-2.0",
        "train_sha256": model.sha256(),
        "protocol": protocol,
        "labels": ("a", "b"),
        "parents": {},
        "image_size_px": 32,
        "precision": "f32",
        "runtime": "openvino",
    }
    description = seal_bundle(payload, facts=facts)
    bundle = Bundle(
        bundle_sha256=description.bundle_sha256,
        train_sha256=model.sha256(),
        name="tiny",
        files=description.files,
        n_bytes=1,
    )
    _save(root, "package", bundle)
    return bundle


def trained(*, weights: str = "first", protocol: Protocol = "stable") -> TrainedModel:
    """A training record; another one for other weights."""
    return TrainedModel(
        manifest_sha256="m",
        preprocessed_sha256="p",
        protocol=protocol,
        recogniser=RecogniserSpec(
            backbone="tiny",
            head="linear",
            n_classes=2,
            dropout=0.0,
            image_size_px=32,
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
        ),
        labels=("a", "b"),
        parents={},
        resolved=Resolved(device="cpu", precision="fp32", threads=1, libraries={}),
        initial_weights="scratch",
        n_parameters=1,
        best_epoch=1,
        curves=(),
        weights_sha256=weights,
        graph_sha256="g",
        graph_max_error=0.0,
    )


def _save(root: Path, stage: str, record: Record) -> None:
    record.save(root / stage_named(stage).folder / "record.json")
