import numpy as np
import pytest
import torch

from fgpipe.errors import PipelineError
from fgpipe.images.recolouring import without_color
from fgpipe.pretraining.encoder import build_encoder, embed

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


def test_a_row_is_the_mean_over_space_of_the_backbones_map() -> None:
    encoder = build_encoder("test_resnet", image_size_px=32, seed=0)

    rows = embed(encoder, IMAGES, rows=np.array([2, 0]), precision="fp32")

    with torch.inference_mode():
        maps = encoder.backbone(encoder.pixels(torch.from_numpy(IMAGES)))
    expected = [[channel.numpy().sum() / channel.numel() for channel in maps[i]] for i in (2, 0)]
    assert np.allclose(rows, expected, atol=1e-5)


def test_in_grey_an_image_and_its_grey_look_alike() -> None:
    encoder = build_encoder("test_resnet", image_size_px=32, seed=0, color_space="gray")
    greys = np.stack([without_color(image) for image in IMAGES])
    every = np.arange(3)

    found, expected = (
        embed(encoder, images, rows=every, precision="fp32") for images in (IMAGES, greys)
    )

    assert np.allclose(found, expected, atol=0.01 * np.ptp(expected))
    in_colour = embed(
        build_encoder("test_resnet", image_size_px=32, seed=0), IMAGES, rows=every, precision="fp32"
    )
    assert not np.allclose(found, in_colour, atol=0.01 * np.ptp(expected))


def test_rows_are_the_same_where_memory_does_for_one_image_at_once() -> None:
    encoder = build_encoder("test_resnet", image_size_px=32, seed=0)
    expected = embed(encoder, IMAGES, rows=np.arange(3), precision="fp32")
    original = encoder.forward
    n_at_once = 1

    def hungry(images: torch.Tensor) -> torch.Tensor:
        if len(images) > n_at_once:
            torch.empty(2**60)  # nobody has an exabyte
        return original(images)

    encoder.forward = hungry

    found = embed(encoder, IMAGES, rows=np.arange(3), precision="fp32")

    assert np.allclose(found, expected, atol=1e-4)
    n_at_once = 0
    with pytest.raises(PipelineError, match="memory does not do for one image"):
        embed(encoder, IMAGES, rows=np.arange(3), precision="fp32")
