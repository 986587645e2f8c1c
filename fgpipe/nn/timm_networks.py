"""timm's networks, each as a maker of feature maps; the only module that knows timm.

What a network calls its features differs, and so does what is done to them:

===========  ==========================  ==================================================
layout       gives, for one              becomes a feature map by
===========  ==========================  ==================================================
``NCHW``     most convolutional ones     nothing
``NHWC``     Swin, MambaOut              a permutation
``tokens``   ViT, DeiT, BEiT, MLP-Mixer  timm's ``forward_intermediates``: prefix tokens (class,
                                         registers) left out, the rest laid out as a grid
``bare       Hiera                       the same, without the norm that it has behind its
tokens``                                 pooling
===========  ==========================  ==================================================

Which it is, and whether a network takes images of a size at all, is tried on torch's
``meta`` device, which knows shapes and computes no number.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple

import timm
import torch
from jaxtyping import Float
from timm.layers import Conv2dSame, pad_same
from timm.models import get_arch_pretrained_cfgs
from timm.models._manipulate import group_with_matcher
from torch import Tensor, nn

from fgpipe.errors import ConfigError
from fgpipe.nn.depthwise import DepthwiseConv2d, is_slow_in_bf16

Layout = Literal["NCHW", "NHWC", "tokens", "bare tokens"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """What a network makes of images of a size."""

    layout: Layout
    """How it gives its features."""
    n_channels: int
    """Channels of the feature map."""
    n_rows: int
    """Rows of the feature map, and columns."""
    stride_px: int
    """Pixels from one cell of it to the next: of a ViT, the side of its patches."""


class OtherSize(NamedTuple):
    """A size of images that a network is given, beside the one it is built for."""

    key: str
    """The parameter that says it."""
    px: int
    """Height and width."""
    way_out: str
    """What the parameter must be where the network takes images of one size only."""


class Tag(NamedTuple):
    """One set of weights that timm has of a network."""

    name: str
    """What stands after the dot."""
    size_px: int
    """Of the images it was trained on."""
    licence: str | None
    """Of the weights, where timm says it."""


def architecture(name: str) -> str:
    """A name without the tag of its weights.

    >>> architecture("vit_base_patch16_224.augreg_in21k")
    'vit_base_patch16_224'
    """
    return name.partition(".")[0]


def check_name(name: str) -> None:
    """Refuse what timm does not have.

    Args:
        name: Of a network, with or without the tag of its weights.

    Raises:
        ConfigError: If there is none, or no such tag; the message names others.
    """
    plain, _, tag = name.partition(".")
    if not timm.is_model(plain):
        near = (
            ", ".join(timm.list_models(f"*{plain[:8]}*")[:5]) or "resnet18, tf_efficientnet_lite0"
        )
        raise ConfigError(f"train.backbone: timm has no model {plain!r}; it has, for one, {near}")
    if tag and tag not in (known := [each.name for each in tags(plain)]):
        raise ConfigError(
            f"train.backbone: timm has no weights {tag!r} of {plain}; it has "
            f"{', '.join(known) or 'none'}"
        )


def configuration(name: str) -> Any:  # noqa: ANN401 - timm's own, known to no type checker
    """What timm says of a network's weights: size, normalisation, where they are.

    Raises:
        ConfigError: If timm has no such network.
    """
    check_name(name)
    return timm.get_pretrained_cfg(name) or timm.models.PretrainedCfg()


def size_px(name: str) -> int:
    """Height and width of the images that a network's weights were made with."""
    return int(configuration(name).input_size[-1])


def tags(name: str) -> list[Tag]:
    """The weights that timm has of a network, its default first."""
    return [
        Tag(full.partition(".")[2], int(found.input_size[-1]), found.license)
        for full, found in get_arch_pretrained_cfgs(architecture(name)).items()
        if found.has_weights
    ]


def search(pattern: str) -> list[str]:
    """Names that match a pattern of the shell's; without wildcards, those it is part of."""
    if timm.is_model(pattern):
        return [pattern]
    is_plain = not any(sign in pattern for sign in "*?[")
    names: list[str] = timm.list_models(f"*{pattern}*" if is_plain else pattern)
    return names


def create(name: str, *, image_size_px: int) -> nn.Module:
    """A network without classifier and pooling, its weights drawn.

    Args:
        name: With or without a tag.
        image_size_px: What positions are embedded for. Where timm allows it, other sizes
            pass it as well.

    Raises:
        ConfigError: If timm has no such network.
    """
    check_name(name)
    network = _built(name, image_size_px=image_size_px, is_whole=False)
    _speed_up(network)
    return network


def create_on_meta(name: str, *, image_size_px: int) -> nn.Module:
    """The same as names and shapes alone."""
    with torch.device("meta"):
        return create(name, image_size_px=image_size_px)


def create_classifier(name: str, *, image_size_px: int, pretrained: bool) -> nn.Module:
    """A network with its own classifier, as its weights were published.

    Args:
        name: With or without a tag.
        image_size_px: Positions embedded for another size are interpolated.
        pretrained: Whether timm downloads its weights.
    """
    check_name(name)
    return _built(name, image_size_px=image_size_px, is_whole=True, pretrained=pretrained)


def _built(name: str, *, image_size_px: int, is_whole: bool, pretrained: bool = False) -> nn.Module:
    """Try timm's arguments, which not every network knows, from the most wanted on."""
    size: dict[str, object] = {"img_size": image_size_px}
    sizes: list[dict[str, object]] = [{}]
    if configuration(name).fixed_input_size:
        sizes = [size | {"dynamic_img_size": True}, size | {"strict_img_size": False}, size, {}]
    endings: list[dict[str, object]] = [{}]
    if not is_whole:
        endings = [{"num_classes": 0, "global_pool": ""}, {"num_classes": 0}]
    refusals: list[Exception] = []
    for ending in endings:
        for chosen in sizes:
            try:
                network: nn.Module = timm.create_model(
                    name, pretrained=pretrained, **chosen, **ending
                )
            except TypeError as error:  # an argument that it does not know
                refusals.append(error)
            except AssertionError as error:  # a network that cannot do without pooling
                refusals.append(error)
                break
            else:
                return network
    raise refusals[0]


def geometry(name: str, *, image_size_px: int, other: OtherSize | None = None) -> Geometry:
    """What a network makes of images, found without computing a number.

    Args:
        name: With or without a tag.
        image_size_px: The size that it is built for.
        other: That of the images, where it is another.

    Raises:
        ConfigError: If it takes no images of the size; the message names one that it takes.
    """
    check_name(name)
    key, given_px = other[:2] if other else ("preprocess.image_size_px", image_size_px)
    found, reason = _tried(name, image_size_px, given_px)
    if found is not None and given_px >= found.stride_px:
        return found
    own_px = size_px(name)
    own, own_reason = _tried(name, own_px, own_px)
    if own is None:
        raise ConfigError(
            f"train.backbone: {name} gives no feature map of an image ({own_reason}); choose "
            "another, `fgpipe backbones` lists them"
        )
    if given_px < own.stride_px:
        fault = f"must be at least the stride of train.backbone {name} ({own.stride_px})"
    elif given_px % own.stride_px:
        fault = f"must be a multiple of the stride of train.backbone {name} ({own.stride_px})"
    elif other:
        fault = (
            f"must be {other.way_out} for train.backbone {name}, which takes images of one size "
            f"({reason})"
        )
    else:
        fault = f"does not suit train.backbone {name} ({reason}); its own is {own_px}"
    raise ConfigError(f"{key} ({given_px}) {fault}")


@cache
def _tried(name: str, built_px: int, given_px: int) -> tuple[Geometry | None, str]:
    """The geometry, or None and the reason why there is none."""
    try:
        network = create_on_meta(name, image_size_px=built_px).eval()
        pixels = torch.zeros(1, 3, given_px, given_px, device="meta")
        with torch.device("meta"), torch.no_grad():
            layout = _layout(network, pixels)
            _, n_channels, n_rows, n_columns = feature_map(network, pixels, layout=layout).shape
        assert n_rows == n_columns > 0, f"its map has {n_rows} rows and {n_columns} columns"
    except Exception as error:  # noqa: BLE001 - each network has errors of its own
        lines = str(error).splitlines() or [type(error).__name__]
        return None, lines[0]
    return Geometry(
        layout=layout, n_channels=n_channels, n_rows=n_rows, stride_px=_stride(network)
    ), ""


def _layout(network: Any, pixels: Tensor) -> Layout:  # noqa: ANN401 - as timm has it
    features = network.forward_features(pixels)
    if not isinstance(features, Tensor) or features.ndim != 4:
        try:
            feature_map(network, pixels, layout="tokens")
        except AssertionError:
            return "bare tokens"
        return "tokens"
    return "NHWC" if getattr(network, "output_fmt", "NCHW") == "NHWC" else "NCHW"


def feature_map(
    network: Any,  # noqa: ANN401 - as timm has it
    pixels: Float[Tensor, "batch 3 height width"],
    *,
    layout: Layout,
) -> Float[Tensor, "batch channels rows columns"]:
    """The last feature map of a network, whatever it calls it."""
    features: Tensor
    match layout:
        case "NCHW":
            features = network.forward_features(pixels)
        case "NHWC":
            features = network.forward_features(pixels).permute(0, 3, 1, 2)
        case _:
            (features,) = network.forward_intermediates(
                pixels,
                indices=1,
                norm=layout == "tokens",
                output_fmt="NCHW",
                intermediates_only=True,
            )
    return features


def joined_maps(
    network: Any,  # noqa: ANN401 - as timm has it
    pixels: Float[Tensor, "batch 3 height width"],
    *,
    layout: Layout,
) -> Float[Tensor, "batch channels rows columns"]:
    """The last feature map with the one before the last halving, which is max-pooled to its grid.

    Source: the two levels of Wang et al., "Learning a Discriminative Filter Bank within a CNN
    for Fine-grained Recognition": what a small part looks like is lost in the last halving,
    and its strongest answer is what counts of it. Differs in that the head reads both maps as
    one, cell by cell, where the paper has a classifier for each and pools over all cells.
    A network that halves an odd grid by leaving its last row out has no cell for that.
    """
    last, (before,) = network.forward_intermediates(pixels, indices=[_before_last(network)])
    if layout == "NHWC":
        last = last.permute(0, 3, 1, 2)
    pooled = nn.functional.max_pool2d(before, 2, ceil_mode=True)
    if pooled.shape[2:] != last.shape[2:]:
        pooled = pooled[:, :, : last.shape[2], : last.shape[3]]
    return torch.cat([last, pooled], dim=1)


def _before_last(network: Any) -> int:  # noqa: ANN401 - as timm has it
    """Position of the last map that is finer than the last of all."""
    strides = [int(each["reduction"]) for each in network.feature_info]
    return max(i for i, stride in enumerate(strides) if stride < strides[-1])


def n_joined_channels(name: str, *, image_size_px: int, layout: Layout) -> int:
    """Channels of :func:`joined_maps`.

    Raises:
        ConfigError: If there are none to join: a network of tokens, of one grid, or one that
            does not tell of its maps.
    """
    if layout not in {"NCHW", "NHWC"}:
        raise no_finer_map(name, "it gives tokens")
    try:
        network = create_on_meta(name, image_size_px=image_size_px).eval()
        pixels = torch.zeros(1, 3, image_size_px, image_size_px, device="meta")
        with torch.device("meta"), torch.no_grad():
            return joined_maps(network, pixels, layout=layout).shape[1]
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise no_finer_map(name, reason) from error


def no_finer_map(name: str, reason: str) -> ConfigError:
    """What is said of a network without a map to join to its last one."""
    return ConfigError(
        f"train.mid_level: {name} has no finer map to join to its last one ({reason}); set it to "
        "false or choose another train.backbone"
    )


def stride(name: str) -> int:
    """Pixels from one cell of a network's feature map to the next."""
    return _stride(create_on_meta(name, image_size_px=size_px(name)))


def _stride(network: Any) -> int:  # noqa: ANN401 - as timm has it
    return int(network.feature_info[-1]["reduction"])


def grouped(network: Any, *, coarse: bool) -> list[list[str]]:  # noqa: ANN401 - as timm has it
    """Names of a network's parameters by depth, the stem's first.

    Args:
        network: Anything with timm's ``group_matcher``.
        coarse: By stage; else by layer, timm's finest division.
    """
    names = [name for name, _ in network.named_parameters()]
    if not hasattr(network, "group_matcher"):  # MetaFormer
        parts = dict.fromkeys(_part(name) for name in names)
        return [[name for name in names if _part(name) == part] for part in parts]
    groups = group_with_matcher(network.named_parameters(), network.group_matcher(coarse=coarse))
    return [list(groups[depth]) for depth in sorted(groups)]


def _part(name: str) -> tuple[str, str]:
    """The part of a network that a parameter is of: ``stem``, ``stages.0``."""
    first, second, *_ = [*name.split("."), ""]
    return first, second if second.isdigit() else ""


def _speed_up(network: nn.Module) -> None:
    """Exchange the depthwise layers whose gradient is slow in bf16; names and weights stay."""
    layers = [(name, layer) for name, layer in network.named_modules() if is_slow_in_bf16(layer)]
    for name, layer in layers:
        assert isinstance(layer, nn.Conv2d), name
        if type(layer) in {nn.Conv2d, Conv2dSame}:
            pad = pad_same if isinstance(layer, Conv2dSame) else None
            network.set_submodule(name, DepthwiseConv2d.replacing(layer, pad=pad))
