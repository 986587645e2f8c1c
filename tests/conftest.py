"""One thread, and the synthetic world as a folder and as a project."""

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
import yaml

from fgpipe.intake.profiling import write_expectations
from tests.support.synthetic import write_world

if TYPE_CHECKING:
    from tests.support.tiny_model import Done, Tiny

ROOT = Path(__file__).parents[1]

hypothesis.settings.register_profile("same", deadline=None, derandomize=True)
hypothesis.settings.load_profile("same")

SMALL = {
    "validate": {"drift_sample": 0},
    "preprocess": {"image_size_px": 64},
    "pretrain": {
        "backbone": "test_resnet",
        "weights": "scratch",
        "image_size_px": 32,
        "epochs": 2,
        "batch_size": 16,
        "threads": 1,
    },
    "train": {
        "backbone": "test_resnet",
        "weights": "scratch",
        "frozen_stages": 0,
        "augment": "flips",
        "parent_weight": 0.0,
        "averaging": "none",
        "epochs": 2,
        "batch_size": 16,
        "threads": 1,
    },
    "evaluate": {"views": "one", "n_bootstrap": 100},
    "package": {"profile_sample": 0},
    "gate": {
        "min_top1": 0.0,
        "min_macro_recall": 0.0,
        "min_coarse_accuracy": 0.0,
        "max_calibration_error": 1.0,
    },
}
"""What the ``project`` fixture changes in params.yaml, so that a run takes seconds."""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data/raw with 120 images of 4 classes in 40 groups; not to be changed."""
    raw = tmp_path_factory.mktemp("world") / "raw"
    write_world(raw)
    return raw


@pytest.fixture(scope="session")
def tiny(world: Path, tmp_path_factory: pytest.TempPathFactory) -> "Tiny":
    """The world's manifest and two tiny models of it; not to be changed."""
    from tests.support.tiny_model import make_tiny

    return make_tiny(world, tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def done(tiny: "Tiny", tmp_path_factory: pytest.TempPathFactory) -> "Done":
    """The better tiny model, evaluated and packaged; not to be changed."""
    from tests.support.tiny_model import finish

    return finish(tiny, tiny.train, tmp_path_factory.mktemp("done"))


@pytest.fixture(scope="session")
def worse(tiny: "Tiny", tmp_path_factory: pytest.TempPathFactory) -> "Done":
    """The worse tiny model, evaluated and packaged; not to be changed."""
    from tests.support.tiny_model import finish

    return finish(tiny, tiny.worse, tmp_path_factory.mktemp("worse"))


@pytest.fixture
def project(tmp_path: Path, world: Path) -> Path:
    """A project's root: small params.yaml, a copy of the world, no baseline."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for section, values in SMALL.items():
        params[section].update(values)
    root = tmp_path / "project"
    (root / "data").mkdir(parents=True)
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    (root / "data" / "baseline.json").write_text("null\n")
    write_expectations(root / "data" / "expectations.yaml", table=None, force=False)
    shutil.copytree(world, root / "data" / "raw")
    return root
