"""What pretraining without labels is worth on the demo, with all of its labels and with few.

``python -m tests.bench.few_labels FOLDER`` makes two projects of the demo's cells: one as it is,
and one in which nine tenths of each label's images that were to be trained on have lost it and
lie in ``data/unlabelled``; validation, calibration and test are the same in both. What is
expected of class sizes is taken out of the projects' expectations. Then ``fgpipe benchmark``
trains from the packaged weights and from what two methods of pretraining made of them. It goes
on where it was stopped.
"""

import argparse
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from fgpipe.images.table import read_table
from tests.bench.demo_protocols import ROOT, fgpipe, run_stages, start_project

EPOCHS = {"all labels": 6, "a tenth": 30}
"""Of training: five times as many where there are a tenth of the images."""

OF_SIZES = ("images_per_class", "imbalance")
"""Expectations that hold the demo's class sizes against what they were."""


def make_project(root: Path, *, params: dict[str, Any], share: float) -> None:
    """The demo with a share of its training labels."""
    start_project(root, params)
    run_stages(root, ["manifest"])
    table = read_table(root / "data" / "01_manifest" / "payload")
    train = table[table["split"] == "train"]
    kept = train.groupby("label").sample(frac=share, random_state=0)
    lost = train[~train["path"].isin(kept["path"])]
    raw, original = root / "data" / "raw", ROOT / "data" / "raw"
    raw.unlink()
    (raw / "images").mkdir(parents=True)
    labels = pd.read_csv(original / "labels.csv", dtype=str, keep_default_na=False)
    labels = labels[~labels["path"].isin(lost["path"])]
    labels.to_csv(raw / "labels.csv", index=False)
    for path in labels["path"]:
        shutil.copy(original / path, raw / path)
    known = pd.read_csv(original / "groups.csv", dtype=str, keep_default_na=False)
    known.loc[known["sha256"].isin(lost["sha256"]), "status"] = "removed"
    known.to_csv(raw / "groups.csv", index=False)
    expectations = root / "data" / "expectations.yaml"
    content = yaml.safe_load(expectations.read_text())
    content["expectations"] = [
        each for each in content["expectations"] if each["name"] not in OF_SIZES
    ]
    expectations.write_text(yaml.safe_dump(content, sort_keys=False))
    (root / "data" / "unlabelled").mkdir()
    for path in lost["path"]:
        shutil.copy(original / path, root / "data" / "unlabelled")


def main() -> None:
    """Make what is missing, then compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size-px", type=int, default=96)
    parser.add_argument("--views-px", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=20, help="of pretraining")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    for name, share in (("all labels", 1.0), ("a tenth", 0.1)):
        root = arguments.folder / name
        if not root.exists():
            params = yaml.safe_load((ROOT / "params.yaml").read_text())
            params["preprocess"]["image_size_px"] = arguments.size_px
            params["pretrain"] |= {
                "backbone": params["train"]["backbone"],
                "image_size_px": arguments.views_px,
                "epochs": arguments.epochs,
                "threads": arguments.threads,
            }
            params["train"] |= {
                "epochs": EPOCHS[name],
                "patience": EPOCHS[name],
                "threads": arguments.threads,
            }
            make_project(root, params=params, share=share)
        content = {
            "measure": "test_coarse_accuracy",
            "seeds": 3,
            "variants": {
                "packaged": {},
                "byol": {"pretrain.method": "byol"},
                "simsiam": {"pretrain.method": "simsiam"},
            },
        }
        (root / "benchmark.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        fgpipe(root, "benchmark")


if __name__ == "__main__":
    main()
