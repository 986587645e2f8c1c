"""The recipe that ships beside the textbook network, in equal time, on two sets of images.

``python -m tests.bench.seed_network FOLDER --images IDX`` makes two projects in FOLDER: the
demo's cells, and ten classes in files of CIFAR-10's own binary form, imported as a user
imports those. IDX has the four ``.gz`` files of Fashion-MNIST (Debian's package
``dataset-fashion-mnist`` has them), whose 28 x 28 greys become 32 x 32 x 3 by an edge of black.
Then ``fgpipe benchmark`` trains ``seed_cnn`` from scratch at 32 px, with the parameters that
``docs/methods.md`` names, and the recipe that ships from its packaged weights, on the same
splits with the same seeds. Epochs are given; the page's column of training time says whether
they come to equal time. It goes on where it was stopped.
"""

import argparse
import gzip
import shutil
from pathlib import Path

import numpy as np
import yaml

from fgpipe.images.sources.cifar import TEN
from tests.bench.demo_protocols import ROOT, fgpipe, start_project

SEED = {
    "preprocess.image_size_px": 32,
    "train.backbone": "seed_cnn",
    "train.weights": "scratch",
    "train.frozen_stages": 0,
    "train.dropout": 0.0,
    "train.label_smoothing": 0.0,
    "train.backbone_rate": 1.0,
    "train.learning_rate": 1.0e-3,
}
N_A_FILE = 1000


def read_idx(path: Path) -> np.ndarray:
    """The array of a gzipped IDX file of bytes."""
    content = gzip.decompress(path.read_bytes())
    n_axes = content[3]
    shape = np.frombuffer(content, ">u4", n_axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * n_axes).reshape(shape)


def write_cifar(folder: Path, images: Path) -> None:
    """Five training files and one of test images, each record a label and three planes."""
    folder.mkdir(parents=True)
    parts = {
        split: (
            np.pad(read_idx(images / f"{split}-images-idx3-ubyte.gz"), ((0, 0), (2, 2), (2, 2))),
            read_idx(images / f"{split}-labels-idx1-ubyte.gz"),
        )
        for split in ("train", "t10k")
    }
    for number, name in enumerate(TEN):
        pixels, labels = parts["t10k" if name.startswith("test") else "train"]
        start = 0 if name.startswith("test") else number * N_A_FILE
        chosen = slice(start, start + N_A_FILE)
        planes = np.repeat(pixels[chosen].reshape(-1, 1, 32 * 32), 3, axis=1)
        records = np.concatenate([labels[chosen, None], planes.reshape(len(planes), -1)], axis=1)
        (folder / name).write_bytes(records.tobytes())
    names = "".join(f"kind {number}\n" for number in range(10))
    (folder / "batches.meta.txt").write_text(names)


def benchmark(root: Path, *, variants: dict[str, dict[str, object]], protocol: object) -> None:
    """Compare methods on a project's images."""
    content = {
        "measure": "test_top1",
        "seeds": 3,
        "variants": variants,
        "protocols": {"": protocol},
    }
    (root / "benchmark.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    fgpipe(root, "benchmark")


def main() -> None:
    """Make what is missing, then compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--size-px", type=int, default=96, help="of the recipe that ships")
    parser.add_argument("--epochs", type=int, nargs=2, required=True, help="ours, seed_cnn's")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=["demo", "cifar"])
    arguments = parser.parse_args()
    epochs, seed_epochs = arguments.epochs
    variants = {
        "seed_cnn": SEED
        | {
            "train.epochs": seed_epochs,
            "train.patience": seed_epochs,
            "train.threads": arguments.threads,
        },
        "as shipped": {
            "preprocess.image_size_px": arguments.size_px,
            "train.epochs": epochs,
            "train.patience": epochs,
            "train.threads": arguments.threads,
        },
    }
    demo, cifar = arguments.folder / "demo", arguments.folder / "cifar"
    if not demo.exists():
        start_project(demo, yaml.safe_load((ROOT / "params.yaml").read_text()))
    if not cifar.exists():
        files = arguments.folder / "cifar-10-batches-bin"
        shutil.rmtree(files, ignore_errors=True)
        write_cifar(files, arguments.images)
        fgpipe(ROOT, "init", str(cifar.resolve()))
        fgpipe(cifar, "data", "import", str(files.resolve()), "--as", "cifar10")
    if arguments.only != "cifar":
        benchmark(demo, variants=variants, protocol={"protocol": "random"})
    if arguments.only != "demo":
        benchmark(cifar, variants=variants, protocol={"protocol": "stable"})


if __name__ == "__main__":
    main()
