"""05 train: fine-tune backbone and head, keep the best epoch, export the graph.

What decides a weight is in the manifest, the arrays and the ``train`` section. The test
and calibration splits are not looked at: the epoch is chosen on validation.
"""

import hashlib
import json
import shutil
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.torch import save

from fgpipe.config import TrainConfig
from fgpipe.errors import ConfigError, ParityError
from fgpipe.images.augmentations import augmentation
from fgpipe.images.batches import plain_batches
from fgpipe.images.table import read_table, read_table_by_parts
from fgpipe.metrics.calibration import softmax
from fgpipe.nn.backbones import PRETRAINED_FILE, check_low_size, normalisation
from fgpipe.nn.export import export_graph
from fgpipe.nn.initial_weights import load_weights
from fgpipe.nn.losses import Criterion, create_criterion
from fgpipe.nn.recogniser import Recogniser, build, check_cells
from fgpipe.ports import Ports
from fgpipe.records import (
    EpochFigures,
    Manifest,
    Preprocessed,
    Pretrained,
    RecogniserSpec,
    Stored,
    TrainedModel,
    file_sha256,
)
from fgpipe.serving.predictor import Predictor
from fgpipe.serving.seen import DATA_FILE, SEEN_FILE, UNLABELLED_FILE
from fgpipe.training.checkpoint import CODE, taken
from fgpipe.training.distributed import Team, leading
from fgpipe.training.hardware import check_compiler, resolve
from fgpipe.training.input_key import input_key
from fgpipe.training.loop import Course, Fitted, fit
from fgpipe.training.recipe import Examples, Recipe
from fgpipe.training.speed import EpochSpeed
from fgpipe.training.validation import infer

LEARNT_FROM = ("target", "split")
"""Columns of the manifest's table that decide a weight; a million rows of all take a gigabyte."""

MAX_GRAPH_ERROR = 1e-3
"""Largest difference of a probability between torch and the exported graph."""

N_COMPARED = 32
"""Images that show it: a graph that does otherwise than torch does so on any."""


def train(
    *,
    manifest: Stored[Manifest],
    preprocess: Stored[Preprocessed],
    pretrain: Stored[Pretrained],
    config: TrainConfig,
    out: Path,
    ports: Ports,
) -> TrainedModel:
    """Train a recogniser and write what evaluation, bundle and a later training need.

    A training that was killed goes on from its last epoch.

    Raises:
        ConfigError: As :func:`prepare` does.
        PipelineError: If a loss, a gradient or an answer is not finite, memory does not do, or
            the graph does not do what torch does.
        UnavailableError: If another process is at the same training.
    """
    start = prepare(
        read_table(manifest.payload, columns=LEARNT_FROM),
        manifest=manifest.record,
        preprocess=preprocess,
        pretrain=pretrain,
        config=config,
    )
    network, course = start.network, start.course
    parameters = config.model_dump() | {"resolved": course.resolved.model_dump()}
    pretrained = {"pretrain": pretrain.record.sha256()} if pretrain.record.handed_on else {}
    key = input_key(
        inputs={
            "manifest": manifest.record.sha256(),
            "preprocess": preprocess.record.sha256(),
            "weights": _weights_hash(network),
            "augmentation": hashlib.sha256(course.augmentation.to_json().encode()).hexdigest(),
        }
        | pretrained,
        parameters=parameters,
        code=CODE,
    )
    checkpoint = ports.checkpoints / key / "epoch.safetensors"
    with (
        taken(checkpoint.parent),
        ports.tracker.training(input_key=key, parameters={"train": parameters}) as run,
    ):

        def on_epoch(figures: EpochFigures, speed: EpochSpeed) -> None:
            run.log_epoch(figures, speed=speed.measures())

        with leading(
            course.resolved.processes,
            _follow,
            manifest,
            preprocess,
            pretrain,
            config,
            checkpoint,
            device=course.resolved.device,
        ) as team:
            fitted = fit(network, course, checkpoint=checkpoint, on_epoch=on_epoch, team=team)
        network.load_state_dict(fitted.weights)
        network.to("cpu").float()
        payload = out / "payload"
        _write_weights(network, spec=start.spec, payload=payload)
        _write_description(manifest, preprocess, fitted=fitted, payload=payload)
        _write_data(manifest, pretrain, payload=payload)
        trained = TrainedModel(
            manifest_sha256=manifest.record.sha256(),
            preprocessed_sha256=preprocess.record.sha256(),
            protocol=manifest.record.protocol,
            recogniser=start.spec,
            labels=manifest.record.label_names,
            parents=manifest.record.parents,
            resolved=course.resolved,
            initial_weights=start.origin,
            pretrained_sha256=pretrained.get("pretrain"),
            n_parameters=sum(parameter.numel() for parameter in network.parameters()),
            best_epoch=fitted.epochs[0],
            averaged_epochs=fitted.epochs if config.averaging == "soup" else (),
            n_batch_parts=fitted.n_parts,
            curves=fitted.curves,
            weights_sha256=file_sha256(payload / "model.safetensors"),
            graph_sha256=file_sha256(payload / "model.onnx"),
            graph_max_error=graph_error(network, course.examples, payload=payload),
        )
        run.finish(trained, payload)
        shutil.rmtree(checkpoint.parent)
    return trained


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a training begins with."""

    spec: RecogniserSpec
    """What the network is."""
    network: Recogniser
    """With its first weights."""
    origin: str
    """Where those of the backbone came from."""
    course: Course
    """What is learnt and how."""


def prepare(
    table: pd.DataFrame,
    *,
    manifest: Manifest,
    preprocess: Stored[Preprocessed],
    pretrain: Stored[Pretrained],
    config: TrainConfig,
) -> Start:
    """Network and course of a training, before its first step.

    Raises:
        ConfigError: If backbone, weights, augmentation or device are not to be had, the
            backbone takes no images of the size or makes too small a map of them for the head,
            or the processes are too many for the images.
    """
    resolved = resolve(
        device=config.device,
        precision=config.precision,
        threads=config.threads,
        processes=config.processes,
    )
    if fault := config.fault_of_batch(resolved.processes):
        raise ConfigError(f"train.{fault}")
    if config.compile:
        check_compiler(resolved.device)
    spec = _specify(manifest, preprocess.record, config=config)
    check_low_size(
        config.backbone, image_size_px=spec.image_size_px, low_size_px=config.low_size_px
    )
    check_cells(spec, low_size_px=config.low_size_px)
    network = build(spec, seed=config.seed)
    origin = _start_from(network, pretrain, config=config)
    network.backbone.freeze(config.frozen_stages)
    if config.checkpoint_activations:
        network.backbone.checkpoint_activations()
    examples = _examples(table, manifest=manifest, payload=preprocess.payload)
    _check_shares(examples, n_processes=resolved.processes)
    sizes_px = {spec.image_size_px, config.low_size_px} - {0}
    course = Course(
        examples=examples,
        recipe=Recipe(**config.model_dump(include={field.name for field in fields(Recipe)})),
        criterion=_criterion(examples, config=config),
        augmentation=augmentation(
            config.augment, erasing=config.erasing, sizes_px=sorted(sizes_px)
        ),
        resolved=resolved,
    )
    return Start(spec=spec, network=network, origin=origin, course=course)


def _follow(
    team: Team,
    manifest: Stored[Manifest],
    preprocess: Stored[Preprocessed],
    pretrain: Stored[Pretrained],
    config: TrainConfig,
    checkpoint: Path,
) -> None:
    """What every other process of a team does."""
    start = prepare(
        read_table(manifest.payload, columns=LEARNT_FROM),
        manifest=manifest.record,
        preprocess=preprocess,
        pretrain=pretrain,
        config=config,
    )
    fit(start.network, start.course, checkpoint=checkpoint, on_epoch=_say_nothing, team=team)


def _say_nothing(figures: EpochFigures, speed: EpochSpeed) -> None:
    """The leader tells."""


def _specify(
    manifest: Manifest, preprocessed: Preprocessed, *, config: TrainConfig
) -> RecogniserSpec:
    scale = normalisation(config.backbone)
    chosen = config.model_dump(include=set(RecogniserSpec.model_fields))
    return RecogniserSpec(
        n_classes=len(manifest.labels),
        image_size_px=preprocessed.image_size_px,
        color_space=preprocessed.color_space,
        mean=scale.mean,
        std=scale.std,
        **chosen,
    )


def _start_from(network: Recogniser, pretrain: Stored[Pretrained], *, config: TrainConfig) -> str:
    """Fill the backbone, with pretrained weights if there are any; tell their origin."""
    pretraining = pretrain.record.pretraining
    if pretraining is None or not pretraining.handed_on:
        return load_weights(network.backbone, weights=config.weights)
    load_weights(network.backbone, weights=str(pretrain.payload / PRETRAINED_FILE))
    return f"{pretrain.record.method} from {pretraining.initial_weights}"


def _examples(table: pd.DataFrame, *, manifest: Manifest, payload: Path) -> Examples:
    names = sorted(set(manifest.parents.values()))
    parents = [names.index(manifest.parents[label]) for label in manifest.label_names if names]
    return Examples(
        pixels=np.load(payload / "images.npy", mmap_mode="r"),
        targets=table["target"].to_numpy(dtype=np.int64),
        n_classes=len(manifest.labels),
        parents=np.array(parents, dtype=np.int64) if names else None,
        train=np.flatnonzero(table["split"] == "train"),
        validation=np.flatnonzero(table["split"] == "validation"),
    )


def _check_shares(examples: Examples, *, n_processes: int) -> None:
    """Refuse processes that would have nothing to do, or nothing to take batch statistics of."""
    for split, rows, least in (
        ("training", examples.train, 2 * n_processes),
        ("validation", examples.validation, n_processes),
    ):
        if len(rows) < least:
            raise ConfigError(
                f"images of the {split} split ({len(rows)}) must be at least {least} for "
                f"train.processes ({n_processes})"
            )


def _criterion(examples: Examples, *, config: TrainConfig) -> Criterion:
    counts = np.bincount(examples.targets[examples.train], minlength=examples.n_classes)
    return create_criterion(
        label_smoothing=config.label_smoothing,
        logit_adjustment=config.logit_adjustment,
        class_counts=counts,
        parents=examples.parents,
        parent_weight=config.parent_weight,
    )


def _weights_hash(network: Recogniser) -> str:
    """Hash of the weights to start from, whatever their file is called."""
    return hashlib.sha256(_serialised(network)).hexdigest()


def _serialised(network: Recogniser) -> bytes:
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    return bytes(save(state))


def _write_weights(network: Recogniser, *, spec: RecogniserSpec, payload: Path) -> None:
    (payload / "model.safetensors").write_bytes(_serialised(network))
    export_graph(network, payload / "model.onnx", image_size_px=spec.image_size_px)
    text = json.dumps(spec.model_dump(mode="json"), indent=2, sort_keys=True)
    (payload / "recogniser.json").write_text(text + "\n")


def _write_description(
    manifest: Stored[Manifest],
    preprocess: Stored[Preprocessed],
    *,
    fitted: Fitted,
    payload: Path,
) -> None:
    labels = {"labels": manifest.record.label_names, "parents": manifest.record.parents}
    (payload / "labels.json").write_text(json.dumps(labels, indent=2, sort_keys=True) + "\n")
    transform = (preprocess.payload / "transform.json").read_text()
    (payload / "transform.json").write_text(transform)
    curves = pd.DataFrame([figures.model_dump() for figures in fitted.curves])
    curves.to_csv(payload / "curves.csv", index=False)


def _write_data(manifest: Stored[Manifest], pretrain: Stored[Pretrained], *, payload: Path) -> None:
    """List the data, and what of them was seen; an image without label is its own group."""
    columns = ["sha256", "label", "group", "split"]
    with (
        (payload / DATA_FILE).open("w", encoding="utf-8", newline="") as data,
        (payload / SEEN_FILE).open("w", encoding="utf-8", newline="") as seen,
    ):
        for number, part in enumerate(read_table_by_parts(manifest.payload, columns=columns)):
            looked_at = part[part["split"].isin(["train", "validation"])]
            header = number == 0
            part[["sha256", "label"]].to_csv(data, index=False, header=header)
            looked_at[["sha256", "group", "split"]].to_csv(seen, index=False, header=header)
        if pretrain.record.handed_on:
            beside = pd.read_csv(pretrain.payload / UNLABELLED_FILE, dtype=str)
            beside = beside.assign(group=beside["sha256"], split="unlabelled")
            beside[["sha256", "group", "split"]].to_csv(seen, index=False, header=False)


def graph_error(network: Recogniser, examples: Examples, *, payload: Path) -> float:
    """Largest difference of a probability between torch and graph, both in float32.

    On at most :data:`N_COMPARED` images, spread over the validation split.

    Raises:
        ParityError: If it is above :data:`MAX_GRAPH_ERROR`.
    """
    n_compared = min(N_COMPARED, len(examples.validation))
    places = np.linspace(0, len(examples.validation) - 1, n_compared).astype(np.int64)
    rows = examples.validation[places]
    batch = next(plain_batches(examples.pixels, rows=rows, batch_size=n_compared))
    expected = softmax(infer(network, iter([batch]), precision="fp32"))
    logits = Predictor.load(payload, precision="f32").logits(batch[0])
    error = float(np.abs(softmax(logits) - expected).max())
    if not error <= MAX_GRAPH_ERROR:
        raise ParityError(
            f"probabilities of the exported graph and of torch differ by {error:g}, allowed is "
            f"{MAX_GRAPH_ERROR:g}"
        )
    return float(f"{error:.1e}")
