"""What a user of Lightning writes: a module, two data loaders, ``Trainer.fit``."""

import argparse
from pathlib import Path

import lightning
import timm
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

NORMALISE = (
    transforms.ToTensor(),
    transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
)


class Classifier(lightning.LightningModule):
    def __init__(self, network: str, *, n_classes: int) -> None:
        super().__init__()
        self.network = timm.create_model(network, num_classes=n_classes)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        images, targets = batch
        loss = nn.functional.cross_entropy(self.network(images), targets)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        images, targets = batch
        logits = self.network(images)
        self.log("val_loss", nn.functional.cross_entropy(logits, targets))
        accuracy = (logits.argmax(dim=1) == targets).float().mean()
        self.log("val_accuracy", accuracy, prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folders", type=Path, help="with train/CLASS and val/CLASS")
parser.add_argument("out")
parser.add_argument("--network", default="resnet18")
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--size-px", type=int, default=224)
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--workers", type=int, default=2)
parser.add_argument("--precision", default="32-true")

if __name__ == "__main__":
    arguments = parser.parse_args()
    size = arguments.size_px
    varied = [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip()]
    plain = [transforms.Resize(size * 8 // 7), transforms.CenterCrop(size)]
    train = ImageFolder(arguments.folders / "train", transforms.Compose([*varied, *NORMALISE]))
    val = ImageFolder(arguments.folders / "val", transforms.Compose([*plain, *NORMALISE]))
    options = {"batch_size": arguments.batch_size, "num_workers": arguments.workers}
    trainer = lightning.Trainer(
        max_epochs=arguments.epochs,
        precision=arguments.precision,
        default_root_dir=arguments.out,
    )
    trainer.fit(
        Classifier(arguments.network, n_classes=len(train.classes)),
        DataLoader(train, shuffle=True, **options),
        DataLoader(val, **options),
    )
