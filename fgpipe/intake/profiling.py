"""Writes ``data/expectations.yaml`` once, from data or for data still to come.

The bounds leave room around what is there; the comments say how much. From then on the
file is its owner's.
"""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from fgpipe.errors import InputError
from fgpipe.images.checks import DRIFT_FEATURES
from fgpipe.images.data_tables import MEASURES, classes_table, images_table
from fgpipe.images.expectations_file import parse_suite
from fgpipe.records import SPLITS, write_atomically

HEADER = """\
# What the data must be like, checked by `dvc repro validate`. {origin}
#
# Each entry has a name, a meaning for people, a severity and a check with its bounds (which
# messages and the report add to the meaning):
#   severity: refuse  nothing is trained on data that do not meet it
#             warn    said in the output, in `fgpipe status` and in the report, no more
# A row expectation of Great Expectations can be named too, on a column of the table of
# images, classes, groups or data:
#   - name: files_not_huge
#     meaning: a file is at most 20 MB
#     expect: expect_column_values_to_be_between
#     table: images
#     column: n_bytes
#     arguments: {{max_value: 20000000}}
#     severity: warn
# What always holds is not here and cannot be taken back: all columns are there, hashes are
# well formed, no content twice, one label a content, no group in two splits.
schema_version: 1
expectations:
"""

OUTLIERS = 8
"""Robust deviations from the median image beyond which an image is an outlier at least."""

Entry = tuple[str, dict[str, object]]


def write_expectations(path: Path, *, table: pd.DataFrame | None, force: bool) -> int:
    """Write the file; how many expectations it has.

    Args:
        path: Where to.
        table: The manifest's, whose values the bounds are taken from; None for bounds
            that any data can meet.
        force: Whether to replace a file that is there.

    Raises:
        InputError: If there is one and it is not to be replaced, or a folder of that name.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder, where a file goes; move it away")
    if path.exists() and not force:
        raise InputError(
            f"{path} exists, and may hold bounds that somebody chose; `fgpipe data profile "
            "--force` writes it anew"
        )
    text = expectations_text(table)
    n_expectations = len(parse_suite(text, name=str(path)).expectations)
    write_atomically(path, text.encode())
    return n_expectations


def expectations_text(table: pd.DataFrame | None) -> str:
    """The file's content."""
    if table is None:
        entries = [(_kept(comment, fields), fields) for comment, fields in _general()]
        origin = (
            "Bounds that most\n# data meet; `fgpipe data profile --force` takes them from yours."
        )
    else:
        entries = _of_data(table)
        origin = "The bounds\n# were taken from the data; change them as you see fit."
    return HEADER.format(origin=origin) + "\n".join(_text(*entry) for entry in entries)


def _kept(comment: str, fields: dict[str, object]) -> str:
    """What a comment says of values does not hold of bounds that were not taken from any."""
    return comment if fields["check"] in {"channels", "outliers", "drift"} else ""


def _text(comment: str, fields: dict[str, object]) -> str:
    """One entry; lists stay on one line where they are short."""
    lines = [f"  # {line}" for line in comment.splitlines()]
    for index, (key, value) in enumerate(fields.items()):
        flow = yaml.safe_dump(
            value, default_flow_style=True, width=10_000, allow_unicode=True
        ).removesuffix("...\n")
        lines.append(f"  {'-' if index == 0 else ' '} {key}: {flow.strip()}")
    return "\n".join(lines) + "\n"


def _general() -> list[Entry]:
    return [
        *_of_images(width=(16, 20000), height=(16, 20000), aspect=10.0, channels=[1, 2, 3, 4]),
        *_of_light(brightness=(0.01, 0.99), contrast=0.005, sharpness=None),
        *_outliers(dict.fromkeys(("brightness", "contrast", "sharpness"), float(OUTLIERS))),
        *_of_classes(smallest=10, in_split=1, imbalance=100.0),
        _quarantine(0.05),
        *_drift(),
    ]


def _of_data(table: pd.DataFrame) -> list[Entry]:
    images, classes = images_table(table), classes_table(table, expected=None)
    sides = {
        name: (max(1, int(images[name].min()) // 2), 2 * int(images[name].max()))
        for name in ("width_px", "height_px")
    }
    channels = [int(n) for n in sorted(images["channels"].unique())]
    darkest, brightest = float(images["brightness"].min()), float(images["brightness"].max())
    in_splits = classes[[f"n_images_in_{split}" for split in SPLITS]].to_numpy()
    outliers = {}
    for name in ("brightness", "contrast", "sharpness"):
        one_in_1000 = float(np.quantile(images[f"{name}_deviations"], 0.999))
        outliers[name] = float(max(OUTLIERS, math.ceil(one_in_1000)))
    return [
        *_of_images(
            width=sides["width_px"],
            height=sides["height_px"],
            aspect=math.ceil(15 * float(images["aspect_ratio"].max())) / 10,
            channels=channels,
        ),
        *_of_light(
            brightness=(_down(darkest / 2), 1 - _down((1 - brightest) / 2)),
            contrast=_down(float(images["contrast"].min()) / 2),
            sharpness=_down(float(images["sharpness"].min()) / 2),
        ),
        *_outliers(outliers),
        _labels([str(label) for label in classes["label"]]),
        *_of_classes(
            smallest=max(2, int(classes["n_images"].min()) // 2),
            in_split=max(1, int(in_splits.min()) // 2),
            imbalance=max(
                2.0, math.ceil(15 * float(classes["times_smaller_than_largest"].max())) / 10
            ),
        ),
        _quarantine(0.05),
        *_drift(),
    ]


def _down(value: float) -> float:
    """Two significant digits, rounded down."""
    if value <= 0:
        return 0.0
    digits = 1 - math.floor(math.log10(value))
    return math.floor(value * 10**digits) / 10**digits if digits > 0 else float(math.floor(value))


def _of_images(
    *, width: tuple[int, int], height: tuple[int, int], aspect: float, channels: list[int]
) -> list[Entry]:
    room = "Sides from half the smallest to twice the largest."
    return [
        _bounded(room, "width", "an image has a usual width in px", *width),
        _bounded("", "height", "an image has a usual height in px", *height),
        (
            "One and a half times the longest strip.",
            {
                "name": "aspect_ratio",
                "meaning": "an image is no strip, by its longer side over the shorter",
                "check": "aspect_ratio",
                "max": aspect,
                "severity": "refuse",
            },
        ),
        (
            "1 grey, 2 grey and alpha, 3 colour, 4 colour and alpha.",
            {
                "name": "channels",
                "meaning": "an image is grey or colour as expected",
                "check": "channels",
                "values": channels,
                "severity": "warn" if len(channels) < 4 else "refuse",
            },
        ),
    ]


def _of_light(
    *, brightness: tuple[float, float], contrast: float, sharpness: float | None
) -> list[Entry]:
    low, high = brightness[0], round(brightness[1], 4)
    room = "Half way from the darkest image to black, from the brightest to white."
    meaning = "an image is not too dark or too bright, from 0 for black to 1 for white"
    entries = [
        _bounded(room, "brightness", meaning, low, high),
        _bounded(
            "Half the flattest image's.",
            "contrast",
            "an image is not flat, by the standard deviation of its grey values",
            contrast,
            None,
        ),
    ]
    if sharpness is not None:
        meaning = "an image is not blurred"
        entries.append(
            _bounded("Half the most blurred image's.", "sharpness", meaning, sharpness, None)
        )
    return entries


def _bounded(comment: str, name: str, meaning: str, low: float, high: float | None) -> Entry:
    bounds = {"min": low} if high is None else {"min": low, "max": high}
    fields = {"name": name, "meaning": meaning, "check": name, **bounds, "severity": "refuse"}
    return comment, fields


def _outliers(limits: dict[str, float]) -> list[Entry]:
    comment = (
        "Robust deviations from the median image (median absolute deviation times 1.48): 8, or\n"
        "what one image in a thousand exceeds."
    )
    assert set(limits) <= set(MEASURES), limits
    return [
        (
            comment if index == 0 else "",
            {
                "name": f"{column}_outliers",
                "meaning": f"no image's {column} is too many deviations from the median's",
                "check": "outliers",
                "column": column,
                "max": limit,
                "severity": "warn",
            },
        )
        for index, (column, limit) in enumerate(limits.items())
    ]


def _labels(labels: list[str]) -> Entry:
    return (
        "Classes that come or go change what the model answers.",
        {
            "name": "label_set",
            "meaning": "the classes are those named here, none is new and none has vanished",
            "check": "labels",
            "values": labels,
            "severity": "warn",
        },
    )


def _of_classes(*, smallest: int, in_split: int, imbalance: float) -> list[Entry]:
    return [
        (
            "Half of what the smallest class has.",
            {
                "name": "images_per_class",
                "meaning": "a class has enough images",
                "check": "images_per_class",
                "min": smallest,
                "severity": "refuse",
            },
        ),
        *(
            (
                "",
                {
                    "name": f"images_per_class_in_{split}",
                    "meaning": f"a class has enough images in the {split} split",
                    "check": "images_per_class",
                    "split": split,
                    "min": in_split,
                    "severity": "refuse",
                },
            )
            for split in SPLITS
        ),
        (
            "One and a half times as it is.",
            {
                "name": "imbalance",
                "meaning": "the largest class is not too many times any other",
                "check": "imbalance",
                "max": imbalance,
                "severity": "refuse",
            },
        ),
    ]


def _quarantine(share: float) -> Entry:
    return (
        "The manifest stage refuses above `manifest.max_quarantined_fraction` of params.yaml.",
        {
            "name": "quarantined",
            "meaning": "few of the images that came in are quarantined",
            "check": "quarantined",
            "max": share,
            "severity": "warn",
        },
    )


def _drift() -> list[Entry]:
    comment = (
        "Images added since the champion was trained, against those of its data; only where\n"
        "there is a champion. Population stability index: below 0.1 no change, above 0.25 a\n"
        "large one. Embeddings: area under the curve of a classifier that tells the two apart,\n"
        "0.5 to 1. A figure that chance explains, as it does of few images, counts as none."
    )
    return [
        (
            comment if index == 0 else "",
            {
                "name": f"{feature}_drift",
                "meaning": "what is added looks like what the champion was trained on"
                if feature == "embeddings"
                else f"{feature} of what is added: spread as in the champion's data",
                "check": "drift",
                "feature": feature,
                "max": 0.8 if feature == "embeddings" else 0.25,
                "severity": "warn",
            },
        )
        for index, feature in enumerate(DRIFT_FEATURES)
    ]
