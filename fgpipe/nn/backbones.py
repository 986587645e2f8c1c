"""Backbones: networks up to their last feature map, by name.

Any of timm's, convolutional or a transformer (:mod:`fgpipe.nn.timm_networks`), or the
project's own ``seed_cnn`` (:mod:`fgpipe.nn.seed_cnn`). A name of timm's may carry the tag of
its weights, as in ``vit_base_patch16_224.augreg_in21k``; normalisation is then that tag's.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fgpipe.errors import ConfigError
from fgpipe.nn import seed_cnn, timm_networks
from fgpipe.nn.recomputation import keep_statistics
from fgpipe.nn.timm_networks import Geometry, Layout, OtherSize, Tag

PRETRAINED_FILE = "backbone.safetensors"
"""What pretraining leaves for training to start from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalisation:
    """What a backbone's weights expect to be done to pixels."""

    mean: tuple[float, float, float]
    """Subtracted from pixels in 0 to 1."""
    std: tuple[float, float, float]
    """Pixels are divided by it after that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputConfig:
    """The images that a backbone was made for."""

    size_px: int
    """Height and width of the images its weights were made with."""
    stride: int
    """Pixels from one cell of the feature map to the next."""


class Backbone(nn.Module):
    """A network without classifier and pooling."""

    name: str
    """With its tag, if one was given."""
    image_size_px: int
    """What it is built for; only some take other sizes as well."""
    network: Any
    """timm's or of its form; its attributes are known to no type checker."""
    layout: Layout
    """How it gives its features."""
    n_channels: int
    """Channels of the feature map that it gives."""

    def __init__(
        self, name: str, *, image_size_px: int | None = None, mid_level: bool = False
    ) -> None:
        """Build it, its weights drawn.

        Args:
            name: One of timm's, or ``seed_cnn``.
            image_size_px: Height and width of the images; None for those of its own
                configuration.
            mid_level: Whether the map before the last halving is joined to the last one.

        Raises:
            ConfigError: If there is no such network, it takes no such images, or it has no
                such map.
        """
        super().__init__()
        self.name = name
        network: Any
        self.image_size_px = image_size_px or size_px(name)
        if name == seed_cnn.NAME:
            if mid_level:
                raise timm_networks.no_finer_map(name, "its map is one cell")
            network = seed_cnn.SeedCnn(image_size_px=self.image_size_px)
            self.layout, self.n_channels = "NCHW", seed_cnn.N_FEATURES
        else:
            geometry = timm_networks.geometry(name, image_size_px=self.image_size_px)
            self.layout, self.n_channels = geometry.layout, geometry.n_channels
            if mid_level:
                self.n_channels = timm_networks.n_joined_channels(
                    name, image_size_px=self.image_size_px, layout=self.layout
                )
            network = cast("Any", timm_networks.create(name, image_size_px=self.image_size_px))
        self.network = network
        self._maps = timm_networks.joined_maps if mid_level else timm_networks.feature_map
        self._recomputes = False

    def forward(
        self, pixels: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch channels rows columns"]:
        """The last feature map of normalised images, or the last two joined."""
        return self._maps(self.network, pixels, layout=self.layout)

    def freeze(self, n_stages: int) -> None:
        """Leave the first stages as they are: neither weights nor batch statistics change.

        They tell edges and textures, which all images share, at the highest resolution:
        half of a training step is theirs.

        Args:
            n_stages: How many of timm's stages, the stem being the first; 0 for none. Of a
                ViT each block is one.

        Raises:
            ConfigError: If the network has no more.
        """
        stages = timm_networks.grouped(self.network, coarse=True)
        if n_stages >= len(stages):
            raise ConfigError(
                f"train.frozen_stages ({n_stages}) must be below the {len(stages)} stages of "
                f"train.backbone {self.name}, its stem being one; `backbone_rate: 0` freezes all"
            )
        frozen = {name for stage in stages[:n_stages] for name in stage}
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(name not in frozen)

    def layers(self) -> list[list[nn.Parameter]]:
        """Its parameters by depth, the stem's first: timm's finest division."""
        parameters = dict(self.network.named_parameters())
        layers = timm_networks.grouped(self.network, coarse=False)
        return [[parameters[name] for name in layer] for layer in layers]

    def checkpoint_activations(self) -> None:
        """Compute activations again in the backward pass instead of keeping them.

        Weights and batch statistics become what they would be without, exactly in float32.

        Raises:
            ConfigError: If the network is not prepared for it.

        Cost: a second forward pass: a step takes 35 to 60 % more time. Of the activations, those
        between blocks are kept alone.

        Source: Chen et al., "Training Deep Nets with Sublinear Memory Cost".
        """
        try:
            self.network.set_grad_checkpointing(enable=True)
        except (AssertionError, AttributeError):
            raise ConfigError(
                f"train.checkpoint_activations: {self.name} keeps its activations; set it to false "
                "or choose another train.backbone"
            ) from None
        keep_statistics(self.network)
        self._recomputes = True
        self.train(self.training)

    def train(self, mode: bool = True) -> "Backbone":  # noqa: FBT001, FBT002 - torch's signature
        """Set training or evaluation; what is frozen stays in evaluation."""
        super().train(mode)
        if self._recomputes:  # not in evaluation: an exported graph would have it in it
            self.network.set_grad_checkpointing(enable=mode)
        for module in self.network.modules():
            parameters = list(module.parameters(recurse=False))
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                module.eval()
        return self


def normalisation(name: str) -> Normalisation:
    """What is done to a backbone's pixels, without building it.

    Raises:
        ConfigError: If there is no such network.
    """
    if name == seed_cnn.NAME:
        return Normalisation(mean=seed_cnn.MEAN, std=seed_cnn.STD)
    configuration = timm_networks.configuration(name)
    return Normalisation(mean=_channels(configuration.mean), std=_channels(configuration.std))


def size_px(name: str) -> int:
    """Height and width of the images that a backbone's weights were made with.

    Raises:
        ConfigError: If there is no such network.
    """
    if name == seed_cnn.NAME:
        return seed_cnn.SIZE_PX
    return timm_networks.size_px(name)


def input_config(name: str) -> InputConfig:
    """The images that a backbone was made for.

    Raises:
        ConfigError: If there is no such network.
    """
    if name == seed_cnn.NAME:
        return InputConfig(size_px=size_px(name), stride=seed_cnn.SIZE_PX)
    return InputConfig(size_px=size_px(name), stride=timm_networks.stride(name))


def search(pattern: str) -> list[str]:
    """Names of backbones that match a pattern of the shell's; without wildcards, those it is in.

    The whole name of one finds that one alone.
    """
    is_own = pattern in seed_cnn.NAME or fnmatchcase(seed_cnn.NAME, pattern)
    return [seed_cnn.NAME] * is_own + timm_networks.search(pattern)


def published(name: str) -> list[Tag]:
    """The sets of weights that timm has of a backbone, its default first."""
    return [] if name == seed_cnn.NAME else timm_networks.tags(name)


def n_parameters(name: str) -> int:
    """Weights of a backbone, at the size of its own configuration."""
    with torch.device("meta"):
        backbone = Backbone(name)
    return sum(parameter.numel() for parameter in backbone.parameters())


def n_cells(name: str, *, image_size_px: int, low_size_px: int = 0) -> int:
    """Cells of the feature map that a backbone makes of images.

    Args:
        name: Of the backbone.
        image_size_px: What it is built for.
        low_size_px: Side of the images, where it is another.

    Raises:
        ConfigError: If there is no such backbone, or it takes no images of the size.
    """
    if name == seed_cnn.NAME:
        return 1
    return _geometry(name, image_size_px=image_size_px, low_size_px=low_size_px).n_rows ** 2


def check_low_size(name: str, *, image_size_px: int, low_size_px: int) -> None:
    """Refuse a size that a backbone built for another does not take.

    Args:
        name: Of the backbone.
        image_size_px: What it is built for.
        low_size_px: Side of the images in part of the training; 0 for none.

    Raises:
        ConfigError: If it does not; the message names both.
    """
    if low_size_px:
        _geometry(name, image_size_px=image_size_px, low_size_px=low_size_px)


def check_views_size(name: str, *, image_size_px: int, views_px: int) -> None:
    """Refuse views of a size that a backbone built for another does not take.

    Args:
        name: Of the backbone.
        image_size_px: What it is built for, and takes.
        views_px: Side of the views that it is pretrained on.

    Raises:
        ConfigError: If it does not; the message names both.
    """
    if views_px != image_size_px:
        way_out = f"preprocess.image_size_px ({image_size_px})"
        views = OtherSize("pretrain.image_size_px", views_px, way_out)
        timm_networks.geometry(name, image_size_px=image_size_px, other=views)


def _geometry(name: str, *, image_size_px: int, low_size_px: int) -> Geometry:
    low = OtherSize("train.low_size_px", low_size_px, "0") if low_size_px else None
    return timm_networks.geometry(name, image_size_px=image_size_px, other=low)


def _channels(values: tuple[float, ...]) -> tuple[float, float, float]:
    first, second, third = values
    return float(first), float(second), float(third)
