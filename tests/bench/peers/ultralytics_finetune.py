"""What a user of ultralytics does to fine-tune a classifier: ``yolo classify train``, then predict.

Its network is torchvision's MobileNetV2 in ultralytics' own wrapper, with ultralytics' head.
"""

import argparse
from pathlib import Path

import torch
from ultralytics import YOLO

TORCHVISION = {"mobilenetv2_100": "mobilenet_v2"}
"""Its name of a network, by timm's."""

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folders", type=Path, help="with train/CLASS, val/CLASS and test/CLASS")
parser.add_argument("out", type=Path, help="table to write: file and a probability a class")
parser.add_argument("--network", required=True, choices=list(TORCHVISION), help="by timm's name")
parser.add_argument("--weights", type=Path, required=True, help="of ImageNet, in module order")
parser.add_argument("--epochs", type=int, required=True)
parser.add_argument("--size-px", type=int, required=True)
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--workers", type=int, default=2)


def start(folder: Path, *, network: str, weights: Path, n_classes: int) -> Path:
    """A checkpoint of the network, without torchvision's classifier, with these weights."""
    description = folder / f"{network}-cls.yaml"
    description.write_text(
        f"nc: {n_classes}\n"
        f"backbone:\n  - [-1, 1, TorchVision, [1280, {TORCHVISION[network]}, null, true, 1]]\n"
        "head:\n  - [-1, 1, Classify, [nc]]\n"
    )
    model = YOLO(description, task="classify")
    backbone = model.model.model[0].m
    given = torch.load(weights, weights_only=True).values()
    own = backbone.state_dict()
    backbone.load_state_dict(dict(zip(own, given, strict=True)))
    file = folder / "start.pt"
    model.save(file)
    return file


if __name__ == "__main__":
    arguments = parser.parse_args()
    folder = arguments.out.parent
    classes = sorted(path.name for path in (arguments.folders / "train").iterdir())
    first = start(
        folder, network=arguments.network, weights=arguments.weights, n_classes=len(classes)
    )
    model = YOLO(first)
    model.train(
        data=arguments.folders,
        epochs=arguments.epochs,
        imgsz=arguments.size_px,
        batch=arguments.batch_size,
        workers=arguments.workers,
        device="cpu",
        plots=False,  # it would download a font
        project=folder / "ultralytics",
    )
    best = YOLO(model.trainer.best)
    files = sorted((arguments.folders / "test").glob("*/*"))
    lines = [",".join(["file", *best.names.values()])]
    for file in files:
        [answer] = best.predict(file, imgsz=arguments.size_px, device="cpu", verbose=False)
        lines.append(",".join([file.name, *map(repr, answer.probs.data.tolist())]))
    arguments.out.write_text("\n".join(lines) + "\n")
