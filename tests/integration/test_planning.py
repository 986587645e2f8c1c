from pathlib import Path

import pytest

from fgpipe.config import load_params
from tests.support.real_project import make_real_project, run

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_real_project(tmp_path_factory.mktemp("planning") / "project")


def test_a_rate_is_found_and_written_and_nothing_else_changes(root: Path) -> None:
    before = load_params(root / "params.yaml").train

    printed = run("fgpipe", "find-lr", root=root)

    after = load_params(root / "params.yaml").train
    assert f"{after.learning_rate:.1e}" in printed
    assert after.learning_rate != before.learning_rate
    assert after.model_copy(update={"learning_rate": before.learning_rate}) == before
    assert not list(root.glob("**/batch_not_finite*"))


def test_a_plan_is_written_and_the_training_that_follows_obeys_it(root: Path) -> None:
    printed = run("fgpipe", "plan", "--minutes", "0.9", root=root)

    config = load_params(root / "params.yaml").train
    assert printed.startswith(f"{config.epochs} epochs") or f"\n{config.epochs} epochs" in printed
    done = run("dvc", "repro", "train", root=root)
    assert f"epoch {config.epochs}/{config.epochs}" in done or config.patience <= config.epochs


def test_too_little_time_is_one_message_and_changes_nothing(root: Path) -> None:
    before = (root / "params.yaml").read_bytes()

    printed = run("fgpipe", "plan", "--minutes", "0.2", root=root, code=2)

    assert "--minutes 0.2 is too little: one epoch takes" in printed
    assert "Traceback" not in printed
    assert (root / "params.yaml").read_bytes() == before
