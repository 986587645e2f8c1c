"""How good the default recipe is on the demo, under the published protocol and by module.

``python -m tests.bench.demo_protocols random`` trains on five random splits of 75/25,
stratified by label and cell type, as published figures do; ``... fold`` trains on the four
folds by module. Both test on a quarter and keep little from training; of whole modules it
takes somewhat more until validation and calibration have every label. Each run is a project
of its own in a temporary folder, with this project's images and parameters but for the
split; the test split is looked at once, by the evaluate stage.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import yaml

from fgpipe.pipeline import load_record
from fgpipe.records import Evaluation

ROOT = Path(__file__).parents[2]
STAGES = ("manifest", "validate", "preprocess", "pretrain", "train", "evaluate")
RANDOM = {"train": 0.69, "validation": 0.04, "calibration": 0.02, "test": 0.25}
BY_MODULE = {"train": 0.64, "validation": 0.07, "calibration": 0.04, "test": 0.25}


def variants(protocol: str) -> list[dict[str, object]]:
    """What the ``manifest`` section is for each run, and the seed of the training."""
    if protocol == "random":
        return [{"protocol": "random", "fractions": RANDOM, "seed": seed} for seed in range(5)]
    by_module: dict[str, object] = {"protocol": "fold", "fractions": BY_MODULE, "n_folds": 4}
    return [{**by_module, "fold": fold} for fold in range(4)]


def start_project(folder: Path, params: dict[str, object]) -> Path:
    """A project on this one's images with other parameters; no stage has run."""
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "raw").symlink_to(ROOT / "data" / "raw")
    (folder / "data" / "baseline.json").write_text("null\n")
    shutil.copy(ROOT / "data" / "expectations.yaml", folder / "data")
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    shutil.copy(ROOT / "dvc.yaml", folder)
    return folder


def command(*arguments: str) -> list[str]:
    """What runs a stage, or any other command."""
    return [sys.executable, "-m", "fgpipe", *arguments]


def environment() -> dict[str, str]:
    """This one, but for where the project keeps things."""
    return {key: value for key, value in os.environ.items() if key != "FGPIPE_HOME"}


def fgpipe(root: Path, *arguments: str) -> None:
    """Run a command in a project."""
    subprocess.run(command(*arguments), cwd=root, env=environment(), check=True)


def run_stages(root: Path, stages: Sequence[str]) -> None:
    """Run stages of the project one after the other."""
    for stage in stages:
        fgpipe(root, stage)


def evaluate(manifest: dict[str, object], *, folder: Path, train: dict[str, object]) -> Evaluation:
    """Run the stages in ``folder`` and give the evaluation."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["manifest"] |= manifest
    params["train"] |= {"seed": manifest.get("seed", 0)} | train
    run_stages(start_project(folder, params), STAGES)
    return load_record(Evaluation, root=folder)


def main() -> None:
    """Print one line a run and the mean."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("protocol", choices=["random", "fold"])
    parser.add_argument("--train", default="{}", help="YAML that replaces values of `train`")
    parser.add_argument("--runs", type=int, nargs="+", help="seeds or folds, from 0; else all")
    arguments = parser.parse_args()
    values = []
    runs = variants(arguments.protocol)
    for manifest in [runs[number] for number in arguments.runs or range(len(runs))]:
        with tempfile.TemporaryDirectory(prefix="fgpipe-bench-") as folder:
            start = time.monotonic()
            evaluation = evaluate(
                manifest, folder=Path(folder) / "project", train=yaml.safe_load(arguments.train)
            )
        scores = evaluation.candidate
        assert scores.coarse_accuracy is not None
        values.append(scores.coarse_accuracy.value)
        print(
            f"{manifest}: functional/defective {scores.coarse_accuracy}, four labels "
            f"{scores.top1}, {scores.n_images} images, {time.monotonic() - start:.0f} s",
            flush=True,
        )
    if len(values) > 1:
        spread = statistics.stdev(values)
        print(f"mean {statistics.mean(values):.4f}, standard deviation {spread:.4f}", flush=True)


if __name__ == "__main__":
    main()
