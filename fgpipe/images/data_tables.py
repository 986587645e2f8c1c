"""What expectations are about: tables made of the manifest's.

=========  ===========================================================================
table      a row is
=========  ===========================================================================
images     an image: the manifest's columns, and how its content and measures stand
classes    a class that there is or that is expected: how many images it has
groups     a group: in how many splits it is
data       all of the data (one row)
=========  ===========================================================================

``NAME_deviations`` says how many deviations an image's measure is from the median image's:
the deviation is the median absolute one, scaled so that it is a normal distribution's
standard deviation. It is 0 everywhere where more than half of the images are alike, for
then there is no scale to tell an outlier by.
"""

from collections.abc import Collection

import numpy as np
import pandas as pd
from jaxtyping import Float64

from fgpipe.ports import TableName
from fgpipe.records import SPLITS

MANIFEST_COLUMNS = (
    "id",
    "path",
    "label",
    "target",
    "parent",
    "group",
    "batch",
    "split",
    "box",
    "sha256",
    "phash",
    "width_px",
    "height_px",
    "channels",
    "n_bytes",
    "brightness",
    "contrast",
    "sharpness",
)
"""Columns that a manifest has, whatever the data's attributes."""

MAY_BE_MISSING = frozenset({"parent", "box"})

MEASURES = ("width_px", "height_px", "aspect_ratio", "brightness", "contrast", "sharpness")
"""What is measured of an image, and may lie far from the others."""

TEXTS = frozenset(
    {"id", "path", "label", "parent", "group", "split", "box", "sha256", "phash", "status"}
)
"""Columns that hold text; the others hold numbers."""

COLUMNS: dict[TableName, tuple[str, ...]] = {
    "images": (
        *MANIFEST_COLUMNS,
        "aspect_ratio",
        "n_missing_values",
        "n_images_of_content_and_label",
        "n_labels_of_content",
        *(f"{name}_deviations" for name in MEASURES),
    ),
    "classes": (
        "label",
        "status",
        "n_parents",
        "n_images",
        *(f"n_images_in_{split}" for split in SPLITS),
        "times_smaller_than_largest",
    ),
    "groups": ("group", "n_images", "n_splits"),
    "data": ("name", "n_images", "n_classes", "n_groups", "quarantined_fraction"),
}
"""Columns of the tables; that of images has the attributes' besides."""

NORMAL = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""


def images_table(table: pd.DataFrame) -> pd.DataFrame:
    """The manifest's table with how each row's content and measures stand.

    Args:
        table: With all of :data:`MANIFEST_COLUMNS`.
    """
    sides = table[["width_px", "height_px"]]
    needed = [column for column in MANIFEST_COLUMNS if column not in MAY_BE_MISSING]
    repeated = table[table.duplicated("sha256", keep=False)]  # few, and grouping all takes long
    of_label = repeated.groupby(["sha256", "label"])["path"]
    n_labels = repeated.groupby("sha256")["label"]
    images = table.assign(
        aspect_ratio=sides.max(axis=1) / sides.min(axis=1),
        n_missing_values=table[needed].isna().sum(axis=1),
        n_images_of_content_and_label=of_label.transform("size").reindex(table.index, fill_value=1),
        n_labels_of_content=n_labels.transform("nunique").reindex(table.index, fill_value=1),
    )
    deviations = {
        f"{name}_deviations": robust_deviations(images[name].to_numpy(dtype=np.float64))
        for name in MEASURES
    }
    return images.assign(**deviations)


def robust_deviations(values: Float64[np.ndarray, " images"]) -> Float64[np.ndarray, " images"]:
    """How many robust deviations each value is from the median; 0 for all without a scale."""
    distances: Float64[np.ndarray, " images"] = np.abs(values - np.nanmedian(values))
    scale = NORMAL * float(np.nanmedian(distances))
    return distances / scale if scale > 0 else np.zeros_like(distances)


def classes_table(table: pd.DataFrame, *, expected: Collection[str] | None) -> pd.DataFrame:
    """One row a class, sorted by name.

    Args:
        table: The manifest's.
        expected: Classes there should be; of those that are not there, nothing is counted.
            None expects those there are.
    """
    by_label = table.groupby("label")
    n_images = by_label.size()
    classes = pd.DataFrame(
        {
            "n_parents": by_label["parent"].nunique(dropna=False),
            "n_images": n_images,
            **{
                f"n_images_in_{split}": (table["split"] == split).groupby(table["label"]).sum()
                for split in SPLITS
            },
            "times_smaller_than_largest": n_images.max() / n_images,
        }
    )
    seen = set(classes.index)
    known = seen if expected is None else set(expected)
    classes = classes.reindex(sorted(seen | known)).rename_axis("label").reset_index()
    status = [
        "known" if label in seen & known else "new" if label in seen else "vanished"
        for label in classes["label"]
    ]
    classes.insert(1, "status", status)
    return classes


def groups_table(table: pd.DataFrame) -> pd.DataFrame:
    """One row a group, sorted by name."""
    by_group = table.groupby("group")
    return pd.DataFrame(
        {"n_images": by_group.size(), "n_splits": by_group["split"].nunique()}
    ).reset_index()


def data_table(table: pd.DataFrame, *, n_quarantined: int) -> pd.DataFrame:
    """One row for all of the data."""
    n_images = len(table)
    return pd.DataFrame(
        {
            "name": ["data"],
            "n_images": [n_images],
            "n_classes": [table["label"].nunique()],
            "n_groups": [table["group"].nunique()],
            "quarantined_fraction": [n_quarantined / max(1, n_images + n_quarantined)],
        }
    )
