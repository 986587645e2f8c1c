"""How long a training takes as a whole process, beside what else a user would run.

``python -m tests.bench.training_speed FOLDER`` makes 1,000 training and 200 validation
images once (the crops of :mod:`tests.bench.data_in`, in ten classes; beside them 100 images
for fgpipe's calibration and test splits), as class folders and as projects of fgpipe whose
stages up to ``preprocess`` have run, and times, in rounds, A B C A B C:

- ``python -m fgpipe train`` as it is shipped (MLflow, checkpoints, exported graph, parity),
  but for the network, its random weights, no frozen stages and the number of epochs; the same
  with the stages frozen that the shipped recipe freezes, as who fine-tunes would; and
  ``python -m fgpipe preprocess``, which is run once, before any number of trainings;
- timm's and torchvision's training scripts, where ``--scripts`` names a folder with
  ``timm/train.py`` and ``torchvision/train.py`` (and the modules beside it);
- fastai, Lightning and ultralytics, where ``--peer NAME=PYTHON`` names an interpreter that
  has them; none of them is a dependency of the project, and none is imported by it.

All get the same files, 224 px, the same batch size and epochs, weights from scratch, two
worker processes, and what else is each one's default; "bf16" is the same with that
precision, where the peer offers it on the CPU. Ratios are of one round each; median and range
are given, of wall time and of computing (user and system time of the process and of those
it waited for).
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from tests.bench.data_in import crops
from tests.support.params import change_params

ROOT = Path(__file__).parents[2]
PEERS = Path(__file__).parent / "peers"
NETWORKS = ("resnet18", "tf_efficientnet_lite0")
N_CLASSES = 10
SHARES = {"train": 1.0, "validation": 0.2, "calibration": 0.05, "test": 0.05}
"""Images in a split, as a share of those trained on."""
FOLDERS = {"train": "train", "validation": "val"}
SIZE_PX = 224
N_WORKERS = 2
SETTINGS = ("FGPIPE_", "MLFLOW_", "OMP_", "MKL_", "OPENBLAS_", "PYTHON")
"""Starts of environment variables that no process is given, so that each has its defaults."""
FULL = {"weights": "scratch", "frozen_stages": 0, "backbone_rate": 1.0, "head": "linear"}


@dataclass(frozen=True, kw_only=True)
class Task:
    """What all are asked to do."""

    network: str
    epochs: int
    n_images: int
    """Trained on."""
    batch_size: int
    folder: Path
    """Of class folders, projects and what the peers write."""

    @property
    def folders(self) -> Path:
        return self.folder / "folders"

    @property
    def project(self) -> Path:
        return self.folder / f"project-{self.network}"


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A process to be timed."""

    name: str
    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Took:
    """What a process took."""

    wall_s: float
    computed_s: float


def splits(n_images: int) -> list[str]:
    """The split of each image."""
    return [split for split, share in SHARES.items() for _ in range(round(share * n_images))]


def class_of(number: int) -> str:
    """The class of an image."""
    return f"class{number % N_CLASSES}"


def make_corpus(folder: Path, *, n_images: int) -> list[Path]:
    """The images, in ``folder/corpus``, and links to them in class folders."""
    split_of = splits(n_images)
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    files = [corpus / f"{number:05d}.jpg" for number in range(len(split_of))]
    there = sum(1 for _ in corpus.iterdir())
    for number, content in enumerate(crops(there, len(files)), there):
        files[number].write_bytes(content)
    shutil.rmtree(folder / "folders", ignore_errors=True)
    for number, (file, split) in enumerate(zip(files, split_of, strict=True)):
        if split in FOLDERS:
            link(file, folder / "folders" / FOLDERS[split] / class_of(number))
    return files


def link(file: Path, folder: Path) -> Path:
    """Have the same file in a folder too."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / file.name
    if not target.exists():
        os.link(file, target)
    return target


def make_project(
    root: Path, files: Sequence[Path], *, n_images: int, network: str, batch_size: int
) -> None:
    """A project of these images in the splits of the others; stages before train are run."""
    from fgpipe.images.groups_file import GROUPS_NAME, GroupRow, groups_text
    from fgpipe.images.labels_file import LABELS_NAME, LabelledImage, labels_text
    from fgpipe.intake.profiling import write_expectations
    from fgpipe.records import file_sha256

    shutil.rmtree(root, ignore_errors=True)
    raw = root / "data" / "raw"
    labelled, rows = [], []
    for number, (file, split) in enumerate(zip(files, splits(n_images), strict=True)):
        label, sha256 = class_of(number), file_sha256(file)
        path = link(file, raw / "images" / label).relative_to(raw).as_posix()
        labelled.append(
            LabelledImage(
                path=path,
                label=label,
                parent=None,
                group=None,
                attributes={},
                split=split,  # type: ignore[arg-type]
            )
        )
        rows.append(GroupRow(sha256=sha256, group=sha256, batch=1, stratum=label, status="active"))
    (raw / LABELS_NAME).write_text(labels_text(labelled))
    (raw / GROUPS_NAME).write_text(groups_text(sorted(rows, key=lambda row: row.sha256)))
    (root / "data" / "baseline.json").write_text("null\n")
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, root)
    write_expectations(root / "data" / "expectations.yaml", table=None, force=True)
    change_params(
        root,
        manifest={"protocol": "given"},
        preprocess={"image_size_px": SIZE_PX},
        train={**FULL, "backbone": network, "batch_size": batch_size, "augment": "flips"},
    )
    for stage in ("manifest", "validate", "preprocess", "pretrain"):
        run(fgpipe(stage, root), log=root / f"{stage}.log")
    # A project has one database, made before its first training.
    program = "import sys, pathlib as p; from fgpipe.adapters.mlflow_store import connect; "
    command = [sys.executable, "-c", f"{program}connect(p.Path(sys.argv[1]))", str(root)]
    made = Contestant(name="MLflow's database", command=command, folder=root, environment=ours())
    took = run(made, log=root / "database.log")
    print(f"{root.name}: MLflow's database made in {took.wall_s:.1f} s", flush=True)


def ours() -> dict[str, str]:
    """Has this checkout's code imported, wherever a process is started."""
    return {"PYTHONPATH": str(ROOT)}


def fgpipe(stage: str, root: Path) -> Contestant:
    """A stage of a project."""
    command = [sys.executable, "-m", "fgpipe", stage]
    return Contestant(name=f"fgpipe {stage}", command=command, folder=root, environment=ours())


def contestants(
    task: Task, *, scripts: Path | None, pythons: Mapping[str, Path]
) -> Iterator[Contestant | str]:
    """Who takes part, and sentences on who does not."""
    change_params(task.project, train={"epochs": task.epochs, "patience": task.epochs})
    yield fgpipe("preprocess", task.project)
    yield fgpipe("train", task.project)
    yield with_frozen_stages(task)
    if scripts is None:
        yield "timm's and torchvision's scripts are left out: no --scripts"
    else:
        yield from with_timm(task, scripts / "timm" / "train.py")
        yield with_torchvision(task, scripts / "torchvision" / "train.py")
    for name, peer in (
        ("fastai", with_fastai),
        ("lightning", with_lightning),
        ("ultralytics", with_ultralytics),
    ):
        if name in pythons:
            yield from peer(task, pythons[name])
        else:
            yield f"{name} is left out: no --peer {name}=PYTHON"


def with_frozen_stages(task: Task) -> Contestant:
    """The same training in a copy of the project that freezes what the shipped recipe does.

    Its weights are drawn too, but come from a file: fgpipe freezes none that it draws.
    """
    from safetensors.torch import save_file
    from timm import create_model

    root = task.folder / f"frozen-{task.network}"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(task.project, root)
    save_file(create_model(task.network, num_classes=0).state_dict(), root / "drawn.safetensors")
    n_stages = yaml.safe_load((ROOT / "params.yaml").read_text())["train"]["frozen_stages"]
    change_params(root, train={"frozen_stages": n_stages, "weights": "drawn.safetensors"})
    name = f"fgpipe train, {n_stages} stages frozen"
    return replace(fgpipe("train", root), name=name)


def with_timm(task: Task, script: Path) -> Iterator[Contestant]:
    """timm's script."""
    size = ["--input-size", "3", str(SIZE_PX), str(SIZE_PX)]
    options = {
        "--data-dir": task.folders,
        "--val-split": "val",
        "--model": task.network,
        "--num-classes": N_CLASSES,
        "--batch-size": task.batch_size,
        "--epochs": task.epochs,
        "--workers": N_WORKERS,
        "--device": "cpu",
        "--output": out(task, "timm"),
    }
    command = [sys.executable, str(script), *flat(options), *size]
    yield Contestant(name="timm", command=command, folder=task.folder)
    bf16 = [*command, "--amp", "--amp-dtype", "bfloat16", "--channels-last"]
    yield Contestant(name="timm, bf16, channels last", command=bf16, folder=task.folder)


def with_torchvision(task: Task, script: Path) -> Contestant | str:
    """torchvision's script; its mixed precision is for GPUs."""
    if task.network not in torchvision_networks():
        return f"torchvision's script is left out: it has no {task.network}"
    options = {
        "--data-path": task.folders,
        "--model": task.network,
        "--batch-size": task.batch_size,
        "--epochs": task.epochs,
        "--workers": N_WORKERS,
        "--device": "cpu",
        "--output-dir": out(task, "torchvision"),
    }
    command = [sys.executable, str(script), *flat(options)]
    return Contestant(name="torchvision", command=command, folder=task.folder)


def torchvision_networks() -> list[str]:
    """What torchvision calls its classifiers."""
    from torchvision.models import list_models

    return list(list_models())


def with_fastai(task: Task, python: Path) -> Iterator[Contestant]:
    """fastai; its mixed precision is for GPUs."""
    command = [str(python), str(PEERS / "fastai_train.py"), *common(task, "fastai")]
    yield Contestant(name="fastai", command=command, folder=task.folder)


def with_lightning(task: Task, python: Path) -> Iterator[Contestant]:
    """Lightning."""
    command = [str(python), str(PEERS / "lightning_train.py"), *common(task, "lightning")]
    yield Contestant(name="lightning", command=command, folder=task.folder)
    bf16 = [*command, "--precision", "bf16-mixed"]
    yield Contestant(name="lightning, bf16", command=bf16, folder=task.folder)


def with_ultralytics(task: Task, python: Path) -> Iterator[Contestant | str]:
    """ultralytics' command, with its ResNet-18; its mixed precision is for GPUs."""
    if task.network != "resnet18":
        yield f"ultralytics is left out: it has no {task.network}"
        return
    found = python.parents[1].glob("lib/*/site-packages/ultralytics/cfg/models/11/*-resnet18.yaml")
    description = yaml.safe_load(next(found).read_text())
    for _, _, _, arguments in description["backbone"]:
        arguments[arguments.index("DEFAULT")] = None  # the weights, which it would download
    file = task.folder / "yolo11-cls-resnet18.yaml"
    file.write_text(yaml.safe_dump(description))
    options = {
        "model": file,
        "data": task.folders,
        "epochs": task.epochs,
        "imgsz": SIZE_PX,
        "batch": task.batch_size,
        "workers": N_WORKERS,
        "device": "cpu",
        "pretrained": False,
        "plots": False,  # it would download a font
        "project": out(task, "ultralytics"),
    }
    arguments = [f"{name}={value}" for name, value in options.items()]
    yield Contestant(
        name="ultralytics",
        command=[str(python.parent / "yolo"), "classify", "train", *arguments],
        folder=task.folder,
        environment={"YOLO_CONFIG_DIR": str(out(task, "yolo")), "YOLO_OFFLINE": "true"},
    )


def out(task: Task, name: str) -> Path:
    """Where a peer writes."""
    return task.folder / "out" / name


def common(task: Task, name: str) -> list[str]:
    """Arguments of the programs in ``peers``."""
    options = {
        "--network": task.network,
        "--epochs": task.epochs,
        "--size-px": SIZE_PX,
        "--batch-size": task.batch_size,
        "--workers": N_WORKERS,
    }
    return [str(task.folders), str(out(task, name)), *flat(options)]


def flat(options: Mapping[str, object]) -> list[str]:
    """Options as a command takes them."""
    return [text for name, value in options.items() for text in (name, str(value))]


def run(contestant: Contestant, *, log: Path) -> Took:
    """Run a process to its end."""
    kept = {name: v for name, v in os.environ.items() if not name.startswith(SETTINGS)}
    log.parent.mkdir(parents=True, exist_ok=True)
    start, computed = time.monotonic(), children_computed()
    with log.open("w") as file:
        done = subprocess.run(
            contestant.command,
            cwd=contestant.folder,
            env={**kept, **contestant.environment},
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    took = Took(wall_s=time.monotonic() - start, computed_s=children_computed() - computed)
    if done.returncode:
        raise SystemExit(f"{contestant.name} failed, see {log}:\n{log.read_text()[-2000:]}")
    return took


def children_computed() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(
    task: Task,
    *,
    scripts: Path | None,
    pythons: Mapping[str, Path],
    only: Sequence[str],
    n_rounds: int,
) -> None:
    """Print the table of one task."""
    print(
        f"\n{task.network}, {task.epochs} epoch(s), {task.n_images:,} + "
        f"{round(SHARES['validation'] * task.n_images)} images at {SIZE_PX} px, batches of "
        f"{task.batch_size}, {os.cpu_count()} cores, {n_rounds} round(s)",
        flush=True,
    )
    everyone = list(contestants(task, scripts=scripts, pythons=pythons))
    for absent in everyone:
        if isinstance(absent, str):
            print(absent, flush=True)
    present = [each for each in everyone if isinstance(each, Contestant)]
    if only:
        present = [each for each in present if each.name.startswith(tuple(only))]
    took: dict[str, list[Took]] = {each.name: [] for each in present}
    for number in range(n_rounds):
        shutil.rmtree(task.folder / "out", ignore_errors=True)
        for each in present:
            log = task.folder / "logs" / f"{task.network}-{task.epochs}-{each.name}.txt"
            took[each.name].append(run(each, log=log))
            latest = took[each.name][-1]
            print(
                f"  round {number + 1}: {each.name} {latest.wall_s:.1f} s, "
                f"{latest.computed_s:.1f} computing",
                file=sys.stderr,
                flush=True,
            )
    print(f"{'':32}{'wall s':22}{'computing s':22}{'times fgpipe train':22}of computing")
    reference = took.get("fgpipe train")
    for name, values in took.items():
        walls, computed = [v.wall_s for v in values], [v.computed_s for v in values]
        row = f"{name:32}{spread(walls, 1):22}{spread(computed, 1):22}"
        if reference is not None:
            pairs = list(zip(values, reference, strict=True))
            row += f"{spread([v.wall_s / r.wall_s for v, r in pairs], 2):22}"
            row += spread([v.computed_s / r.computed_s for v, r in pairs], 2)
        print(row, flush=True)


def spread(values: Sequence[float], digits: int) -> str:
    """Median and range."""
    middle = f"{statistics.median(values):.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def main() -> None:
    """Make what is not there, and print one table for each network and number of epochs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where images and projects are made and kept")
    parser.add_argument("--scripts", type=Path, help="folder with timm/ and torchvision/")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--networks", nargs="+", default=NETWORKS, choices=NETWORKS)
    parser.add_argument("--images", type=int, default=1000, help="to train on; 200 or more")
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3, help="figures are medians of so many")
    parser.add_argument(
        "--only", nargs="+", default=[], help="starts of names, to leave others out"
    )
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    pythons = {name: Path(python) for name, python in (p.split("=", 1) for p in arguments.peer)}
    files = make_corpus(folder, n_images=arguments.images)
    for network in arguments.networks:
        make_project(
            folder / f"project-{network}",
            files,
            n_images=arguments.images,
            network=network,
            batch_size=arguments.batch_size,
        )
        for epochs in arguments.epochs:
            task = Task(
                network=network,
                epochs=epochs,
                n_images=arguments.images,
                batch_size=arguments.batch_size,
                folder=folder,
            )
            measure(
                task,
                scripts=arguments.scripts and arguments.scripts.resolve(),
                pythons=pythons,
                only=arguments.only,
                n_rounds=arguments.rounds,
            )


if __name__ == "__main__":
    main()
