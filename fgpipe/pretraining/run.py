"""The work of stage 04 where a method is chosen: apart, since it imports torch and lightly."""

import hashlib
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.torch import save
from torch import Tensor

from fgpipe.config import PretrainConfig
from fgpipe.errors import DataError
from fgpipe.images.table import read_table
from fgpipe.images.transforms import Preprocessing
from fgpipe.images.views import view_augmentation
from fgpipe.nn.backbones import PRETRAINED_FILE, check_views_size
from fgpipe.nn.initial_weights import load_weights
from fgpipe.pretraining.bake_off import bake_off
from fgpipe.pretraining.checkpoint import CODE
from fgpipe.pretraining.encoder import build_encoder
from fgpipe.pretraining.images import Pool, Unlabelled, decode_unlabelled, find_unlabelled
from fgpipe.pretraining.loop import Course, Learnt, Recipe, learn
from fgpipe.pretraining.methods import MethodName, create_learner
from fgpipe.pretraining.probes import (
    MAX_KNOWN,
    MAX_KNOWN_EACH_EPOCH,
    Probe,
    with_fewer_known,
)
from fgpipe.records import (
    Manifest,
    Preprocessed,
    Pretraining,
    Stored,
    file_sha256,
)
from fgpipe.serving.seen import UNLABELLED_FILE
from fgpipe.training.checkpoint import taken
from fgpipe.training.hardware import resolve
from fgpipe.training.input_key import input_key


def run_pretraining(
    manifest: Stored[Manifest],
    preprocess: Stored[Preprocessed],
    *,
    method: MethodName,
    unlabelled: Path,
    config: PretrainConfig,
    payload: Path,
    checkpoints: Path,
) -> Pretraining:
    """Let a backbone learn without labels, and hand it on if that made it no worse.

    One that was killed goes on from its last epoch.

    Args:
        manifest: Its training split is learnt from, its validation split only looked at.
        preprocess: Its images.
        method: How to learn.
        unlabelled: Folder of further images.
        config: All else.
        payload: Folder to write to.
        checkpoints: Folder for what a killed one resumes from.

    Raises:
        ConfigError: If backbone, weights or device are not to be had, or the backbone takes
            no images or views of the sizes.
        DataError: If an image without label cannot be read.
        PipelineError: If the loss is not finite, or memory does not do for a batch.
        UnavailableError: If another process is at the same pretraining.
    """
    table = read_table(manifest.payload)
    resolved = resolve(
        device=config.device,
        precision=config.precision,
        threads=config.threads,
        section="pretrain",
        further=("lightly", "scikit-learn"),
    )
    size_px = preprocess.record.image_size_px
    encoder = build_encoder(
        config.backbone,
        image_size_px=size_px,
        seed=config.seed,
        color_space=preprocess.record.color_space,
    )
    check_views_size(config.backbone, image_size_px=size_px, views_px=config.image_size_px)
    origin = load_weights(encoder.backbone, weights=config.weights)
    before = {name: value.clone() for name, value in encoder.backbone.network.state_dict().items()}
    beside = (
        find_unlabelled(unlabelled, known=frozenset(table["sha256"]))
        if config.unlabelled
        else Unlabelled(paths={}, n_left_out=0)
    )
    key = input_key(
        inputs={
            "manifest": manifest.record.sha256(),
            "preprocess": preprocess.record.sha256(),
            "unlabelled": _digest(beside.paths),
            "weights": hashlib.sha256(save(before)).hexdigest(),
        },
        parameters=config.model_dump() | {"resolved": resolved.model_dump()},
        code=CODE,
    )
    folder = checkpoints / key
    probe = _probe(table, preprocess)
    if len(probe.known) + len(beside.paths) < 2:
        raise DataError(
            "pretraining has one image to learn from, and needs two at least; add images to "
            "data/raw or data/unlabelled, or set pretrain.method to none"
        )
    with taken(folder):
        course = Course(
            images=_pool(probe, preprocess, beside, folder=folder),
            augmentation=view_augmentation(
                size_px=config.image_size_px,
                min_scale=config.min_scale,
                jitter=config.jitter,
                blur=config.blur,
            ),
            probe=with_fewer_known(probe, at_most=MAX_KNOWN_EACH_EPOCH, seed=config.seed),
            recipe=Recipe(**config.model_dump(include={field.name for field in fields(Recipe)})),
            resolved=resolved,
        )
        learner = create_learner(method, encoder, momentum=config.momentum, seed=config.seed)
        learnt = learn(learner, course, checkpoint=folder / "epoch.safetensors")
        verdict = bake_off(
            learner.learnt,
            with_fewer_known(probe, at_most=MAX_KNOWN, seed=config.seed),
            before=before,
            after=learnt.weights,
            precision=resolved.precision,
        )
        _write(learnt, payload=payload, hashes=beside.paths if verdict.handed_on else None)
        shutil.rmtree(folder)
    return Pretraining(
        manifest_sha256=manifest.record.sha256(),
        preprocessed_sha256=preprocess.record.sha256(),
        backbone=config.backbone,
        initial_weights=origin,
        n_train_images=len(course.images) - len(beside.paths),
        n_unlabelled_images=len(beside.paths),
        n_left_out=beside.n_left_out,
        resolved=resolved,
        curves=learnt.curves,
        collapsed=learnt.collapsed,
        kept_epoch=learnt.epoch,
        before=verdict.before,
        after=verdict.after,
        handed_on=verdict.handed_on,
        reason=verdict.reason,
        weights_sha256=file_sha256(payload / PRETRAINED_FILE) if verdict.handed_on else None,
    )


def _digest(hashes: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _probe(table: pd.DataFrame, preprocess: Stored[Preprocessed]) -> Probe:
    """All of the training split known, all of validation asked."""
    known, asked = (np.flatnonzero(table["split"] == split) for split in ("train", "validation"))
    targets = table["target"].to_numpy(dtype=np.int64)
    return Probe(
        pixels=np.load(preprocess.payload / "images.npy", mmap_mode="r"),
        targets=targets,
        n_classes=1 + int(targets.max()),
        known=known,
        asked=asked,
    )


def _pool(
    probe: Probe, preprocess: Stored[Preprocessed], beside: Unlabelled, *, folder: Path
) -> Pool:
    """The training split, and the images without labels, decoded into ``folder``."""
    transform = Preprocessing.from_json((preprocess.payload / "transform.json").read_text())
    file = folder / "unlabelled.npy"
    return Pool(
        labelled=probe.pixels,
        train=probe.known,
        unlabelled=decode_unlabelled(beside, transform=transform, file=file)
        if beside.paths
        else None,
    )


def _write(learnt: Learnt, *, payload: Path, hashes: Mapping[str, Path] | None) -> None:
    """The curves, and what is handed on, if it is."""
    curves = pd.DataFrame([figures.model_dump() for figures in learnt.curves])
    curves.to_csv(payload / "curves.csv", index=False)
    if hashes is None:
        return
    weights: dict[str, Tensor] = {
        name: value.contiguous() for name, value in learnt.weights.items()
    }
    (payload / PRETRAINED_FILE).write_bytes(save(weights))
    pd.DataFrame({"sha256": list(hashes)}).to_csv(payload / UNLABELLED_FILE, index=False)
