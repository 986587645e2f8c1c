"""The searcher in memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from fgpipe.ports import Scalar, Trial, TrialResult


class FakeSearcher:
    """Tries given values in turn, and stops a trial where it is told to."""

    def __init__(
        self,
        values: Sequence[Mapping[str, Scalar]],
        *,
        stops: Callable[[Trial, int, float], bool] = lambda trial, epoch, value: False,
    ) -> None:
        self._values: Iterator[Mapping[str, Scalar]] = iter(values)
        self._stops = stops
        self._n_begun = 0
        self._again: list[Mapping[str, Scalar]] = []
        self.running: dict[int, Trial] = {}
        self.ended: dict[int, TrialResult] = {}
        self.reported: dict[int, dict[int, float]] = {}
        """Of each trial, the objective by epoch."""

    def results(self) -> tuple[TrialResult, ...]:
        return tuple(self.ended[number] for number in sorted(self.ended))

    def take_up(self) -> int:
        self._again = [trial.values for trial in self.running.values()]
        self.running.clear()
        return len(self._again)

    def begin(self, first: Mapping[str, Scalar] | None) -> Trial:
        if self._again:
            values = self._again.pop(0)
        elif first is not None and not self._n_begun:
            values = first
        else:
            values = next(self._values)
        trial = Trial(number=self._n_begun, values=dict(values))
        self._n_begun += 1
        self.running[trial.number] = trial
        return trial

    def report(self, trial: Trial, *, epoch: int, value: float) -> bool:
        self.reported.setdefault(trial.number, {})[epoch] = value
        return self._stops(trial, epoch, value)

    def end(self, result: TrialResult) -> None:
        del self.running[result.trial.number]
        self.ended[result.trial.number] = result

    def importances(self) -> Mapping[str, float]:
        return {}
