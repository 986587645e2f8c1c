"""``fgpipe backbones``: what ``train.backbone`` can be."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fgpipe.nn.timm_networks import Tag

MAX_COUNTED = 50
"""Backbones whose parameters are counted: that takes a fifth of a second each."""

PRETRAINING = {
    "in21k": "ImageNet-21k",
    "in22k": "ImageNet-22k",
    "in12k": "ImageNet-12k",
}
"""What in a tag tells of more and finer classes than ImageNet's 1,000; timm 1.0.31 has no tag
that tells of iNaturalist."""


@click.command("backbones")
@click.argument("pattern", required=False)
def backbones(pattern: str | None) -> None:
    """List the backbones that PATTERN is part of, or that match it ("vit_*_patch16_*").

    Without PATTERN, those that need no network. Nothing is downloaded.
    """
    from fgpipe.errors import ConfigError
    from fgpipe.nn.backbones import published, search
    from fgpipe.nn.initial_weights import PACKAGED
    from fgpipe.nn.seed_cnn import NAME

    if pattern is None:
        click.echo("\n".join(_table([*PACKAGED, NAME])))
        click.echo(
            f"\nThese need no network; there are {len(search('*')):,} in all. `fgpipe backbones "
            "resnet` lists those with\nresnet in their name, `fgpipe backbones 'vit_*_224'` those "
            "that match."
        )
        return
    names = search(pattern)
    if not names:
        raise ConfigError(
            f"no backbone has {pattern!r} in its name; a shorter part of it finds more"
        )
    click.echo("\n".join(_table(names, with_tags=True)))
    if len(names) > MAX_COUNTED:
        click.echo(
            f"\nParameters and strides are shown of at most {MAX_COUNTED} backbones; these are "
            f"{len(names):,}."
        )
    if any(_pretraining(tag) for name in names for tag in published(name)):
        click.echo(
            "\nWeights of ImageNet-21k (12k, 22k) know more and finer classes and come first. "
            "Choose\nany by `backbone: NAME.TAG` under `weights: timm`, and mind the licence."
        )


def _table(names: list[str], *, with_tags: bool = False) -> list[str]:
    """A heading, a line a backbone, and under it one for each of its sets of weights."""
    from fgpipe.nn.backbones import published
    from fgpipe.nn.initial_weights import availability

    is_counted = len(names) <= MAX_COUNTED
    width = max(map(len, names))
    heading = f"{'backbone':<{width}}  input px"
    lines = [f"{heading}  stride px  parameters  weights" if is_counted else f"{heading}  weights"]
    for name in names:
        figures = _figures(name, is_counted=is_counted)
        lines.append(f"{name:<{width}}  {figures}  {availability(name)}")
        tags = published(name)
        if with_tags and tags:
            ordered = sorted(tags, key=lambda tag: not _pretraining(tag))
            lines += [_told(tag, is_default=tag == tags[0]) for tag in ordered]
    return lines


def _figures(name: str, *, is_counted: bool) -> str:
    from fgpipe.nn.backbones import input_config, n_parameters, size_px

    if not is_counted:
        return f"{size_px(name):8}"
    configuration = input_config(name)
    millions = f"{n_parameters(name) / 1e6:.1f} M"
    return f"{configuration.size_px:8}  {configuration.stride:9}  {millions:>10}"


def _told(tag: "Tag", *, is_default: bool) -> str:
    """What is known of a set of weights: size, what it was trained on first, licence."""
    licence = "licence unknown" if tag.licence in {None, "unknown"} else tag.licence
    known = [f"{tag.size_px} px", licence, _pretraining(tag)]
    if is_default:
        known.append("the default")
    return f"  .{tag.name}: {', '.join(filter(None, known))}"


def _pretraining(tag: "Tag") -> str:
    return next((name for sign, name in PRETRAINING.items() if sign in tag.name), "")
