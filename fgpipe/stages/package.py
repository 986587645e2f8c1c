"""08 package: a folder that serves with nothing else.

It depends on the trained model and on the candidate's own part of the evaluation, so that
neither a verdict nor the champion of the day is in it: the same model is the same bundle.
Its probe is what evaluation found; a bundle that does not give it is not made.
"""

import shutil
from pathlib import Path

from fgpipe.config import PackageConfig
from fgpipe.errors import NotReadyError
from fgpipe.images.table import read_table
from fgpipe.images.transforms import Preprocessing
from fgpipe.nn.embedder import create_embedder
from fgpipe.ports import Ports
from fgpipe.records import Bundle, Manifest, Stored, TrainedModel, file_sha256
from fgpipe.serving.bundle import (
    BUNDLE_FILE,
    CALIBRATION_FILE,
    CARD_FILE,
    FROM_TRAINING,
    PROBE_FILE,
    PROBE_FOLDER,
    Calibration,
    Probe,
    check_probe,
    seal_bundle,
)
from fgpipe.serving.data_profile import PROFILE_FILE, profile_of
from fgpipe.serving.model_card import render_model_card
from fgpipe.serving.predictor import Predictor


def package(
    *,
    raw: Path,
    manifest: Stored[Manifest],
    train: Stored[TrainedModel],
    candidate: Path,
    config: PackageConfig,
    out: Path,
    ports: Ports,
) -> Bundle:
    """Compose the bundle and hold it to its probe.

    Raises:
        NotReadyError: If the evaluation is of another model, or an image of the probe is
            not what it was.
        ParityError: If the bundle does not give what evaluation found.
    """
    del ports  # nothing is asked of the world: a cache of embeddings could change bytes
    calibration = Calibration.load(candidate / CALIBRATION_FILE)
    train_sha256 = train.record.sha256()
    if calibration.train_sha256 != train_sha256:
        raise NotReadyError("the evaluation is of another model; `dvc repro evaluate`")
    folder = out / "payload"
    for name in FROM_TRAINING:
        shutil.copyfile(train.payload / name, folder / name)
    calibration.save(folder / CALIBRATION_FILE)
    _copy_probe(Probe.load(candidate / PROBE_FILE), raw=raw, folder=folder)
    profile = profile_of(
        read_table(manifest.payload),
        raw=raw,
        n_sample=config.profile_sample,
        embedder=create_embedder(None),
    )
    profile.save(folder / PROFILE_FILE)
    card = render_model_card(
        name=config.name,
        description=config.description,
        license_=config.license,
        manifest=manifest.record,
        trained=train.record,
        calibration=calibration,
        uses_box=Preprocessing.from_json((folder / "transform.json").read_text()).uses_box,
    )
    (folder / CARD_FILE).write_text(card, encoding="utf-8")
    description = seal_bundle(
        folder,
        facts={
            "name": config.name,
            "description": config.description,
            "license": config.license,
            "train_sha256": train_sha256,
            "protocol": train.record.protocol,
            "labels": train.record.labels,
            "parents": train.record.parents,
            "image_size_px": train.record.recogniser.image_size_px,
            "precision": calibration.precision,
            "runtime": calibration.runtime,
        },
    )
    check_probe(Predictor.load(folder), folder)
    files = {**description.files, BUNDLE_FILE: description.sha256()}
    return Bundle(
        bundle_sha256=description.bundle_sha256,
        train_sha256=train_sha256,
        name=config.name,
        files=files,
        n_bytes=sum((folder / name).stat().st_size for name in files),
    )


def _copy_probe(probe: Probe, *, raw: Path, folder: Path) -> None:
    """Bring the probe's images into the bundle, named by their content."""
    (folder / PROBE_FOLDER).mkdir()
    images = []
    for image in probe.images:
        source = raw / image.file
        if not source.is_file() or file_sha256(source) != image.sha256:
            raise NotReadyError(f"{image.file} is not the image evaluated; `dvc repro evaluate`")
        name = f"{PROBE_FOLDER}/{image.sha256[:16]}{source.suffix.lower()}"
        shutil.copyfile(source, folder / name)
        images.append(image.model_copy(update={"file": name}))
    Probe(images=tuple(images)).save(folder / PROBE_FILE)
