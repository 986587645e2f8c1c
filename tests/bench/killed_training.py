"""Whether trainings that are killed at any moment end in the weights of one that is not.

``python -m tests.bench.killed_training --tries 20`` trains the shipped backbone on
this project's demo images (64 px, head first, moving average, four epochs) undisturbed, then so
often again, each killed by SIGKILL at a random moment between its start and the time the
first one took, and run again to its end. All files of the payload are compared byte for byte.
"""

import argparse
import random
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import yaml

from fgpipe.records import file_sha256
from tests.bench.demo_protocols import (
    ROOT,
    STAGES,
    command,
    environment,
    run_stages,
    start_project,
)

RECIPE = {
    "head_epochs": 2,
    "epochs": 4,
    "patience": 4,
    "averaging": "ema",
    "augment": "square",
    "mix": "mixup",
    "threads": 1,
}


def make_project(folder: Path) -> Path:
    """This project's images and stages up to training, at a small size."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["preprocess"]["image_size_px"] = 64
    params["train"] |= RECIPE
    root = start_project(folder, params)
    run_stages(root, STAGES[: STAGES.index("train")])
    return root


def train(root: Path, *, killed_after: float | None = None) -> tuple[bool, float]:
    """Run the stage; whether it came to its end, and in how many seconds."""
    start = time.monotonic()
    process = subprocess.Popen(
        command("train"), cwd=root, env=environment(), stderr=subprocess.DEVNULL
    )
    try:
        code = process.wait(killed_after)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return False, time.monotonic() - start
    if code:
        raise SystemExit(f"training ended with exit code {code}")
    return True, time.monotonic() - start


def content(root: Path) -> dict[str, str]:
    """Hash of each file that the stage made, its record included."""
    folder = root / "data" / "05_train"
    return {
        path.relative_to(folder).as_posix(): file_sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def main() -> None:
    """Print a line a try."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="fgpipe-bench-") as folder:
        root = make_project(Path(folder) / "project")
        _, seconds = train(root)
        expected = content(root)
        print(f"undisturbed: {seconds:.0f} s, {len(expected)} files", flush=True)
        n_equal = n_killed = 0
        for number in range(1, arguments.tries + 1):
            shutil.rmtree(root / "data" / "05_train")
            moment = moments.uniform(0, seconds)
            ended, _ = train(root, killed_after=moment)
            left = any((root / ".fgpipe" / "checkpoints").glob("*/epoch.safetensors"))
            if not ended:
                n_killed += 1
                train(root)
            equal = content(root) == expected
            n_equal += equal
            where = "with" if left else "without"
            what = (
                f"killed after {moment:.1f} s {where} a checkpoint" if not ended else "not killed"
            )
            print(f"{number}: {what}, {'equal' if equal else 'DIFFERENT'}", flush=True)
    print(f"{n_equal} of {arguments.tries} equal, {n_killed} killed", flush=True)


if __name__ == "__main__":
    main()
