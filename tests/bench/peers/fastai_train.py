"""What a user of fastai writes: its quick start, for class folders and weights from scratch."""

import argparse

from fastai.vision.all import ImageDataLoaders, Resize, error_rate, resnet18, vision_learner

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folders", help="with train/CLASS and val/CLASS")
parser.add_argument("out")
parser.add_argument("--network", default="resnet18")
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--size-px", type=int, default=224)
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--workers", type=int, default=2)

if __name__ == "__main__":
    arguments = parser.parse_args()
    data = ImageDataLoaders.from_folder(
        arguments.folders,
        train="train",
        valid="val",
        item_tfms=Resize(arguments.size_px),
        bs=arguments.batch_size,
        num_workers=arguments.workers,
    )
    network = resnet18 if arguments.network == "resnet18" else arguments.network
    learner = vision_learner(
        data, network, pretrained=False, metrics=error_rate, path=arguments.out
    )
    learner.fit_one_cycle(arguments.epochs)
    learner.save("model")
