"""``fgpipe backbones``."""

import pytest
from click.testing import CliRunner

from fgpipe.commands import backbones as module
from fgpipe.commands.backbones import backbones
from fgpipe.errors import ConfigError
from fgpipe.nn.backbones import Backbone, search
from fgpipe.nn.initial_weights import PACKAGED


def listed(*arguments: str) -> list[str]:
    """What the command prints, line by line."""
    result = CliRunner().invoke(backbones, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return result.output.splitlines()


def test_without_a_pattern_those_are_listed_that_need_no_network() -> None:
    lines = listed()

    assert [line.split()[0] for line in lines[1:5]] == [*PACKAGED, "seed_cnn"]
    assert [line.endswith("packaged (installed)") for line in lines[1:5]] == [True] * 3 + [False]
    assert f"there are {len(search('*')):,} in all" in lines[6]


def test_figures_are_those_of_the_network() -> None:
    lines = listed("test_vit")

    n_parameters = sum(weights.numel() for weights in Backbone("test_vit").parameters())
    assert lines[0].split("  ")[0] == "backbone"
    assert lines[1].split() == (
        f"test_vit 160 16 {n_parameters / 1e6:.1f} M timm (needs a network)".split()
    )
    assert lines[2:] == ["  .r160_in1k: 160 px, apache-2.0, the default"]


def test_weights_that_know_finer_classes_come_first_and_licences_are_told() -> None:
    lines = listed("vit_large_patch14_clip_336")

    tags = [line for line in lines if line.startswith("  .")]
    finer = [("ImageNet-2" in line or "ImageNet-12k" in line) for line in tags]
    assert any(finer)
    assert not all(finer)
    assert finer == sorted(finer, reverse=True)
    assert sum(line.endswith("the default") for line in tags) == 1
    assert "NAME.TAG" in lines[-1]


@pytest.mark.parametrize(
    ("name", "tag", "told"),
    [
        ("convnext_tiny", "in12k", "apache-2.0, ImageNet-12k"),
        ("vit_base_patch16_224", "mae", "cc-by-nc-4.0"),
        ("vit_base_patch16_224", "bamboo", "licence unknown"),
    ],
)
def test_a_set_of_weights_is_told_with_its_licence(name: str, tag: str, told: str) -> None:
    lines = listed(name)

    (line,) = (line for line in lines if line.startswith(f"  .{tag}:"))
    assert told in line


def test_of_many_no_parameters_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_COUNTED", 2)

    lines = listed("test_vit?")

    assert lines[0].split() == ["backbone", "input", "px", "weights"]
    assert lines[1].split() == ["test_vit2", "160", "timm", "(needs", "a", "network)"]
    assert "of at most 2 backbones; these are 3" in lines[-1]


def test_a_pattern_that_nothing_matches_is_refused() -> None:
    with pytest.raises(ConfigError, match="no backbone has 'resnet81' in its name"):
        CliRunner().invoke(backbones, ["resnet81"], catch_exceptions=False)
