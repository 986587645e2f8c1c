"""What a user of fastai writes to fine-tune: its quick start, and predictions of a test folder."""

import argparse
from pathlib import Path

from fastai.vision.all import (
    ImageDataLoaders,
    Resize,
    aug_transforms,
    error_rate,
    get_image_files,
    vision_learner,
)

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folders", type=Path, help="with train/CLASS, val/CLASS and test/CLASS")
parser.add_argument("out", type=Path, help="table to write: file and a probability a class")
parser.add_argument("--network", required=True)
parser.add_argument("--weights", required=True, help="of ImageNet, as timm reads them")
parser.add_argument("--epochs", type=int, required=True, help="the frozen one included")
parser.add_argument("--size-px", type=int, required=True)
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--workers", type=int, default=2)

if __name__ == "__main__":
    arguments = parser.parse_args()
    data = ImageDataLoaders.from_folder(
        arguments.folders,
        train="train",
        valid="val",
        item_tfms=Resize(arguments.size_px),
        batch_tfms=aug_transforms(),
        bs=arguments.batch_size,
        num_workers=arguments.workers,
    )
    learner = vision_learner(
        data,
        arguments.network,
        pretrained_cfg_overlay={"file": arguments.weights},
        metrics=error_rate,
    )
    learner.fine_tune(arguments.epochs - 1)
    files = sorted(get_image_files(arguments.folders / "test"))
    probabilities, _ = learner.get_preds(dl=data.test_dl(files))
    lines = [",".join(["file", *data.vocab])]
    for file, row in zip(files, probabilities.tolist(), strict=True):
        lines.append(",".join([file.name, *map(repr, row)]))
    arguments.out.write_text("\n".join(lines) + "\n")
