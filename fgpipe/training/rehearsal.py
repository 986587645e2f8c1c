"""Short rehearsals of a training: at which rate it learns, and how long its parts take.

Neither looks at validation labels or leaves a weight behind: they help to choose values of
``params.yaml`` before a training is paid for.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, count, islice

import numpy as np
import torch
from jaxtyping import Float64

from fgpipe.errors import NotFiniteError, PipelineError
from fgpipe.nn.recogniser import Recogniser
from fgpipe.records import Resolved
from fgpipe.training.distributed import ALONE, Team
from fgpipe.training.loop import Course, mixed, start
from fgpipe.training.optimisers import set_rates
from fgpipe.training.steps import Images, Stepper, Targets
from fgpipe.training.validation import validation_logits

LOWEST, HIGHEST = 1e-3, 1e2
"""The range of rates that is tried, as multiples of the one in ``params.yaml``."""

SMOOTHING = 0.9
"""What a step keeps of the smoothed loss; its start is corrected for, as Adam's moments are."""

DIVERGED = 2.0
"""Times the lowest smoothed loss at which a range test ends."""

WARM_STEPS, TIMED_STEPS = 2, 6
"""Steps that fill caches, and those that are timed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateRange:
    """What a range test found."""

    rates: Float64[np.ndarray, " steps"]
    """The head's at each step, rising by a constant factor."""
    losses: Float64[np.ndarray, " steps"]
    """Smoothed."""
    suggested: float
    """Where the loss falls most steeply in the logarithm of the rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long the parts of a training take, in seconds."""

    step: float
    """A step at the images' full size."""
    low_step: float
    """A step at the low size; as ``step`` where there is none."""
    image: float
    """An image's way through the network where it is not trained."""


def range_test(network: Recogniser, course: Course, *, n_steps: int = 100) -> RateRange:
    """Train with a rate that rises from far too low to far too high.

    Args:
        network: Changed: it is for this alone.
        course: What is learnt; clipping and rates are its recipe's but for the rise.
        n_steps: From the lowest rate to the highest. The test ends before where the loss
            is no number or :data:`DIVERGED` times its lowest.

    Raises:
        NotFiniteError: If the first loss is not finite, which is not for the rate.
        PipelineError: If no loss was found that falls.

    Source: Smith, "Cyclical Learning Rates for Training Neural Networks" (the range test).
    Differs in the choice: the paper looks at the curve, this takes its steepest fall, as
    fastai's finder does by default in its first version.
    """
    stepper = _stepper(network, course)
    factors = np.geomspace(LOWEST, HIGHEST, n_steps)
    losses: list[float] = []
    smoothed = 0.0
    for factor, batch in zip(factors, _endless(course, stepper), strict=False):
        set_rates(stepper.optimiser, float(factor))
        try:
            loss = stepper.step(*batch)
        except NotFiniteError:
            if not losses:
                raise
            break  # the rate is too high
        smoothed = SMOOTHING * smoothed + (1 - SMOOTHING) * loss
        losses.append(smoothed / (1 - SMOOTHING ** (len(losses) + 1)))
        if losses[-1] > DIVERGED * min(losses):
            break
    rates = course.recipe.learning_rate * factors[: len(losses)]
    found = np.array(losses)
    return RateRange(rates=rates, losses=found, suggested=steepest(rates, found))


def steepest(rates: Float64[np.ndarray, " steps"], losses: Float64[np.ndarray, " steps"]) -> float:
    """The rate at which a curve of losses falls most, for the same factor of the rate.

    What comes after its lowest point does not count.

    Raises:
        PipelineError: If it nowhere falls.
    """
    end = int(losses.argmin()) + 1
    if end < 3:
        raise PipelineError(
            "the loss falls at no rate that was tried; train.learning_rate may be far too high "
            f"(tried: {rates[0]:.1e} to {rates[-1]:.1e}), or the labels have nothing to do with "
            "the images"
        )
    slopes = np.gradient(losses[:end], np.log(rates[:end]))
    return float(rates[int(slopes.argmin())])


def measure_pace(network: Recogniser, course: Course) -> Pace:
    """Time the parts of a training on this machine.

    Args:
        network: Changed: it is for this alone.
        course: What would be learnt.
    """
    recipe, examples = course.recipe, course.examples
    full = course.with_recipe(low_size_px=0)
    stepper = _stepper(network, course)
    team = sharing(course.resolved)
    step = _seconds_a_step(stepper, _endless(full, stepper, team=team))
    low_step = step
    if recipe.low_size_px:
        low_step = _seconds_a_step(stepper, _endless(course, stepper, team=team))
    some = replace(examples, validation=examples.validation[:64])
    validation_logits(network, some, precision=course.resolved.precision)
    begin = time.perf_counter()
    validation_logits(network, some, precision=course.resolved.precision)
    image = (time.perf_counter() - begin) / len(some.validation)
    return Pace(step=step, low_step=low_step, image=image)


def sharing(resolved: Resolved) -> Team:
    """Whose share of a batch a process has as long as all have: several on GPUs do.

    Those on the CPU share its cores too, and take as long as one that has them all.
    """
    return ALONE if resolved.device == "cpu" else Team(size=resolved.processes)


def _seconds_a_step(stepper: Stepper, batches: Iterator[tuple[Images, Targets]]) -> float:
    stepper.network.train()
    set_rates(stepper.optimiser, LOWEST)
    ends = []
    for batch in islice(batches, WARM_STEPS + TIMED_STEPS):
        stepper.step(*batch)
        ends.append(time.perf_counter())
    return float(np.median(np.diff(ends[WARM_STEPS - 1 :])))


def _stepper(network: Recogniser, course: Course) -> Stepper:
    torch.set_num_threads(course.resolved.threads)
    network.to(course.resolved.device).to(memory_format=torch.channels_last)
    torch.manual_seed(course.recipe.seed)
    stepper = start(network, course, folder=None).stepper
    network.train()  # what is frozen by then stays in evaluation
    if course.recipe.compile:
        stepper.compile()
    return stepper


def _endless(
    course: Course, stepper: Stepper, *, team: Team = ALONE
) -> Iterator[tuple[Images, Targets]]:
    """What a training would be given, one epoch after the other."""
    size_px = course.recipe.size_px(1)
    epochs = (
        course.batches(n, size_px=size_px, device=stepper.device, team=team) for n in count(1)
    )
    for step, batch in enumerate(chain.from_iterable(epochs)):
        yield mixed(*batch, stepper=stepper, recipe=course.recipe, step=step)
