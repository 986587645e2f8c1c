from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fgpipe.errors import NotFiniteError, PipelineError
from fgpipe.pretraining import loop
from fgpipe.pretraining.checkpoint import Progress, save_progress
from fgpipe.pretraining.loop import Learnt, create_optimiser, learn
from fgpipe.pretraining.methods import Byol, Compared, MethodName, SimSiam
from fgpipe.pretraining.probes import look, neighbour_accuracy
from fgpipe.records import PretrainingFigures
from tests.support.pretraining import make_course, make_learner

pytestmark = pytest.mark.integration  # seconds


def equal(one: Learnt, other: Learnt) -> bool:
    return (
        one.curves == other.curves
        and one.epoch == other.epoch
        and one.weights.keys() == other.weights.keys()
        and all(torch.equal(value, other.weights[name]) for name, value in one.weights.items())
    )


@pytest.mark.parametrize("name", ["simsiam", "byol"])
def test_losses_fall(name: MethodName, tmp_path: Path) -> None:
    learnt = learn(make_learner(name), make_course(epochs=4), checkpoint=tmp_path / "epoch")

    first, *_, last = (figures.loss for figures in learnt.curves if figures.loss is not None)
    assert last < first - 0.1


def test_curves_tell_of_the_start_and_of_every_epoch(tmp_path: Path) -> None:
    learner, course = make_learner(), make_course()
    before = look(learner.learnt, course.probe, precision="fp32")

    learnt = learn(learner, course, checkpoint=tmp_path / "epoch")

    after = look(learner.learnt, course.probe, precision="fp32")
    assert [figures.epoch for figures in learnt.curves] == [0, 1, 2, 3]
    assert learnt.curves[0].loss is None
    assert learnt.curves[0].neighbour_accuracy == neighbour_accuracy(before, course.probe)
    assert learnt.curves[-1].neighbour_accuracy == neighbour_accuracy(after, course.probe)
    assert not learnt.collapsed


@pytest.mark.parametrize("name", ["simsiam", "byol", "dino"])
def test_one_that_was_killed_after_an_epoch_goes_on_to_the_same_weights(
    name: MethodName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = learn(make_learner(name), make_course(), checkpoint=tmp_path / "one")

    def save_and_break_off(path: Path, progress: Progress) -> None:
        save_progress(path, progress)
        if len(progress.curves) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_progress", save_and_break_off)

    with pytest.raises(KeyboardInterrupt):
        learn(make_learner(name), make_course(), checkpoint=tmp_path / "two")
    resumed = learn(make_learner(name), make_course(), checkpoint=tmp_path / "two")

    assert equal(resumed, undisturbed)


class Constant(SimSiam):
    """Pleases its loss by giving all images one row."""

    def loss(self, first: torch.Tensor, second: torch.Tensor) -> Compared:
        loss, rows = super().loss(first, second)
        return Compared(loss * 0, torch.ones_like(rows) + 1e-4 * rows)


def test_rows_that_have_become_one_end_it(tmp_path: Path) -> None:
    learnt = learn(
        Constant(make_learner("simsiam").learnt), make_course(), checkpoint=tmp_path / "e"
    )

    assert learnt.collapsed
    assert len(learnt.curves) == 2
    assert learnt.epoch is None
    assert not learnt.weights


def test_a_backbone_whose_rows_lie_on_a_line_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "COLLAPSED_RANK", 1000.0)

    learnt = learn(make_learner(), make_course(), checkpoint=tmp_path / "epoch")

    assert learnt.collapsed
    assert len(learnt.curves) == 2


def test_what_was_good_before_a_collapse_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save_and_flatten(path: Path, progress: Progress) -> None:
        save_progress(path, progress)
        assert isinstance(progress.learner, Byol)
        for network in (progress.learner.student, progress.learner.teacher):
            nn.init.zeros_(network[1].layers[-1].weight)

    monkeypatch.setattr(loop, "save_progress", save_and_flatten)
    course = make_course(learning_rate=1e-9)

    learnt = learn(make_learner(), course, checkpoint=tmp_path / "epoch")

    assert learnt.collapsed
    assert len(learnt.curves) == 3
    assert learnt.epoch == 1
    assert learnt.weights


@pytest.mark.parametrize(
    ("accuracies", "kept"), [((0.5, 0.9, 0.7), 2), ((0.9, 0.5, 0.9), 3), ((0.2, 0.2, 0.1), 2)]
)
def test_kept_is_the_epoch_with_the_best_neighbours_of_equal_ones_the_last(
    accuracies: tuple[float, ...], kept: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def figures(
        *_: object, epoch: int, loss: float | None = None, spread: float | None = None
    ) -> PretrainingFigures:
        return PretrainingFigures(
            epoch=epoch,
            loss=loss,
            spread=spread,
            effective_rank=5,
            neighbour_accuracy=(1.0, *accuracies)[epoch],
        )

    monkeypatch.setattr(loop, "epoch_figures", figures)

    learnt = learn(make_learner(), make_course(), checkpoint=tmp_path / "epoch")

    assert learnt.epoch == kept
    shorter = make_course(epochs=3)
    network = make_learner()
    monkeypatch.setattr(loop, "save_progress", stop_after(kept))
    with pytest.raises(KeyboardInterrupt):
        learn(network, shorter, checkpoint=tmp_path / "other")
    state = network.learnt.backbone.network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in learnt.weights.items())


def stop_after(epoch: int) -> Callable[[Path, Progress], None]:
    def stop(path: Path, progress: Progress) -> None:
        if len(progress.curves) == epoch + 1:
            raise KeyboardInterrupt

    return stop


def test_what_a_network_draws_is_told_by_seed_and_epoch(tmp_path: Path) -> None:
    drawn: list[float] = []

    class Drawing(Byol):
        def loss(self, first: torch.Tensor, second: torch.Tensor) -> Compared:
            drawn.append(torch.rand(1).item())
            return super().loss(first, second)

    for name in ("one", "two"):
        torch.manual_seed(len(drawn))
        network = Drawing(make_learner("simsiam").learnt, momentum=0.9)
        learn(network, make_course(epochs=2), checkpoint=tmp_path / name)

    assert drawn[:4] == drawn[4:]
    assert len(set(drawn)) == 4


class Broken(SimSiam):
    """Divides by zero."""

    def loss(self, first: torch.Tensor, second: torch.Tensor) -> Compared:
        loss, rows = super().loss(first, second)
        return Compared(loss / 0, rows)


def test_a_loss_that_is_not_finite_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"is -?(inf|nan); a lower pretrain\.learning_rate"):
        learn(Broken(make_learner("simsiam").learnt), make_course(), checkpoint=tmp_path / "epoch")


class Overshooting(SimSiam):
    """Its gradient is infinite, its loss is not."""

    def loss(self, first: torch.Tensor, second: torch.Tensor) -> Compared:
        loss, rows = super().loss(first, second)
        loss.register_hook(lambda gradient: gradient * torch.inf)
        return Compared(loss, rows)


def test_so_is_a_gradient(tmp_path: Path) -> None:
    learner = Overshooting(make_learner("simsiam").learnt)

    with pytest.raises(NotFiniteError, match=r"gradient .* is not finite; a lower pretrain\."):
        learn(learner, make_course(), checkpoint=tmp_path / "epoch")


def blown(progress: Progress, *_: object, **__: object) -> tuple[float, np.ndarray]:
    """A step that leaves no number in the backbone."""
    with torch.no_grad():
        for parameter in progress.learner.learnt.parameters():
            parameter.fill_(torch.nan)
    return 0.0, np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)


def test_so_is_what_the_backbone_makes_of_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    course = make_course()
    monkeypatch.setattr(loop, "_step", blown)

    with pytest.raises(NotFiniteError, match=r"images is not finite; a lower pretrain\."):
        learn(make_learner("simsiam"), course, checkpoint=tmp_path / "epoch")


class Hungry(SimSiam):
    """Asks for more memory than there is."""

    def loss(self, first: torch.Tensor, second: torch.Tensor) -> Compared:
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_memory_that_does_not_do_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"16 images a step; a lower pretrain\.batch_size"):
        learn(Hungry(make_learner("simsiam").learnt), make_course(), checkpoint=tmp_path / "epoch")


def test_weights_are_decayed_but_biases_norms_and_teachers_are_not() -> None:
    learner = make_learner()

    decayed, others = create_optimiser(learner, weight_decay=0.5).param_groups

    assert decayed["weight_decay"] == 0.5
    assert others["weight_decay"] == 0
    assert all(parameter.ndim > 1 for parameter in decayed["params"])
    assert all(parameter.ndim <= 1 for parameter in others["params"])
    assert isinstance(learner, Byol)
    n_learning = sum(p.numel() for group in (decayed, others) for p in group["params"])
    n_teacher = sum(p.numel() for p in learner.teacher.parameters())
    assert n_learning == sum(p.numel() for p in learner.parameters()) - n_teacher


def test_every_epoch_has_views_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []

    class Watched(Byol):
        def loss(self, first: torch.Tensor, second: torch.Tensor) -> Compared:
            seen.extend(np.asarray(view).tobytes() for view in (*first, *second))
            return super().loss(first, second)

    learn(
        Watched(make_learner("simsiam").learnt, momentum=0.9),
        make_course(epochs=2),
        checkpoint=tmp_path / "epoch",
    )

    assert len(seen) == len(set(seen)) == 2 * 2 * 30
