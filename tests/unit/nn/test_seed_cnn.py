import numpy as np
import pytest
import torch
from scipy.signal import correlate

from fgpipe.errors import ConfigError
from fgpipe.nn.backbones import Backbone, normalisation
from fgpipe.nn.recogniser import Recogniser
from fgpipe.nn.seed_cnn import SeedCnn
from fgpipe.records import RecogniserSpec


def textbook() -> Recogniser:
    scale = normalisation("seed_cnn")
    return Recogniser(
        RecogniserSpec(
            backbone="seed_cnn",
            head="linear",
            n_classes=10,
            dropout=0.0,
            image_size_px=32,
            mean=scale.mean,
            std=scale.std,
        )
    )


def test_with_a_linear_head_it_has_the_textbooks_122570_weights() -> None:
    network = textbook()

    counts = [
        sum(weights.numel() for weights in part)
        for part in [*network.backbone.layers(), network.head.parameters()]
    ]

    assert counts == [896, 18_496, 36_928, 65_600, 650]
    assert sum(counts) == 122_570


def test_it_computes_what_loops_over_its_weights_compute() -> None:
    network = SeedCnn(image_size_px=18)
    for weights in network.parameters():
        torch.nn.init.normal_(weights, std=0.1)
    pixels = torch.rand(2, 3, 18, 18)

    found = network.forward_features(pixels)

    expected = np.stack([slowly(network, image.numpy().astype(float)) for image in pixels])
    assert found.shape == (2, 64, 1, 1)
    assert np.allclose(found[:, :, 0, 0].detach().numpy(), expected, atol=1e-4)


def slowly(network: SeedCnn, image: np.ndarray) -> np.ndarray:
    state = {name: value.numpy().astype(float) for name, value in network.state_dict().items()}
    maps = image
    for layer in ("conv1", "conv2", "conv3"):
        kernels = state[f"layers.{layer}.weights.weight"]
        sums = np.stack([correlate(maps, kernel, mode="valid")[0] for kernel in kernels])
        maps = np.maximum(sums + state[f"layers.{layer}.weights.bias"][:, None, None], 0)
        if layer != "conv3":
            n, side = len(maps), maps.shape[1] // 2
            maps = maps[:, : 2 * side, : 2 * side].reshape(n, side, 2, side, 2).max(axis=(2, 4))
    dense = state["layers.dense.weights.weight"] @ maps.ravel()
    return np.maximum(dense + state["layers.dense.weights.bias"], 0)


def test_it_starts_as_keras_starts_it() -> None:
    network = SeedCnn(image_size_px=32)

    limits = {
        name: (6 / (weights[0].numel() + weights.shape[0] * weights[0, 0].numel())) ** 0.5
        for name, weights in network.named_parameters()
        if weights.ndim > 1
    }

    assert len(limits) == 4
    for name, weights in network.named_parameters():
        if weights.ndim == 1:
            assert not weights.any(), name
        else:
            assert 0.9 * limits[name] < weights.abs().max().item() <= limits[name], name


def test_pixels_stay_in_zero_to_one() -> None:
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).repeat(1, 2, 2, 3)

    pixels = textbook().pixels(images)

    assert (pixels.min().item(), pixels.max().item()) == (0, 1)


def test_an_image_too_small_is_refused_with_both_sizes() -> None:
    with pytest.raises(ConfigError, match=r"image_size_px \(17\) must be at least 18"):
        Backbone("seed_cnn", image_size_px=17)


def test_an_image_of_another_size_is_refused_with_both_sizes() -> None:
    backbone = Backbone("seed_cnn", image_size_px=32)

    with pytest.raises(ConfigError, match="built for images of 32 px and is given 48"):
        backbone(torch.zeros(1, 3, 48, 48))
