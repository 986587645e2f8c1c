"""A manifest's table that nothing is wrong with, and tables with one flaw each."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from fgpipe.config import ValidateConfig
from fgpipe.images.expectations_file import parse_suite
from fgpipe.images.table import TABLE_NAME
from fgpipe.records import SPLITS, LabelCount, Manifest, Protocol, Stored

CONFIG = ValidateConfig(refuse_on="refuse", drift_sample=0, seed=0)
SUITE_TEXT = """\
schema_version: 1
expectations:
  - {name: width, meaning: of a good width, check: width, min: 32, max: 1000, severity: refuse}
  - {name: height, meaning: of a good height, check: height, min: 32, max: 1000, severity: refuse}
  - {name: aspect_ratio, meaning: no strip, check: aspect_ratio, max: 3, severity: refuse}
  - {name: channels, meaning: grey or colour,
      check: channels, values: [1, 2, 3, 4], severity: refuse}
  - {name: brightness, meaning: neither, check: brightness, min: 0.02, max: 0.98, severity: refuse}
  - {name: contrast, meaning: not flat, check: contrast, min: 0.01, severity: refuse}
  - {name: sharpness, meaning: not blurred, check: sharpness, min: 2, severity: refuse}
  - {name: width_px_outliers, meaning: no odd one,
      check: outliers, column: width_px, max: 8, severity: warn}
  - {name: brightness_outliers, meaning: no odd one,
      check: outliers, column: brightness, max: 8, severity: warn}
  - {name: contrast_outliers, meaning: no odd one,
      check: outliers, column: contrast, max: 8, severity: warn}
  - {name: sharpness_outliers, meaning: no odd one,
      check: outliers, column: sharpness, max: 8, severity: warn}
  - {name: label_set, meaning: the classes known,
      check: labels, values: [crack, fine, stain], severity: warn}
  - {name: images_per_class, meaning: enough of each,
      check: images_per_class, min: 10, severity: refuse}
  - {name: images_per_class_in_train, meaning: enough in train,
      check: images_per_class, split: train, min: 2, severity: refuse}
  - {name: images_per_class_in_validation, meaning: enough in validation,
      check: images_per_class, split: validation, min: 2, severity: refuse}
  - {name: images_per_class_in_calibration, meaning: enough in calibration,
      check: images_per_class, split: calibration, min: 2, severity: refuse}
  - {name: images_per_class_in_test, meaning: enough in test,
      check: images_per_class, split: test, min: 2, severity: refuse}
  - {name: imbalance, meaning: none too frequent, check: imbalance, max: 2, severity: refuse}
  - {name: quarantined, meaning: few are bad, check: quarantined, max: 0.1, severity: warn}
  - {name: labels_drift, meaning: classes as before,
      check: drift, feature: labels, max: 0.25, severity: warn}
  - {name: brightness_drift, meaning: light as before,
      check: drift, feature: brightness, max: 0.25, severity: warn}
  - {name: embeddings_drift, meaning: looks as before,
      check: drift, feature: embeddings, max: 0.8, severity: warn}
  - name: files_small
    meaning: files are small
    severity: warn
    expect: expect_column_values_to_be_between
    column: n_bytes
    arguments: {max_value: 9000}
"""
SUITE = parse_suite(SUITE_TEXT, name="expectations.yaml")
MANIFEST_ONLY = frozenset({"quarantined", "labels_drift", "brightness_drift", "embeddings_drift"})
"""Expectations that no manifest's table alone can break."""
LABELS = ("crack", "fine", "stain")


def sound_table() -> pd.DataFrame:
    """48 images: of each of three labels two in each of eight groups, two groups a split."""
    rows = []
    for label in LABELS:
        for index in range(16):
            group = index // 2
            path = f"images/{label}{index:02d}.png"
            digest = hashlib.sha256(path.encode()).hexdigest()
            rows.append(
                {
                    "id": digest[:16],
                    "path": path,
                    "label": label,
                    "target": LABELS.index(label),
                    "parent": "good" if label == "fine" else "bad",
                    "group": f"group{group}",
                    "batch": 1,
                    "split": SPLITS[group // 2],
                    "box": None,
                    "sha256": digest,
                    "phash": digest[-16:],
                    "width_px": 300,
                    "height_px": 200,
                    "channels": 1,
                    "n_bytes": 5000,
                    "brightness": 0.4,
                    "contrast": 0.2,
                    "sharpness": 40.0,
                    "attribute_camera": "a",
                }
            )
    return pd.DataFrame(rows)


def stored_manifest(
    table: pd.DataFrame, folder: Path, *, protocol: Protocol = "stable"
) -> Stored[Manifest]:
    """The table as the manifest stage leaves it, whatever is wrong with it."""
    table.to_parquet(folder / TABLE_NAME)
    record = Manifest(
        protocol=protocol,
        n_images=len(table),
        n_groups=8,
        n_quarantined=0,
        labels=tuple(
            LabelCount(label=label, parent=None, n_images=dict.fromkeys(SPLITS, 4))
            for label in LABELS
        ),
        attributes={},
        table_sha256="a" * 64,
    )
    return Stored(record=record, payload=folder)


def with_value(row: int, column: str, value: object) -> pd.DataFrame:
    """One value changed."""
    table = sound_table()
    table.loc[row, column] = value
    return table


def with_spread(column: str, *, odd: float) -> pd.DataFrame:
    """A column whose values lie around those of a sound table, and the first far off."""
    table = sound_table()
    spread = [1 + 0.05 * (row % 5 - 2) for row in range(len(table))]
    table[column] = table[column] * spread
    if column == "width_px":
        table[column] = table[column].round().astype(int)
    table.loc[0, column] = odd
    return table


def with_label(label: str, other: str) -> pd.DataFrame:
    """A class under another name."""
    table = sound_table()
    return table.assign(label=table["label"].replace(label, other))


def with_sides(*, width_px: int, height_px: int) -> pd.DataFrame:
    """The first image of another size."""
    table = sound_table()
    table.loc[0, ["width_px", "height_px"]] = [width_px, height_px]
    return table


def without_some(label: str, *, keep: dict[str, int]) -> pd.DataFrame:
    """Only as many images of a label as ``keep`` says of some splits."""
    table = sound_table()
    for split, n_images in keep.items():
        rows = table.index[(table["label"] == label) & (table["split"] == split)]
        table = table.drop(rows[n_images:])
    return table.reset_index(drop=True)


def _with_the_content_of_another(row: int, other: int) -> pd.DataFrame:
    return with_value(row, "sha256", sound_table().loc[other, "sha256"])


def _with_a_split_of_another_name() -> pd.DataFrame:
    table = sound_table()
    table.loc[table["group"] == "group0", "split"] = "holdout"
    return table


def _with_a_blank_label() -> pd.DataFrame:
    table = sound_table()
    return table.assign(label=table["label"].replace("fine", " "))


def _with_a_label_too_frequent() -> pd.DataFrame:
    table = without_some("crack", keep=dict.fromkeys(SPLITS, 3))
    more = table[table["label"] == "fine"].copy()
    more["path"] = more["path"] + ".png"
    more["sha256"] = [hashlib.sha256(path.encode()).hexdigest() for path in more["path"]]
    return pd.concat([table, more], ignore_index=True)


IMPLIED = {
    "label_not_blank": {"label_set"},
    "at_least_two_labels": {"label_set"},
}
"""What cannot but break along with an expectation."""

FLAWS: dict[str, tuple[str, Callable[[], pd.DataFrame], str]] = {
    "a column is gone": (
        "columns",
        lambda: sound_table().drop(columns="phash"),
        "missing phash",
    ),
    "the column of paths is gone": (
        "columns",
        lambda: sound_table().drop(columns="path"),
        "missing path",
    ),
    "a brightness is missing": (
        "values_present",
        lambda: with_value(3, "brightness", float("nan")),
        "images/crack03.png: 1",
    ),
    "a label is missing": (
        "values_present",
        lambda: with_value(3, "label", None),
        "images/crack03.png: 1",
    ),
    "a path stands twice": (
        "path_unique",
        lambda: with_value(1, "path", "images/crack00.png"),
        "images/crack00.png",
    ),
    "a label is blank": ("label_not_blank", _with_a_blank_label, "images/fine00.png:  "),
    "a split is none of the four": (
        "split_known",
        _with_a_split_of_another_name,
        "images/crack00.png: holdout",
    ),
    "a hash is cut off": (
        "sha256_well_formed",
        lambda: with_value(2, "sha256", "abc"),
        "images/crack02.png: abc",
    ),
    "a hash is followed by a line break": (
        "sha256_well_formed",
        lambda: with_value(2, "sha256", "a" * 64 + "\n"),
        "images/crack02.png: " + "a" * 64 + "\n",
    ),
    "an image stands twice": (
        "content_unique",
        lambda: _with_the_content_of_another(1, 0),
        "images/crack00.png: 2",
    ),
    "an image has two labels": (
        "one_label_per_content",
        lambda: _with_the_content_of_another(16, 0),
        "images/crack00.png: 2",
    ),
    "an image is too narrow": (
        "width",
        lambda: with_sides(width_px=31, height_px=40),
        "images/crack00.png: 31",
    ),
    "an image is too wide": (
        "width",
        lambda: with_sides(width_px=1001, height_px=500),
        "images/crack00.png: 1001",
    ),
    "an image is too low": (
        "height",
        lambda: with_sides(width_px=40, height_px=31),
        "images/crack00.png: 31",
    ),
    "an image is too high": (
        "height",
        lambda: with_sides(width_px=500, height_px=1001),
        "images/crack00.png: 1001",
    ),
    "an image is a strip": (
        "aspect_ratio",
        lambda: with_value(0, "height_px", 50),
        "images/crack00.png: 6",
    ),
    "an image is an upright strip": (
        "aspect_ratio",
        lambda: with_value(0, "height_px", 930),
        "images/crack00.png: 3.1",
    ),
    "an image has five channels": (
        "channels",
        lambda: with_value(0, "channels", 5),
        "images/crack00.png: 5",
    ),
    "an image is black": (
        "brightness",
        lambda: with_value(0, "brightness", 0.0101),
        "images/crack00.png: 0.0101",
    ),
    "an image is white": (
        "brightness",
        lambda: with_value(0, "brightness", 0.99),
        "images/crack00.png: 0.99",
    ),
    "an image is flat": (
        "contrast",
        lambda: with_value(0, "contrast", 0.002),
        "images/crack00.png: 0.002",
    ),
    "there is one class": (
        "at_least_two_labels",
        lambda: sound_table().query("label == 'fine'").reset_index(drop=True),
        "found 1",
    ),
    "an image names another parent": (
        "one_parent_per_label",
        lambda: with_value(0, "parent", "good"),
        "crack: 2",
    ),
    "an image names no parent": (
        "one_parent_per_label",
        lambda: with_value(0, "parent", None),
        "crack: 2",
    ),
    "a class has few images": (
        "images_per_class",
        lambda: without_some(
            "crack", keep={"train": 3, "validation": 2, "calibration": 2, "test": 2}
        ),
        "crack: 9",
    ),
    **{
        f"a class has one image in {split}": (
            f"images_per_class_in_{split}",
            lambda split=split: without_some("crack", keep={split: 1}),
            "crack: 1",
        )
        for split in SPLITS
    },
    "a class has no image in test": (
        "images_per_class_in_test",
        lambda: without_some("crack", keep={"test": 0}),
        "crack: 0",
    ),
    "an image is blurred": (
        "sharpness",
        lambda: with_value(0, "sharpness", 1.5),
        "images/crack00.png: 1.5",
    ),
    **{
        f"an image's {column} is far from the others'": (
            f"{column}_outliers",
            lambda column=column, value=value: with_spread(column, odd=value),
            "images/crack00.png: ",
        )
        for column, value in (
            ("width_px", 520),
            ("brightness", 0.8),
            ("contrast", 0.4),
            ("sharpness", 90.0),
        )
    },
    "a class is new": ("label_set", lambda: with_label("fine", "scratch"), "scratch: new"),
    "a file is large": (
        "files_small",
        lambda: with_value(5, "n_bytes", 10_000),
        "images/crack05.png: 10000",
    ),
    "a class is too frequent": ("imbalance", _with_a_label_too_frequent, "crack: 2.667"),
    "a group is in two splits": (
        "groups_in_one_split",
        lambda: with_value(0, "split", "test"),
        "group0: 2",
    ),
}
"""What is wrong with a table: the one expectation that it breaks, the table, an example."""
