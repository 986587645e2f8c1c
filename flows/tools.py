"""The real tools behind the ports that flows need."""

from pathlib import Path

from fgpipe.adapters.bento_builder import BentoBuilder
from fgpipe.adapters.dvc_runner import DvcRunner
from fgpipe.adapters.mlflow_registry import MlflowRegistry
from fgpipe.ports import Registry, Reproducer, ServiceBuilder


def reproducer(root: Path) -> Reproducer:
    """What brings stages up to date."""
    return DvcRunner(root)


def registry(root: Path) -> Registry:
    """What knows the champion."""
    return MlflowRegistry(root)


def builder(root: Path) -> ServiceBuilder:
    """What makes a bundle into something that serves."""
    return BentoBuilder(root)
