"""The recipe that ships beside fastai's quick start, at equal weights, epochs and images.

``python -m tests.bench.default_recipes --peer PYTHON`` trains both on the demo's random splits
(those of :mod:`tests.bench.demo_protocols`), from the packaged ImageNet weights of
EfficientNet-Lite2; PYTHON is an interpreter that has fastai, which is no dependency of the
project. Both are as they come but for the number of epochs and the size of the images:
fastai's ``fine_tune`` with ``aug_transforms``, of whose epochs the first is the head's alone. A
probability of functional or defective is the sum of those of its labels.

Differences are of the same test images; their intervals resample images, each with all its
splits (2,000 times). The time of fgpipe is that of all its stages from the manifest to the
evaluation, that of fastai that of its process, which ends with the predictions. ``--fewer N``
trains fgpipe a second time, for N epochs: how soon it is as good as fastai at its end.
"""

import argparse
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml

from fgpipe.images.table import read_table
from fgpipe.metrics.bootstrap import bootstrap
from fgpipe.nn.initial_weights import packaged_state
from tests.bench.demo_protocols import ROOT, STAGES, run_stages, start_project, variants
from tests.bench.training_speed import flat

PEER = Path(__file__).parent / "peers" / "fastai_finetune.py"
NETWORK = "tf_efficientnet_lite2"
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


def theirs(root: Path, *, python: Path, epochs: int, size_px: int) -> Answers:
    """Train fastai on the same images in class folders."""
    images = read_table(root / "data" / "01_manifest" / "payload")
    folders = root / "folders"
    images = images[images["split"].isin(list(FOLDERS))].reset_index(drop=True)
    for number, (path, label, split) in enumerate(
        zip(images["path"], images["label"], images["split"], strict=True)
    ):
        target = folders / FOLDERS[split] / label / f"{number}{Path(path).suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to((root / "data" / "raw" / path).resolve())
    out, weights = root / "fastai.csv", root / "weights.pth"
    torch.save(packaged_state(NETWORK)[0], weights)  # by timm's names
    options = {
        "--network": NETWORK,
        "--weights": weights,
        "--epochs": epochs,
        "--size-px": size_px,
    }
    start = time.monotonic()
    subprocess.run(
        [python, PEER, folders, out, *flat(options)], check=True, stdout=subprocess.DEVNULL
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


def compare(pairs: list[tuple[Answers, Answers]], *, column: str) -> str:
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
        f"{column}: fgpipe {own:.4f}, fastai {other:.4f}, difference {score.value:+.4f} "
        f"({score.low:+.4f} to {score.high:+.4f}), {len(paths):,} images, {len(joined):,} answers"
    )


def project(folder: Path, *, run: int, epochs: int, size_px: int) -> Path:
    """One with the split of that number."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["manifest"] |= variants("random")[run]
    params["preprocess"]["image_size_px"] = size_px
    params["train"] |= {"epochs": epochs, "patience": epochs, "seed": run}
    return start_project(folder, params)


def main() -> None:
    """Print a line a split, and the comparison of what there is after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", type=Path, required=True, metavar="PYTHON")
    parser.add_argument("--runs", type=int, nargs="+", default=[0, 1, 2], help="seeds of splits")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--fewer", type=int, metavar="N")
    parser.add_argument("--size-px", type=int, default=224)
    arguments = parser.parse_args()
    size_px = arguments.size_px
    wanted = [arguments.epochs, *([arguments.fewer] if arguments.fewer else [])]
    pairs: dict[int, list[tuple[Answers, Answers]]] = {epochs: [] for epochs in wanted}
    for run in arguments.runs:
        with tempfile.TemporaryDirectory(prefix="fgpipe-bench-") as name:
            roots = {
                epochs: project(Path(name) / str(epochs), run=run, epochs=epochs, size_px=size_px)
                for epochs in wanted
            }
            owns = {epochs: ours(root) for epochs, root in roots.items()}
            other = theirs(
                roots[arguments.epochs],
                python=arguments.peer.absolute(),
                epochs=arguments.epochs,
                size_px=size_px,
            )
        print(f"split {run}: fastai {other.seconds:.0f} s", flush=True)
        for epochs, own in owns.items():
            pairs[epochs].append((own, other))
            print(f"  fgpipe, {epochs} epochs: {own.seconds:.0f} s", flush=True)
            for column in ("parent", "label"):
                print("    " + compare(pairs[epochs], column=column), flush=True)


if __name__ == "__main__":
    main()
