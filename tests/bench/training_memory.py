"""How a training's memory grows with the number of images.

``python -m tests.bench.training_memory --images 10000 100000 1000000`` makes manifests of so
many rows, whose images are one sparse file (32 x 32 px, black), runs the whole ``train`` stage
for an epoch of ``seed_cnn`` in a process of its own, and prints the peak of the memory that is
the process's own: pages of the memory-mapped images are not, since the system takes them back
when it needs them.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import yaml

ROOT = Path(__file__).parents[2]
SIZE_PX = 32
N_CLASSES = 10
N_VALIDATION = 1000
RECIPE = {
    "backbone": "seed_cnn",
    "weights": "scratch",
    "frozen_stages": 0,
    "head": "linear",
    "augment": "flips",
    "epochs": 1,
}


def make_project(root: Path, n_images: int) -> None:
    """What the stage reads, of so many images."""
    from fgpipe.images.table import TABLE_NAME, write_table
    from fgpipe.images.transforms import Preprocessing
    from fgpipe.records import LabelCount, Manifest, Preprocessed, Pretrained, file_sha256

    hashes = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(n_images)]
    targets = [number % N_CLASSES for number in range(n_images)]
    labels = [f"class{target}" for target in targets]
    splits = ["validation"] * N_VALIDATION + ["train"] * (n_images - N_VALIDATION)
    manifest, preprocess, pretrain = (
        root / "data" / name for name in ("01_manifest", "03_preprocess", "04_pretrain")
    )
    for folder in (manifest, preprocess, pretrain):
        (folder / "payload").mkdir(parents=True)
    table = write_table(
        {
            "id": [sha256[:16] for sha256 in hashes],
            "path": [f"images/{number:09d}.png" for number in range(n_images)],
            "label": labels,
            "target": targets,
            "parent": [None] * n_images,
            "group": hashes,
            "batch": [1] * n_images,
            "split": splits,
            "box": [None] * n_images,
            "sha256": hashes,
            "phash": [sha256[:16] for sha256 in hashes],
            **dict.fromkeys(("width_px", "height_px", "channels", "n_bytes"), [SIZE_PX] * n_images),
            **dict.fromkeys(("brightness", "contrast", "sharpness"), [0.0] * n_images),
        },
        attributes=[],
        payload=manifest / "payload",
    )
    assert table.name == TABLE_NAME
    counts = {"train": n_images - N_VALIDATION, "validation": N_VALIDATION}
    each = {split: counts.get(split, 0) // N_CLASSES for split in ("train", "validation")}
    record = Manifest(
        protocol="stable",
        n_images=n_images,
        n_groups=n_images,
        n_quarantined=0,
        labels=tuple(
            LabelCount(
                label=f"class{target}",
                parent=None,
                n_images={**each, "calibration": 0, "test": 0},
            )
            for target in range(N_CLASSES)
        ),
        attributes={},
        table_sha256=file_sha256(table),
    )
    record.save(manifest / "record.json")
    shape = (n_images, SIZE_PX, SIZE_PX, 3)
    np.lib.format.open_memmap(
        preprocess / "payload" / "images.npy", mode="w+", dtype=np.uint8, shape=shape
    )
    (preprocess / "payload" / "transform.json").write_text(
        Preprocessing.from_config(image_size_px=SIZE_PX).to_json()
    )
    Preprocessed(
        manifest_sha256=record.sha256(),
        n_images=n_images,
        image_size_px=SIZE_PX,
        channel_mean=(0.0, 0.0, 0.0),
        channel_std=(1.0, 1.0, 1.0),
        array_sha256="0" * 64,
        transform_sha256="0" * 64,
    ).save(preprocess / "record.json")
    Pretrained(method="none", pretraining=None).save(pretrain / "record.json")
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["preprocess"]["image_size_px"] = SIZE_PX
    params["train"] |= RECIPE
    (root / "params.yaml").write_text(yaml.safe_dump(params))


def own_mib() -> float:
    """Memory of this process that is in no file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


def run_stage_watched(root: Path) -> None:
    """Run the stage and print the peak, in MiB."""
    from fgpipe.pipeline import run_stage
    from tests.support.ports import fake_ports

    peak = [0.0]

    def watch() -> None:
        while True:
            peak[0] = max(peak[0], own_mib())
            time.sleep(0.05)

    threading.Thread(target=watch, daemon=True).start()
    start = time.monotonic()
    run_stage("train", root=root, ports=fake_ports(root))
    print(json.dumps({"mib": peak[0], "seconds": time.monotonic() - start}))


def main() -> None:
    """Print a line for each number of images, or be the process that is measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.make:
        make_project(arguments.make, arguments.images[0])
        return
    if arguments.run:
        run_stage_watched(arguments.run)
        return
    for n_images in arguments.images:
        with tempfile.TemporaryDirectory(prefix="fgpipe-bench-") as folder:
            me = [sys.executable, "-m", "tests.bench.training_memory"]
            subprocess.run([*me, "--make", folder, "--images", str(n_images)], cwd=ROOT, check=True)
            done = subprocess.run(
                [*me, "--run", folder], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
            )
        found = json.loads(done.stdout.splitlines()[-1])
        print(f"{n_images:,} images: {found['mib']:.0f} MiB, {found['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
