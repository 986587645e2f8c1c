"""What the parts of a training cost, each beside the usual way to do the same.

``python -m tests.bench.training_parts FOLDER`` takes the project that
:mod:`tests.bench.training_speed` made in FOLDER (or makes it) and measures, in rounds:

- ``data``: an epoch of the training loop on the memory-mapped images with ``flips``, beside
  the same steps on random images that are in memory already, a batch each: what images cost;
- ``loader``: the batches of an epoch alone, beside Pillow, torchvision's transforms and a
  ``DataLoader`` with two workers doing equal work on the files (decode, resize, flip along
  both axes, normalise). The network normalises within its step here: so the batches are
  also timed with that;
- ``head``: a head's ten epochs on feature maps computed once, beside ten epochs in which a
  frozen backbone computes them again in float32 (which is what ``requires_grad = False``
  comes to), with and without the time of computing them once.

Ratios are of one round each, their median and range are given, of wall time and of
computing. Validation is in none of them.
"""

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from fgpipe.config import TrainConfig, load_params
from fgpipe.images.augmentations import augmentation
from fgpipe.images.batches import steps_per_epoch, training_batches
from fgpipe.images.table import read_table
from fgpipe.nn.backbones import normalisation
from fgpipe.nn.losses import Criterion, create_criterion
from fgpipe.nn.recogniser import Recogniser, build
from fgpipe.records import RecogniserSpec
from fgpipe.training.features import map_images, train_head
from fgpipe.training.hardware import keep_freed_memory, resolve
from fgpipe.training.optimisers import create_optimiser
from fgpipe.training.precision import half_precision
from fgpipe.training.recipe import Examples, Recipe
from fgpipe.training.steps import Stepper, one_hot
from tests.bench.training_speed import (
    N_CLASSES,
    N_WORKERS,
    NETWORKS,
    SIZE_PX,
    make_corpus,
    make_project,
    spread,
)

HEAD_EPOCHS = 10
LEARNING_RATE = 1e-3
AGAIN = "TRAINING_PARTS_AGAIN"
"""Set in the process that measures: started by one in which fgpipe was imported, for OpenMP
reads what that sets when torch is imported, and here torch comes first."""


@dataclass(frozen=True, kw_only=True)
class World:
    """What every part works on."""

    examples: Examples
    folders: Path
    config: TrainConfig
    precision: str
    scratch: Path
    """Folder for what is kept for a while."""

    @property
    def batch_size(self) -> int:
        return self.config.batch_size


@dataclass(frozen=True, kw_only=True)
class Took:
    """What a piece of work took."""

    wall_s: float
    computed_s: float

    def __add__(self, other: "Took") -> "Took":
        return Took(
            wall_s=self.wall_s + other.wall_s, computed_s=self.computed_s + other.computed_s
        )


Work = dict[str, Callable[[], object]]


def timed(work: Callable[[], object]) -> Took:
    """Run it, worker processes included."""
    start, computed = time.perf_counter(), _computed()
    work()
    return Took(wall_s=time.perf_counter() - start, computed_s=_computed() - computed)


def _computed() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def network_of(world: World) -> Recogniser:
    """A network with random weights."""
    scale = normalisation(world.config.backbone)
    chosen = world.config.model_dump(include=set(RecogniserSpec.model_fields))
    spec = RecogniserSpec(
        n_classes=N_CLASSES, image_size_px=SIZE_PX, mean=scale.mean, std=scale.std, **chosen
    )
    return build(spec, seed=0).to(memory_format=torch.channels_last)


def criterion_of(world: World) -> Criterion:
    """Cross-entropy, smoothed."""
    return create_criterion(
        label_smoothing=0.1,
        logit_adjustment=0.0,
        class_counts=np.bincount(world.examples.targets, minlength=N_CLASSES),
        parents=None,
        parent_weight=0.0,
    )


def batches_of(world: World, *, epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The batches of an epoch, as the training loop has them."""
    return training_batches(
        world.examples.pixels,
        rows=world.examples.train,
        batch_size=world.batch_size,
        augmentation=augmentation("flips"),
        seed=0,
        epoch=epoch,
    )


def data(world: World) -> Work:
    """Steps on the project's images, and on what is in memory."""
    network = network_of(world)
    optimiser = create_optimiser(
        network,
        name="adamw",
        learning_rate=LEARNING_RATE,
        backbone_rate=1.0,
        layer_decay=1.0,
        weight_decay=0.01,
    )
    stepper = Stepper(
        network=network,
        optimiser=optimiser,
        criterion=criterion_of(world),
        precision=world.precision,
        clip_norm=0.0,
        keep_in=world.scratch,
    )
    generator = torch.Generator().manual_seed(0)
    n_steps = steps_per_epoch(len(world.examples.train), batch_size=world.batch_size)
    shape = (world.batch_size, SIZE_PX, SIZE_PX, 3)
    ready = [
        torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8) for _ in range(n_steps)
    ]
    rows = np.array_split(world.examples.train, n_steps)

    def step(images: Tensor, chosen: np.ndarray) -> None:
        targets = torch.from_numpy(world.examples.targets[chosen])
        stepper.step(images, one_hot(targets, n_classes=N_CLASSES))

    def mapped() -> None:
        network.train()
        for images, chosen in batches_of(world, epoch=1):
            step(torch.from_numpy(images), chosen)

    def in_memory() -> None:
        network.train()
        for images, chosen in zip(ready, rows, strict=True):
            step(images[: len(chosen)], chosen)

    step(ready[0], world.examples.train[: world.batch_size])  # the first one allocates
    return {"on random images in memory": in_memory, "on the project's images": mapped}


def loader(world: World) -> Work:
    """Batches of the memory map, and of files."""
    scale = normalisation(world.config.backbone)
    steps = [
        transforms.Resize((SIZE_PX, SIZE_PX)),
        transforms.RandomHorizontalFlip(),
        transforms.RandomVerticalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(scale.mean, scale.std),
    ]
    folder = ImageFolder(world.folders / "train", transforms.Compose(steps))
    network = network_of(world)

    def files() -> None:
        for _ in DataLoader(
            folder, batch_size=world.batch_size, shuffle=True, num_workers=N_WORKERS
        ):
            pass

    def mapped() -> None:
        for _ in batches_of(world, epoch=1):
            pass

    def normalised() -> None:
        for images, _ in batches_of(world, epoch=1):
            network.pixels(torch.from_numpy(images))

    return {
        "memory map, flips": mapped,
        "the same, normalised": normalised,
        "files, Pillow, torchvision, 2 workers": files,
    }


def head(world: World) -> Work:
    """A head's epochs on maps, and behind a frozen backbone."""
    network = network_of(world)
    criterion = criterion_of(world)
    recipe = Recipe(
        **world.config.model_copy(update={"head_epochs": HEAD_EPOCHS}).model_dump(
            include=set(Recipe.__dataclass_fields__)
        )
    )
    file = world.scratch / "features.f16"

    def map_once() -> None:
        map_images(network, world.examples, precision=world.precision, seed=0, file=file)

    # Mapped once more, so that either part can be timed alone.
    features = map_images(
        network,
        world.examples,
        precision=world.precision,
        seed=0,
        file=world.scratch / "kept.f16",
    )

    def on_maps() -> None:
        train_head(
            network,
            features,
            recipe=recipe,
            criterion=criterion,
            precision=world.precision,
            n_classes=N_CLASSES,
            keep_in=None,
        )

    def behind_frozen() -> None:
        network.backbone.eval()
        network.head.train()
        optimiser = torch.optim.AdamW(network.head.parameters(), lr=LEARNING_RATE)
        for epoch in range(1, HEAD_EPOCHS + 1):
            for images, rows in batches_of(world, epoch=epoch):
                targets = torch.from_numpy(world.examples.targets[rows])
                with torch.no_grad(), half_precision(torch.device("cpu"), "fp32"):
                    maps = network.features(torch.from_numpy(images))
                loss = network.head.loss(
                    maps, one_hot(targets, n_classes=N_CLASSES), criterion=criterion
                )
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()

    return {
        "mapping once": map_once,
        f"{HEAD_EPOCHS} epochs on maps": on_maps,
        f"{HEAD_EPOCHS} epochs behind the frozen backbone": behind_frozen,
    }


PARTS: dict[str, Callable[[World], Work]] = {"data": data, "loader": loader, "head": head}


def measure(part: str, world: World, *, n_rounds: int) -> None:
    """Print the table of one part."""
    works = PARTS[part](world)
    rounds: list[dict[str, Took]] = [
        {name: timed(work) for name, work in works.items()} for _ in range(n_rounds)
    ]
    print(f"\n{part}, {world.config.backbone}, {world.precision}", flush=True)
    names = list(works)
    if part == "head":
        once, alone, _ = names
        names.insert(2, "both")
        for each in rounds:
            each["both"] = each[once] + each[alone]
    *_, slowest = works
    reference = names[0] if part == "data" else slowest
    for name in names:
        walls = [each[name].wall_s for each in rounds]
        computed = [each[name].computed_s for each in rounds]
        line = f"{name:42}{spread(walls, 2):>22} s {spread(computed, 2):>22} s computing"
        if name != reference:
            line += _against(rounds, name=name, reference=reference, slower=part == "data")
        print(line, flush=True)


def _against(rounds: Sequence[dict[str, Took]], *, name: str, reference: str, slower: bool) -> str:
    pairs = [(each[name], each[reference]) for each in rounds]
    if slower:
        over = [100 * (own.wall_s / other.wall_s - 1) for own, other in pairs]
        of_computing = [100 * (own.computed_s / other.computed_s - 1) for own, other in pairs]
        return f"  {spread(over, 1)} % over, {spread(of_computing, 1)} % of computing"
    times = [other.wall_s / own.wall_s for own, other in pairs]
    of_computing = [other.computed_s / own.computed_s for own, other in pairs]
    return f"  {spread(times, 1)} times as fast, {spread(of_computing, 1)} of computing"


def world_of(folder: Path, *, network: str, scratch: Path, n_images: int, threads: int) -> World:
    """The project in ``folder``, made where it is not there."""
    root = folder / f"project-{network}"
    payload = root / "data" / "03_preprocess" / "payload"
    if not (payload / "images.npy").exists():
        files = make_corpus(folder, n_images=n_images)
        make_project(root, files, n_images=n_images, network=network, batch_size=32)
    table = read_table(root / "data" / "01_manifest" / "payload")
    config = load_params(root / "params.yaml").train
    resolved = resolve(device="cpu", precision="auto", threads=threads or "auto")
    torch.set_num_threads(resolved.threads)
    return World(
        examples=Examples(
            pixels=np.load(payload / "images.npy", mmap_mode="r"),
            targets=table["target"].to_numpy(dtype=np.int64),
            n_classes=N_CLASSES,
            parents=None,
            train=np.flatnonzero(table["split"] == "train"),
            validation=np.flatnonzero(table["split"] == "validation"),
        ),
        folders=folder / "folders",
        config=config,
        precision=resolved.precision,
        scratch=scratch,
    )


def main() -> None:
    """Print one table for each part and network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="that of tests.bench.training_speed")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--networks", nargs="+", default=NETWORKS, choices=NETWORKS)
    parser.add_argument("--images", type=int, default=1000, help="where the project is made")
    parser.add_argument("--rounds", type=int, default=3, help="figures are medians of so many")
    parser.add_argument("--threads", type=int, default=0, help="0: one a core, as shipped")
    arguments = parser.parse_args()
    if AGAIN not in os.environ:
        os.environ[AGAIN] = "1"
        os.execv(sys.executable, [sys.executable, "-m", __spec__.name, *sys.argv[1:]])
    keep_freed_memory()  # as training does
    for network in arguments.networks:
        with tempfile.TemporaryDirectory() as scratch:
            world = world_of(
                arguments.folder.resolve(),
                network=network,
                scratch=Path(scratch),
                n_images=arguments.images,
                threads=arguments.threads,
            )
            for part in arguments.parts:
                measure(part, world, n_rounds=arguments.rounds)


if __name__ == "__main__":
    main()
