"""Refuses data that a good model cannot be made from, with the reasons named.

What is expected of single images, of classes and of groups is stated as expectations on
the manifest's table, to which each row's class, group and content are counted up first:
a class with too few images is then a row whose ``n_images_of_label`` is too small.
Everything refuses; there are no warnings that nobody reads.
"""

import json
from pathlib import Path

import pandas as pd

from fgpipe.config import ValidateConfig
from fgpipe.errors import DataError
from fgpipe.images.table import read_table
from fgpipe.ports import Expectation, Ports
from fgpipe.records import (
    SPLITS,
    ExpectationResult,
    Manifest,
    Stored,
    Validation,
    write_atomically,
)

REQUIRED_COLUMNS = (
    "id",
    "path",
    "label",
    "target",
    "parent",
    "group",
    "split",
    "sha256",
    "phash",
    "width_px",
    "height_px",
    "channels",
    "n_bytes",
    "brightness",
    "contrast",
)
"""Columns that a manifest has, whatever the data's attributes."""

N_CHARACTERS = 120
"""Longest example in a refusal, so that its text stays short whatever the data."""


def validate(
    *, manifest: Stored[Manifest], config: ValidateConfig, out: Path, ports: Ports
) -> Validation:
    """Hold the manifest against what the data must be like.

    Raises:
        DataError: If an expectation is not met; the message names each with examples.
    """
    table = read_table(manifest.payload)
    suite: tuple[Expectation, ...] = (expected_columns(),)
    results = ports.checker.check(table, suite)
    if all(result.passed for result in results):
        # Groups are on both sides of a random split on purpose.
        expectations = expected_rows(config, by_group=manifest.record.protocol != "random")
        results += ports.checker.check(with_counts(table), expectations)
        suite += expectations
    failed = [result for result in results if not result.passed]
    if failed:
        raise DataError(_refusal(failed))
    write_atomically(out / "payload" / "results.json", _in_full(suite, results))
    return Validation(manifest_sha256=manifest.record.sha256(), expectations=results)


def with_counts(table: pd.DataFrame) -> pd.DataFrame:
    """The table with columns that say of each row how its class, group and content stand.

    Args:
        table: With all of :data:`REQUIRED_COLUMNS`.
    """
    sides = table[["width_px", "height_px"]]
    by_label, by_group = table.groupby("label"), table.groupby("group")
    n_images = by_label["path"].transform("size")
    labels_of_sha256 = table.groupby("sha256")["label"]
    needed = [column for column in REQUIRED_COLUMNS if column != "parent"]
    counts = {
        "n_missing_values": table[needed].isna().sum(axis=1),
        "n_images_of_content_and_label": table.groupby(["sha256", "label"])["path"].transform(
            "size"
        ),
        "n_labels_of_content": labels_of_sha256.transform("nunique"),
        "n_parents_of_label": by_label["parent"].transform("nunique", dropna=False),
        "n_splits_of_group": by_group["split"].transform("nunique"),
        "aspect_ratio": sides.max(axis=1) / sides.min(axis=1),
        "n_images_of_label": n_images,
        "times_smaller_than_largest": n_images.max() / n_images,
    }
    for split in SPLITS:
        is_in_split = (table["split"] == split).astype(int)
        counts[f"n_images_of_label_in_{split}"] = is_in_split.groupby(table["label"]).transform(
            "sum"
        )
    return table.assign(**counts)


def expected_columns() -> Expectation:
    """The one that all others rest on."""
    return Expectation(
        name="columns",
        description="the manifest has all of its columns",
        kind="expect_table_columns_to_match_set",
        arguments={"column_set": list(REQUIRED_COLUMNS), "exact_match": False},
    )


def expected_rows(config: ValidateConfig, *, by_group: bool) -> tuple[Expectation, ...]:
    """What every row of :func:`with_counts` must fulfil.

    Args:
        config: The bounds.
        by_group: Whether the images of a group must be in one split.
    """
    expectations = (*_of_rows(), *_of_images(config), *_of_classes(config))
    if by_group:
        expectations += (
            _between(
                "groups_in_one_split",
                "all images of a group are in one split",
                column="n_splits_of_group",
                high=1,
                named_by="group",
            ),
        )
    return expectations


def _of_rows() -> tuple[Expectation, ...]:
    return (
        _between(
            "values_present",
            "no value is missing, but for parents",
            column="n_missing_values",
            high=0,
        ),
        Expectation(
            name="path_unique",
            description="a path is listed once",
            kind="expect_column_values_to_be_unique",
            arguments={"column": "path"},
        ),
        _matching("label_not_blank", "a label has a visible character", "label", r"\S"),
        Expectation(
            name="split_known",
            description=f"a split is one of {', '.join(SPLITS)}",
            kind="expect_column_values_to_be_in_set",
            arguments={"column": "split", "value_set": list(SPLITS)},
        ),
        _matching(
            "sha256_well_formed", "a hash is 64 hexadecimal digits", "sha256", r"^[0-9a-f]{64}\Z"
        ),
        _between(
            "content_unique",
            "an image is listed once: no two files have the same bytes",
            column="n_images_of_content_and_label",
            high=1,
        ),
        _between(
            "one_label_per_content",
            "files with the same bytes have the same label",
            column="n_labels_of_content",
            high=1,
        ),
    )


def _of_images(config: ValidateConfig) -> tuple[Expectation, ...]:
    low, high = config.min_side_px, config.max_side_px
    return (
        _between(
            "width", f"an image is {low} to {high} px wide", column="width_px", low=low, high=high
        ),
        _between(
            "height", f"an image is {low} to {high} px high", column="height_px", low=low, high=high
        ),
        _between(
            "aspect_ratio",
            f"the longer side is at most {config.max_aspect_ratio:g} times the shorter",
            column="aspect_ratio",
            high=config.max_aspect_ratio,
        ),
        Expectation(
            name="channels",
            description="an image is grey or colour, with or without alpha",
            kind="expect_column_values_to_be_in_set",
            arguments={"column": "channels", "value_set": [1, 2, 3, 4]},
        ),
        _between(
            "brightness",
            f"the mean grey value is {config.min_brightness:g} to {config.max_brightness:g}",
            column="brightness",
            low=config.min_brightness,
            high=config.max_brightness,
        ),
        _between(
            "contrast",
            f"grey values have a standard deviation of at least {config.min_contrast:g}",
            column="contrast",
            low=config.min_contrast,
        ),
    )


def _of_classes(config: ValidateConfig) -> tuple[Expectation, ...]:
    n_in_split = config.min_images_per_class_and_split
    return (
        Expectation(
            name="at_least_two_labels",
            description="there are at least two classes",
            kind="expect_column_unique_value_count_to_be_between",
            arguments={"column": "label", "min_value": 2},
        ),
        _between(
            "one_parent_per_label",
            "all images of a class name the same parent, or none does",
            column="n_parents_of_label",
            high=1,
            named_by="label",
        ),
        _between(
            "images_per_class",
            f"a class has at least {config.min_images_per_class} images",
            column="n_images_of_label",
            low=config.min_images_per_class,
            named_by="label",
        ),
        *(
            _between(
                f"images_per_class_in_{split}",
                f"a class has at least {n_in_split} images in the {split} split",
                column=f"n_images_of_label_in_{split}",
                low=n_in_split,
                named_by="label",
            )
            for split in SPLITS
        ),
        _between(
            "imbalance",
            f"the largest class is at most {config.max_imbalance:g} times any other",
            column="times_smaller_than_largest",
            high=config.max_imbalance,
            named_by="label",
        ),
    )


def _between(
    name: str,
    description: str,
    *,
    column: str,
    low: float | None = None,
    high: float | None = None,
    named_by: str = "path",
) -> Expectation:
    bounds = {"min_value": low, "max_value": high}
    return Expectation(
        name=name,
        description=description,
        kind="expect_column_values_to_be_between",
        arguments={"column": column} | {k: v for k, v in bounds.items() if v is not None},
        named_by=named_by,
    )


def _matching(name: str, description: str, column: str, pattern: str) -> Expectation:
    return Expectation(
        name=name,
        description=description,
        kind="expect_column_values_to_match_regex",
        arguments={"column": column, "regex": pattern},
    )


def _refusal(failed: list[ExpectationResult]) -> str:
    lines = [f"the data in data/raw do not meet {len(failed)} expectation(s):"]
    for result in failed:
        examples = "; ".join(_shortened(example) for example in result.examples)
        lines.append(
            f"  {result.name}: {result.description}; "
            f"not so for {result.n_unexpected} row(s) ({examples})"
        )
    lines.append(
        "mend the images or their labels with `fgpipe data`, or the bounds under `validate` in "
        "params.yaml; then run the same command again"
    )
    return "\n".join(lines)


def _shortened(text: str) -> str:
    return text if len(text) <= N_CHARACTERS else text[: N_CHARACTERS - 3] + "..."


def _in_full(suite: tuple[Expectation, ...], results: tuple[ExpectationResult, ...]) -> bytes:
    content = [
        {**result.model_dump(), "kind": expectation.kind, "arguments": expectation.arguments}
        for expectation, result in zip(suite, results, strict=True)
    ]
    return (json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
