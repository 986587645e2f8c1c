"""What trials came to, for a person and as a table to keep."""

import csv
import io
from collections.abc import Mapping, Sequence

from fgpipe.operations.search import Search
from fgpipe.ports import Scalar, Trial, TrialResult

N_SHOWN = 5
"""Trials in the table of the best."""


def ranked(search: Search, results: Sequence[TrialResult]) -> list[TrialResult]:
    """The trials that finished, the best first; of equals the earlier."""
    sign = 1 if search.is_minimised else -1
    finished = [(sign * result.value, result) for result in results if result.value is not None]
    finished.sort(key=lambda pair: (pair[0], pair[1].trial.number))
    return [result for _, result in finished]


def summary(
    search: Search, results: Sequence[TrialResult], *, importances: Mapping[str, float]
) -> str:
    """The best trials, what counts, and how to adopt the best one's values."""
    best = ranked(search, results)
    n_pruned, n_failed = (
        sum(result.state == state for result in results) for state in ("pruned", "failed")
    )
    better = "lower" if search.is_minimised else "higher"
    lines = [
        f"{len(results)} trials: {len(best)} finished, {n_pruned} pruned, {n_failed} failed",
        f"the best by {search.file.objective} ({better} is better):",
        *_table(search, best[:N_SHOWN]),
    ]
    if importances:
        shares = ", ".join(f"{key} {share:.2f}" for key, share in importances.items())
        lines.append(f"share in how trials differ: {shares}")
    values = best[0].trial.values
    lines += [
        f"`fgpipe tune --adopt` writes trial {best[0].trial.number}'s values into params.yaml,",
        "`fgpipe tune --adopt NUMBER` another's:",
        *(f"  {key}: {_text(value)}" for key, value in values.items()),
        "without editing it, `dvc exp run` tries them to the end:",
        "  dvc exp run " + " ".join(f"-S {key}={_text(value)}" for key, value in values.items()),
    ]
    return "\n".join(lines)


def table_text(search: Search, results: Sequence[TrialResult]) -> str:
    """Every trial as CSV, one a row."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", search.file.objective, *search.space, "note"])
    for result in results:
        values = [result.trial.values[key] for key in search.space]
        value = "" if result.value is None else result.value
        writer.writerow([result.trial.number, result.state, value, *values, result.note])
    return text.getvalue()


def _table(search: Search, results: Sequence[TrialResult]) -> list[str]:
    rows = [["trial", search.file.objective, *search.space]]
    for result in results:
        values = [_text(result.trial.values[key]) for key in search.space]
        rows.append([str(result.trial.number), f"{result.value:.4f}", *values])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(f"{text:>{width}}" for text, width in zip(row, widths, strict=True))
        for row in rows
    ]


def outcome(search: Search, result: TrialResult, *, best: Sequence[TrialResult]) -> str:
    """A line on a trial that ended; ``best`` has the best so far, if any finished."""
    name = f"trial {result.trial.number}"
    if result.value is None:
        return f"{name} {result.state}: {result.note}"
    leader = best[0]
    if leader.trial.number == result.trial.number:
        return f"{name}: {search.file.objective} {result.value:.4f}, the best so far"
    return (
        f"{name}: {search.file.objective} {result.value:.4f}; the best so far is "
        f"{leader.value:.4f} of trial {leader.trial.number}"
    )


def told(trial: Trial) -> str:
    """A trial's values, for a person."""
    return ", ".join(f"{key} {_text(value)}" for key, value in trial.values.items())


def _text(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
