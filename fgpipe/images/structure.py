"""What the data must be like whatever they show: no file can take these expectations back.

Each is proven in the tests by data that break it alone.
"""

from fgpipe.images.data_tables import MANIFEST_COLUMNS
from fgpipe.ports import Expectation, TableName
from fgpipe.records import SPLITS


def expected_columns() -> Expectation:
    """The one that all others rest on."""
    return Expectation(
        name="columns",
        description="the manifest has all of its columns",
        kind="expect_table_columns_to_match_set",
        arguments={"column_set": list(MANIFEST_COLUMNS), "exact_match": False},
    )


def expected_structure(*, by_group: bool) -> tuple[Expectation, ...]:
    """What always holds of every image, class and group.

    Args:
        by_group: Whether the images of a group must be in one split.
    """
    leakage = _at_most(
        "groups_in_one_split",
        "all images of a group are in one split",
        table="groups",
        column="n_splits",
        high=1,
        named_by="group",
    )
    return (*_of_rows(), *_of_classes(), *((leakage,) if by_group else ()))


def _of_rows() -> tuple[Expectation, ...]:
    return (
        _at_most(
            "values_present",
            "no value is missing, but for parents and boxes",
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
        _at_most(
            "content_unique",
            "an image is listed once: no two files have the same bytes",
            column="n_images_of_content_and_label",
            high=1,
        ),
        _at_most(
            "one_label_per_content",
            "files with the same bytes have the same label",
            column="n_labels_of_content",
            high=1,
        ),
    )


def _of_classes() -> tuple[Expectation, ...]:
    return (
        Expectation(
            name="at_least_two_labels",
            description="there are at least two classes",
            kind="expect_column_unique_value_count_to_be_between",
            arguments={"column": "label", "min_value": 2},
        ),
        _at_most(
            "one_parent_per_label",
            "all images of a class name the same parent, or none does",
            table="classes",
            column="n_parents",
            high=1,
            named_by="label",
        ),
    )


def _at_most(
    name: str,
    description: str,
    *,
    column: str,
    high: float,
    table: TableName = "images",
    named_by: str = "path",
) -> Expectation:
    return Expectation(
        name=name,
        description=description,
        kind="expect_column_values_to_be_between",
        arguments={"column": column, "max_value": high},
        named_by=named_by,
        table=table,
    )


def _matching(name: str, description: str, column: str, pattern: str) -> Expectation:
    return Expectation(
        name=name,
        description=description,
        kind="expect_column_values_to_match_regex",
        arguments={"column": column, "regex": pattern},
    )
