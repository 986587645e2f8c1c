from dataclasses import replace
from pathlib import Path

import pytest

from fgpipe.pipeline import run_stage
from fgpipe.records import EpochFigures, TrainedModel
from fgpipe.training.distributed import Team, leading
from fgpipe.training.loop import Fitted, fit
from fgpipe.training.recipe import Recipe
from fgpipe.training.speed import EpochSpeed
from tests.support.learning import RECIPE, course, forty_images, network, same_weights
from tests.support.params import change_params
from tests.support.ports import fake_ports

pytestmark = pytest.mark.integration

WITHOUT_BATCH_STATISTICS = "test_vit"
RECIPES = {
    "sgd": replace(RECIPE, optimiser="sgd"),  # to which a gradient's length counts
    "balanced": replace(RECIPE, sampling="balanced"),
    "ema": replace(RECIPE, averaging="ema", head_epochs=2),
    "soup": replace(RECIPE, averaging="soup", clip_norm=1.0),
}


def say_nothing(figures: EpochFigures, speed: EpochSpeed) -> None:
    pass


def trained(team: Team, recipe: Recipe, checkpoint: Path, backbone: str) -> Fitted:
    return fit(
        network(dropout=0.0, backbone=backbone),
        course(forty_images(), recipe),
        checkpoint=checkpoint,
        on_epoch=say_nothing,
        team=team,
    )


def follow(team: Team, recipe: Recipe, checkpoint: Path, backbone: str) -> None:
    trained(team, recipe, checkpoint, backbone)


def by(
    n_processes: int, recipe: Recipe, checkpoint: Path, backbone: str = WITHOUT_BATCH_STATISTICS
) -> Fitted:
    with leading(n_processes, follow, recipe, checkpoint, backbone) as team:
        return trained(team, recipe, checkpoint, backbone)


def losses(fitted: Fitted) -> list[float]:
    return [loss for each in fitted.curves for loss in (each.train_loss, each.validation_loss)]


@pytest.mark.parametrize("name", RECIPES)
def test_two_processes_go_the_way_of_one_at_the_same_batch_size(tmp_path: Path, name: str) -> None:
    one = by(1, RECIPES[name], tmp_path / "one")

    two = by(2, RECIPES[name], tmp_path / "two")

    assert losses(two) == pytest.approx(losses(one), abs=1e-5)
    assert two.epochs == one.epochs


def stopping_after(n_epochs: int, recipe: Recipe, checkpoint: Path) -> None:
    """Two processes, the leader of which is told to stop once so many epochs are written."""

    def stop(figures: EpochFigures, speed: EpochSpeed) -> None:
        if figures.epoch == n_epochs:
            raise KeyboardInterrupt

    with leading(2, follow, recipe, checkpoint, "test_resnet") as team:
        fit(
            network(dropout=0.0),
            course(forty_images(), recipe),
            checkpoint=checkpoint,
            on_epoch=stop,
            team=team,
        )


def test_two_processes_broken_off_go_on_exactly(tmp_path: Path) -> None:
    undisturbed = by(2, RECIPE, tmp_path / "undisturbed", "test_resnet")
    with pytest.raises(KeyboardInterrupt):
        stopping_after(1, RECIPE, tmp_path / "other")

    resumed = by(2, RECIPE, tmp_path / "other", "test_resnet")

    assert resumed.curves == undisturbed.curves
    assert same_weights(resumed, undisturbed)


def test_a_stage_trains_with_as_many_processes_as_it_is_told(project: Path) -> None:
    for stage in ("manifest", "validate", "preprocess", "pretrain"):
        run_stage(stage, root=project, ports=fake_ports(project))
    change_params(project, train={"processes": 2, "threads": 2})
    ports = fake_ports(project)

    record = run_stage("train", root=project, ports=ports)

    assert isinstance(record, TrainedModel)
    assert record.resolved.processes == 2
    assert record.graph_max_error < 1e-3
    (run,) = ports.tracker.runs
    assert tuple(run.epochs.values()) == record.curves
