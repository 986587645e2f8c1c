"""Checks that ``data/expectations.yaml`` can name in a word, and what they come to.

=================  =================================================================
check              takes
=================  =================================================================
width, height      ``min``, ``max`` in px
aspect_ratio       ``max``: longer side over shorter
channels           ``values``: 1 grey, 2 grey and alpha, 3 colour, 4 colour and alpha
brightness         ``min``, ``max`` of the mean grey value, 0 black to 1 white
contrast           ``min``, ``max`` of the grey values' standard deviation, 0 to 0.5
sharpness          ``min``, ``max``: little is blurred
outliers           ``column``, ``max``: robust deviations from the median image
labels             ``values``: the classes; others are new, those missing vanished
images_per_class   ``min``, ``max``; ``split``: of that one only
imbalance          ``max``: largest class over any other
quarantined        ``max``: share of the images that came in
drift              ``feature``, ``max``: see :mod:`fgpipe.metrics.drift`
=================  =================================================================
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from fgpipe.images.data_tables import MEASURES
from fgpipe.ports import TableName
from fgpipe.records import SPLITS

DRIFT_FEATURES = ("labels", *MEASURES, "embeddings")
"""What is compared with the data of the champion."""

BETWEEN = "expect_column_values_to_be_between"
IN_SET = "expect_column_values_to_be_in_set"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What an entry says."""

    low: float | None = None
    high: float | None = None
    values: tuple[object, ...] | None = None
    split: str | None = None
    column: str | None = None
    feature: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One row of the table above."""

    keys: tuple[str, ...]
    """Keys it takes besides those of every entry."""
    table: TableName = "images"
    """Which table it is about."""
    column: str = ""
    """Its column; where the entry names it, what comes behind that name."""
    lowest: float = 0
    """No bound can be below."""
    highest: float = float("inf")
    """No bound can be above."""

    def compiled(self, bounds: Bounds) -> tuple[TableName, str, dict[str, object]]:
        """Table, kind and arguments of the expectation it comes to."""
        named = bounds.column or bounds.feature or ""
        column = named + self.column + (f"_in_{bounds.split}" if bounds.split else "")
        if "values" in self.keys:
            values = ["known"] if self.table == "classes" else list(bounds.values or ())
            return self.table, IN_SET, {"column": column, "value_set": values}
        limits = {"min_value": bounds.low, "max_value": bounds.high}
        given = {key: value for key, value in limits.items() if value is not None}
        return self.table, BETWEEN, {"column": column, **given}


_RANGE = ("min", "max")

CHECKS: Mapping[str, Check] = {
    "width": Check(keys=_RANGE, column="width_px", lowest=1),
    "height": Check(keys=_RANGE, column="height_px", lowest=1),
    "aspect_ratio": Check(keys=("max",), column="aspect_ratio", lowest=1),
    "channels": Check(keys=("values",), column="channels"),
    "brightness": Check(keys=_RANGE, column="brightness", highest=1),
    "contrast": Check(keys=_RANGE, column="contrast", highest=0.5),
    "sharpness": Check(keys=_RANGE, column="sharpness"),
    "outliers": Check(keys=("column", "max"), column="_deviations"),
    "labels": Check(keys=("values",), table="classes", column="status"),
    "images_per_class": Check(
        keys=(*_RANGE, "split"), table="classes", column="n_images", lowest=1
    ),
    "imbalance": Check(
        keys=("max",), table="classes", column="times_smaller_than_largest", lowest=1
    ),
    "quarantined": Check(keys=("max",), table="data", column="quarantined_fraction", highest=1),
    "drift": Check(keys=("feature", "max"), table="drift"),
}


def problem_of_bounds(name: str, bounds: Bounds) -> str | None:  # noqa: PLR0911 - one line a mistake
    """What is wrong with an entry that names a check, if anything."""
    check = CHECKS[name]
    for key, value in (("min", bounds.low), ("max", bounds.high)):
        if value is not None and not check.lowest <= value <= check.highest:
            return f"{key} must be from {check.lowest:g} to {check.highest:g} (it is {value:g})"
    if bounds.low is not None and bounds.high is not None and bounds.low > bounds.high:
        return f"min ({bounds.low:g}) must not be above max ({bounds.high:g})"
    if "max" in check.keys and bounds.low is None and bounds.high is None:
        return f"needs {' or '.join(key for key in _RANGE if key in check.keys)}"
    if bounds.feature == "embeddings" and bounds.high is not None and not 0.5 <= bounds.high <= 1:
        return f"max must be from 0.5 (alike) to 1 for embeddings (it is {bounds.high:g})"
    if "column" in check.keys and bounds.column not in MEASURES:
        return f"column {bounds.column!r} is no measure; there are {', '.join(MEASURES)}"
    if "feature" in check.keys and bounds.feature not in DRIFT_FEATURES:
        return f"feature {bounds.feature!r} is none; there are {', '.join(DRIFT_FEATURES)}"
    if bounds.split is not None and bounds.split not in SPLITS:
        return f"split {bounds.split!r} is none; there are {', '.join(SPLITS)}"
    return _problem_of_values(name, bounds) if "values" in check.keys else None


def _problem_of_values(name: str, bounds: Bounds) -> str | None:
    values = bounds.values or ()
    if name == "channels":
        wrong = [v for v in values if type(v) is not int or v not in {1, 2, 3, 4}]
        return "values must be some of 1, 2, 3, 4" if wrong or not values else None
    for value in values:
        if not isinstance(value, str) or not value.strip():
            return f"values must be names, those like numbers, dates or yes in quotes ({value!r})"
    if len(values) < 2:
        return "values must name at least two classes"
    repeated = [name for name, n in Counter(values).items() if n > 1]
    return f"values names {repeated[0]!r} twice" if repeated else None
