from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import timm
import torch
from torch import Tensor

from fgpipe.errors import ConfigError
from fgpipe.nn import timm_networks
from fgpipe.nn.backbones import (
    Backbone,
    check_low_size,
    input_config,
    n_parameters,
    normalisation,
    published,
    search,
)

NAMES = ["test_resnet", "test_vit", "test_vit_relpos", "test_mambaout", "seed_cnn"]
"""A convolutional network, transformers with and without a class token, channels last."""


def images(n: int, size_px: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(n, 3, size_px, size_px, generator=generator)


@pytest.mark.parametrize("name", NAMES)
def test_a_backbone_tells_its_channels_and_stride(name: str) -> None:
    backbone = Backbone(name).eval()

    features = backbone(images(2, backbone.image_size_px))

    side = backbone.image_size_px // input_config(name).stride
    assert features.shape == (2, backbone.n_channels, side, side)


@pytest.mark.parametrize("name", ["test_vit", "test_vit3", "test_vit_relpos"])
def test_tokens_become_a_map_in_their_order_and_without_the_class_token(name: str) -> None:
    backbone = Backbone(name, image_size_px=64).eval()
    batch = images(2, 64)

    features = backbone(batch)

    tokens = backbone.network.forward_features(batch)
    n_prefix = backbone.network.num_prefix_tokens
    assert features.shape[2:] == (4, 4)
    for row in range(4):
        for column in range(4):
            token = tokens[:, n_prefix + 4 * row + column]
            assert torch.allclose(features[:, :, row, column], token, atol=1e-6)


def test_a_map_with_its_channels_last_has_them_second() -> None:
    backbone = Backbone("test_mambaout", image_size_px=96).eval()
    batch = images(2, 96)

    features = backbone(batch)

    last = backbone.network.forward_features(batch)
    for row in range(3):
        for column in range(3):
            assert torch.equal(features[:, :, row, column], last[:, row, column])


def test_a_network_whose_norm_is_behind_its_pooling_gives_a_map_without_it() -> None:
    geometry = timm_networks.geometry("hiera_tiny_224", image_size_px=224)

    assert (geometry.layout, geometry.n_channels, geometry.n_rows) == ("bare tokens", 768, 7)


def test_a_vit_takes_lower_sizes_than_it_is_built_for() -> None:
    name = "vit_tiny_patch16_224"
    backbone = Backbone(name, image_size_px=96).eval()

    features = backbone(images(1, 64))

    check_low_size(name, image_size_px=96, low_size_px=64)
    assert features.shape == (1, 192, 4, 4)


def test_building_draws_no_more_from_the_generator_than_timm_does() -> None:
    torch.manual_seed(3)
    expected = timm.create_model("test_vit", num_classes=0, global_pool="", img_size=64)
    after = torch.random.get_rng_state()

    torch.manual_seed(3)
    backbone = Backbone("test_vit", image_size_px=64)

    assert torch.equal(torch.random.get_rng_state(), after)
    for name, value in backbone.network.state_dict().items():
        assert torch.equal(value, expected.state_dict()[name]), name


@pytest.mark.parametrize("name", ["test_resnet", "tf_efficientnet_lite0", "resnet18.tv_in1k"])
def test_normalisation_is_that_of_the_network_when_built(name: str) -> None:
    configuration = Backbone(name).network.pretrained_cfg

    assert normalisation(name).mean == configuration["mean"]
    assert normalisation(name).std == configuration["std"]


def test_a_tag_decides_normalisation_and_size() -> None:
    plain, tagged = "convnext_tiny.fb_in22k", "convnext_tiny.fb_in22k_ft_in1k_384"

    sizes = [input_config(name).size_px for name in (plain, tagged)]

    assert sizes == [224, 384]
    assert normalisation("vit_base_patch16_224.augreg_in21k").mean == (0.5, 0.5, 0.5)
    assert normalisation("vit_base_patch16_224.mae").mean == pytest.approx((0.485, 0.456, 0.406))


def test_a_backbone_that_does_not_exist_is_named_with_one_that_does() -> None:
    with pytest.raises(ConfigError, match=r"train.backbone: timm has no model 'resnet81'.*resnet"):
        Backbone("resnet81")


def test_a_tag_that_does_not_exist_is_named_with_those_that_do() -> None:
    with pytest.raises(ConfigError, match=r"no weights 'in22k' of resnet18; it has a1_in1k, a2"):
        Backbone("resnet18.in22k")


def test_a_network_without_a_feature_map_is_refused() -> None:
    with pytest.raises(ConfigError, match="gemma4_vit_167m gives no feature map of an image"):
        Backbone("gemma4_vit_167m")


@pytest.mark.parametrize(
    ("name", "size_px", "message"),
    [
        ("test_resnet", 31, r"image_size_px \(31\) must be at least the stride.*resnet \(32\)"),
        ("test_vit", 100, r"image_size_px \(100\) must be a multiple of the stride.*vit \(16\)"),
        ("efficientformer_l1", 128, r"image_size_px \(128\) does not suit .*its own is 224"),
    ],
)
def test_a_size_that_a_backbone_does_not_take_is_refused_with_one_that_it_takes(
    name: str, size_px: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Backbone(name, image_size_px=size_px)


@pytest.mark.parametrize(
    ("name", "low_size_px", "message"),
    [
        ("test_resnet", 16, r"low_size_px \(16\) must be at least the stride.*resnet \(32\)"),
        ("test_vit", 90, r"low_size_px \(90\) must be a multiple of the stride.*vit \(16\)"),
        ("test_vit_relpos", 64, r"low_size_px \(64\) must be 0 for .*takes images of one size"),
    ],
)
def test_so_is_a_low_size(name: str, low_size_px: int, message: str) -> None:
    check_low_size(name, image_size_px=160, low_size_px=0)

    with pytest.raises(ConfigError, match=message):
        check_low_size(name, image_size_px=160, low_size_px=low_size_px)


@pytest.mark.parametrize("name", [*NAMES, "poolformer_s12"])
def test_layers_hold_every_weight_once(name: str) -> None:
    backbone = Backbone(name)

    layers = backbone.layers()

    held = [id(weights) for layer in layers for weights in layer]
    assert len(layers) > 3
    assert sorted(held) == sorted(id(weights) for weights in backbone.parameters())


@pytest.mark.parametrize(
    ("name", "lowest", "highest"),
    [
        ("test_resnet", "conv1.0.weight", "layer4.0.conv1.weight"),
        ("test_vit", "patch_embed.proj.weight", "blocks.5.mlp.fc2.weight"),
        ("seed_cnn", "layers.conv1.weights.weight", "layers.dense.weights.weight"),
        ("poolformer_s12", "stem.conv.weight", "stages.3.blocks.1.mlp.fc2.weight"),
    ],
)
def test_layers_go_from_the_pixels_up(name: str, lowest: str, highest: str) -> None:
    backbone = Backbone(name)

    layers = backbone.layers()

    depths = {id(weights): depth for depth, layer in enumerate(layers) for weights in layer}
    own = dict(backbone.network.named_parameters())
    assert depths[id(own[lowest])] == 0
    assert depths[id(own[highest])] >= len(layers) - 2


@pytest.mark.parametrize(
    ("name", "n_stages", "frozen"),
    [
        ("test_resnet", 2, ("conv1.", "bn1.", "layer1.")),
        ("tf_efficientnet_lite0", 3, ("conv_stem.", "bn1.", "blocks.0.", "blocks.1.")),
        ("test_vit", 2, ("cls_token", "pos_embed", "patch_embed.", "blocks.0.")),
        ("test_mambaout", 2, ("stem.", "stages.0.")),
        ("seed_cnn", 2, ("layers.conv1.", "layers.conv2.")),
    ],
)
def test_frozen_stages_do_not_learn_and_the_others_do(
    name: str, n_stages: int, frozen: tuple[str, ...]
) -> None:
    backbone = Backbone(name)

    backbone.freeze(n_stages)

    for key, weights in backbone.network.named_parameters():
        assert weights.requires_grad is not key.startswith(frozen), key


def test_frozen_batch_statistics_stand_still() -> None:
    backbone = Backbone("test_resnet")
    backbone.freeze(2)
    backbone.train()
    before = {name: value.clone() for name, value in backbone.network.named_buffers()}

    backbone(images(2, 64))

    changed = {
        name for name, value in backbone.network.named_buffers() if not value.equal(before[name])
    }
    assert changed
    assert not any(name.startswith(("conv1", "bn1", "layer1")) for name in changed)


@pytest.mark.parametrize(
    ("name", "n_stages"), [("test_resnet", 5), ("test_vit", 7), ("seed_cnn", 4)]
)
def test_more_frozen_stages_than_there_are_is_refused_with_both_numbers(
    name: str, n_stages: int
) -> None:
    backbone = Backbone(name)
    backbone.freeze(n_stages - 1)

    with pytest.raises(
        ConfigError, match=rf"\({n_stages}\) must be below the {n_stages} stages of .*{name}"
    ):
        backbone.freeze(n_stages)


@contextmanager
def counting_kept_bytes() -> Iterator[list[int]]:
    """Bytes of the tensors that forward passes keep for the backward one."""
    kept: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel() * tensor.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


def learnt(backbone: Backbone, *, n_frozen: int) -> tuple[int, dict[str, Tensor]]:
    """Bytes kept for a backward pass; then gradients and statistics after two."""
    backbone.freeze(n_frozen)
    backbone.train()
    for _ in range(2):
        with counting_kept_bytes() as kept:
            loss = backbone(images(4, 64)).square().mean()
        n_kept = sum(kept)
        loss.backward()
    network = backbone.network
    gradients = {
        name: weights.grad for name, weights in network.named_parameters() if weights.requires_grad
    }
    return n_kept, gradients | dict(network.named_buffers())


@pytest.mark.parametrize("n_frozen", [0, 2])
@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_vit"])
def test_recomputed_activations_change_no_gradient_or_statistic_and_fewer_are_kept(
    name: str, n_frozen: int
) -> None:
    one, other = Backbone(name, image_size_px=64), Backbone(name, image_size_px=64)
    other.load_state_dict(one.state_dict())
    other.checkpoint_activations()

    n_kept, expected = learnt(one, n_frozen=n_frozen)
    n_kept_still, found = learnt(other, n_frozen=n_frozen)

    assert n_kept_still < 0.7 * n_kept
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


def test_nothing_is_recomputed_in_evaluation() -> None:
    backbone = Backbone("test_vit")
    backbone.eval()
    backbone.checkpoint_activations()

    states = [backbone.network.grad_checkpointing]
    for mode in (True, False):
        backbone.train(mode)
        states.append(backbone.network.grad_checkpointing)

    assert states == [False, True, False]


def test_a_network_that_cannot_recompute_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"checkpoint_activations: seed_cnn .* set it to false"):
        Backbone("seed_cnn").checkpoint_activations()


def test_a_search_takes_a_part_of_a_name_a_pattern_or_the_whole() -> None:
    assert search("seed") == ["seed_cnn"]
    assert search("resnet18") == ["resnet18"]
    assert {"resnet18", "seresnet50", "test_resnet"} <= set(search("resnet"))
    assert search("test_vit?") == ["test_vit2", "test_vit3", "test_vit4"]
    assert set(search("*")) == {"seed_cnn", *timm.list_models()}
    assert search("resnet81") == []


def test_published_weights_are_timms_the_default_first() -> None:
    tags = published("vit_base_patch16_224")

    assert tags[0].name == timm.get_pretrained_cfg("vit_base_patch16_224").tag
    assert {f"vit_base_patch16_224.{tag.name}" for tag in tags} == set(
        timm.list_pretrained("vit_base_patch16_224.*")
    )
    assert {tag.name: tag.licence for tag in tags}["mae"] == "cc-by-nc-4.0"
    assert published("seed_cnn") == []


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_counted_without_the_classifier(name: str) -> None:
    assert n_parameters(name) == sum(weights.numel() for weights in Backbone(name).parameters())


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_mambaout"])
@pytest.mark.parametrize("size_px", [96, 160])
def test_joined_maps_are_the_last_and_the_strongest_of_each_window_before_it(
    name: str, size_px: int
) -> None:
    backbone = Backbone(name, image_size_px=size_px, mid_level=True).eval()
    alone = Backbone(name, image_size_px=size_px).eval()
    alone.load_state_dict(backbone.state_dict())
    batch = images(2, size_px)
    maps = backbone.network.forward_intermediates(batch, intermediates_only=True)

    joined, last = backbone(batch), alone(batch)

    n_last, side = last.shape[1], last.shape[-1]
    finer = [each for each in maps if each.shape[-1] > side][-1]
    assert joined.shape == (2, backbone.n_channels, side, side)
    assert backbone.n_channels == n_last + finer.shape[1]
    assert torch.equal(joined[:, :n_last], last)
    for row in range(side):
        for column in range(side):
            window = finer[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            assert torch.equal(joined[:, n_last:, row, column], window.amax(dim=(2, 3)))


def test_joined_maps_of_a_network_that_leaves_an_odd_row_out_are_without_it() -> None:
    backbone = Backbone("convnext_atto", image_size_px=224, mid_level=True).eval()

    with torch.no_grad():
        joined = backbone(images(1, 176))
        last, maps = backbone.network.forward_intermediates(images(1, 176), indices=[2])

    assert maps[0].shape[2:] == (11, 11)
    assert joined.shape[2:] == last.shape[2:] == (5, 5)
    finer = torch.nn.functional.max_pool2d(maps[0], 2)
    assert torch.equal(joined[:, last.shape[1] :], finer)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("test_vit", "it gives tokens"), ("seed_cnn", "its map is one cell")],
)
def test_a_network_of_one_grid_has_no_maps_to_join(name: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=rf"mid_level: {name} has no .* \({reason}\); set it to"):
        Backbone(name, mid_level=True)
