import math
from statistics import median

import numpy as np
import pytest

from fgpipe.images.data_tables import (
    COLUMNS,
    classes_table,
    data_table,
    groups_table,
    images_table,
    robust_deviations,
)
from fgpipe.records import SPLITS
from tests.support.tables import sound_table, with_value


def test_tables_have_the_columns_that_expectations_may_name() -> None:
    table = sound_table()

    tables = {
        "images": images_table(table).drop(columns="attribute_camera"),
        "classes": classes_table(table, expected=None),
        "groups": groups_table(table),
        "data": data_table(table, n_quarantined=0),
    }

    assert {name: set(found.columns) for name, found in tables.items()} == {
        name: set(columns) for name, columns in COLUMNS.items()
    }


def test_counts_are_those_of_a_loop() -> None:
    table = sound_table()
    table.loc[3, "sha256"] = table.loc[20, "sha256"]
    table.loc[4, "split"] = "test"
    rows = table.to_dict("records")

    images, classes, groups = (
        images_table(table),
        classes_table(table, expected=None),
        groups_table(table),
    )

    for row, found in zip(rows, images.to_dict("records"), strict=True):
        same = [r for r in rows if r["sha256"] == row["sha256"]]
        assert found["n_labels_of_content"] == len({r["label"] for r in same})
        assert found["aspect_ratio"] == pytest.approx(1.5)
    for found in classes.to_dict("records"):
        of_class = [r for r in rows if r["label"] == found["label"]]
        assert found["n_images"] == len(of_class)
        for split in SPLITS:
            assert found[f"n_images_in_{split}"] == sum(r["split"] == split for r in of_class)
    for found in groups.to_dict("records"):
        of_group = [r for r in rows if r["group"] == found["group"]]
        assert found["n_splits"] == len({r["split"] for r in of_group})
    assert images.loc[3, "n_labels_of_content"] == 2
    assert groups["n_splits"].max() == 2


def test_deviations_are_those_of_a_loop_and_none_where_there_is_no_scale() -> None:
    values = np.array([1.0, 2.0, 4.0, 4.5, 30.0])

    found = robust_deviations(values)

    middle = median(values)
    scale = 1.4826 * median(abs(value - middle) for value in values)
    assert found == pytest.approx([abs(value - middle) / scale for value in values])
    assert robust_deviations(np.array([5.0, 5.0, 5.0, 9.0])).tolist() == [0, 0, 0, 0]


def test_classes_are_known_new_or_vanished_and_nothing_is_counted_of_the_vanished() -> None:
    classes = classes_table(sound_table(), expected=("crack", "fine", "gone"))

    found = dict(zip(classes["label"], classes["status"], strict=True))
    gone = classes[classes["label"] == "gone"].iloc[0]
    assert found == {"crack": "known", "fine": "known", "gone": "vanished", "stain": "new"}
    assert math.isnan(gone["n_images"])
    assert math.isnan(gone["times_smaller_than_largest"])


def test_the_quarantined_share_is_of_all_that_came_in() -> None:
    data = data_table(sound_table(), n_quarantined=16)

    assert data["quarantined_fraction"].tolist() == [0.25]
    assert data["n_groups"].tolist() == [8]


def test_a_missing_value_is_counted_but_of_parents_and_boxes() -> None:
    table = with_value(2, "sharpness", None).assign(parent=None)

    images = images_table(table)

    assert images["n_missing_values"].tolist() == [0, 0, 1, *[0] * 45]
