import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from multiprocessing import active_children
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Semaphore
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fgpipe.errors import ConfigError, NotFiniteError, PipelineError
from fgpipe.images.batches import seed_for
from fgpipe.pipeline import run_stage
from fgpipe.records import EpochFigures, TrainedModel
from fgpipe.training import distributed
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
    "parts": replace(RECIPE, batch_parts=2),
}
WITH_IDLE_PARAMETERS = "cait_xxs24_224"


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
    with leading(n_processes, follow, recipe, checkpoint, backbone, device="cpu") as team:
        return trained(team, recipe, checkpoint, backbone)


def losses(fitted: Fitted) -> list[float]:
    return [loss for each in fitted.curves for loss in (each.train_loss, each.validation_loss)]


@pytest.mark.parametrize("name", RECIPES)
def test_two_processes_go_the_way_of_one_at_the_same_batch_size(tmp_path: Path, name: str) -> None:
    one = by(1, RECIPES[name], tmp_path / "one")

    two = by(2, RECIPES[name], tmp_path / "two")

    assert losses(two) == pytest.approx(losses(one), abs=1e-5)
    assert two.epochs == one.epochs


def test_parameters_that_play_no_part_are_not_waited_for(tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=1)
    one = by(1, recipe, tmp_path / "one", WITH_IDLE_PARAMETERS)

    two = by(2, recipe, tmp_path / "two", WITH_IDLE_PARAMETERS)

    assert losses(two) == pytest.approx(losses(one), abs=1e-4)


def add_up(team: Team) -> None:
    team.total(1.0)


def total_with(follow: Callable[[Team], None]) -> float:
    """What the leader, which has 2, is told by two processes."""
    with leading(2, follow, device="cpu") as team:
        return team.total(2.0)


def test_processes_on_the_cpu_talk_of_it_also_where_there_are_gpus(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    assert total_with(add_up) == 3.0


def seeds(team: Team, checkpoint: Path) -> list[int]:
    """What each process's random numbers began with in the last epoch."""
    trained(team, replace(RECIPE, epochs=2), checkpoint, WITHOUT_BATCH_STATISTICS)
    return team.gathered(np.array([torch.initial_seed()]), team.size).tolist()


def tell_seeds(team: Team, checkpoint: Path) -> None:
    seeds(team, checkpoint)


def test_each_process_draws_for_itself_and_the_leader_as_one_alone(tmp_path: Path) -> None:
    with leading(2, tell_seeds, tmp_path / "epoch.safetensors", device="cpu") as team:
        first, second = seeds(team, tmp_path / "epoch.safetensors")

    assert first == seed_for(RECIPE.seed, 2)
    assert second != first


def refuse_or_add_up(team: Team) -> None:
    if team.rank == 1:
        raise ConfigError("train.weights is not there")
    add_up(team)


def add_up_last(team: Team) -> None:
    """When the others have ended, so that none is quiet for being terminated."""
    while active_children():
        time.sleep(0.01)
    add_up(team)


def test_what_another_process_refuses_the_leader_tells_and_alone(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with (
        pytest.raises(ConfigError, match=r"^train\.weights is not there$"),
        leading(3, refuse_or_add_up, device="cpu") as team,
    ):
        add_up_last(team)

    assert "Traceback" not in capfd.readouterr().err


def be_killed(team: Team) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_the_system_kills_is_named_and_what_takes_less_memory() -> None:
    with (
        pytest.raises(PipelineError, match=r"process 2 of 2 .* killed.*train\.batch_parts"),
        leading(2, be_killed, device="cpu") as team,
    ):
        add_up(team)


def test_a_process_lost_before_it_has_connected_is_named_soon_and_not_missed_by_the_next_team(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lose_it(others: list[SpawnProcess], there: Semaphore) -> None:
        await_all(others, there)
        others[0].kill()
        others[0].join()

    await_all = distributed._await
    monkeypatch.setattr(distributed, "_await", lose_it)
    monkeypatch.setattr(distributed, "TO_MEET", timedelta(seconds=1))

    with (
        pytest.raises(PipelineError, match=r"process 2 of 2 .* killed"),
        leading(2, add_up, device="cpu") as team,
    ):
        add_up(team)
    monkeypatch.undo()

    assert total_with(add_up) == 3.0


def come_late(team: Team) -> None:
    time.sleep(7)
    add_up(team)


def test_connected_processes_have_longer_than_they_had_to_connect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(distributed, "TO_MEET", timedelta(seconds=5))

    assert total_with(come_late) == 3.0


class Unreadable:
    """Ends the process that is given it."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return refuse_to_start, ("no such library",)


def refuse_to_start(reason: str) -> None:
    raise ImportError(reason)


def test_a_process_that_ends_as_it_starts_is_not_waited_for(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with (
        pytest.raises(PipelineError, match=r"process 2 of 2 .* ended with code 1 as it started"),
        leading(2, add_up, Unreadable(), device="cpu"),
    ):
        pass

    assert "ImportError: no such library" in capfd.readouterr().err


def diverge(team: Team, checkpoint: Path) -> None:
    model = network(dropout=0.0)
    torch.nn.init.constant_(model.head.classifier.bias, torch.inf)
    fit(
        model,
        course(forty_images(), RECIPE),
        checkpoint=checkpoint,
        on_epoch=say_nothing,
        team=team,
    )


def test_a_loss_that_is_not_finite_is_told_once_and_the_whole_batch_kept(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    batch = next(course(forty_images()).batches(1, size_px=None, device=torch.device("cpu")))
    checkpoint = tmp_path / "epoch.safetensors"

    with (
        pytest.raises(NotFiniteError, match=r"batch_not_finite"),
        leading(2, diverge, checkpoint, device="cpu") as team,
    ):
        diverge(team, checkpoint)

    assert "Traceback" not in capfd.readouterr().err
    kept = load_file(tmp_path / "batch_not_finite.safetensors")
    assert torch.equal(kept["images"], batch[0])
    assert torch.equal(kept["targets"], batch[1])


def stopping_after(n_epochs: int, recipe: Recipe, checkpoint: Path) -> None:
    """Two processes, the leader of which is told to stop once so many epochs are written."""

    def stop(figures: EpochFigures, speed: EpochSpeed) -> None:
        if figures.epoch == n_epochs:
            raise KeyboardInterrupt

    with leading(2, follow, recipe, checkpoint, "test_resnet", device="cpu") as team:
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
