from pathlib import Path

import pytest

from fgpipe.errors import ConfigError, NotReadyError
from fgpipe.images.data_tables import COLUMNS
from fgpipe.images.expectations_file import parse_suite, read_suite
from fgpipe.images.gx_kinds import KINDS

TEXT = """\
schema_version: 1
expectations:
  - name: width
    meaning: wide enough
    check: width
    min: 32
    max: 1000
    severity: refuse
  - name: files
    meaning: files are not huge
    expect: expect_column_values_to_be_between
    column: n_bytes
    arguments: {max_value: 9000, mostly: 0.9}
    severity: warn
  - {name: names, meaning: the classes, severity: warn, check: labels, values: [a, b]}
  - {name: looks, meaning: as before, severity: warn, check: drift, feature: embeddings, max: 0.8}
  - {name: odd, meaning: none, severity: warn, check: outliers, column: contrast, max: 8}
  - {name: tests, meaning: some, severity: refuse, check: images_per_class, split: test, min: 2}
"""


def test_a_check_in_a_word_becomes_an_expectation_on_a_column() -> None:
    suite = parse_suite(TEXT, name="f")

    found = {e.name: (e.table, e.arguments, e.named_by, e.severity) for e in suite.expectations}

    assert found == {
        "width": (
            "images",
            {"column": "width_px", "min_value": 32, "max_value": 1000},
            "path",
            "refuse",
        ),
        "files": (
            "images",
            {"column": "n_bytes", "max_value": 9000, "mostly": 0.9},
            "path",
            "warn",
        ),
        "names": ("classes", {"column": "status", "value_set": ["known"]}, "label", "warn"),
        "looks": ("drift", {"column": "embeddings", "max_value": 0.8}, "feature", "warn"),
        "odd": ("images", {"column": "contrast_deviations", "max_value": 8}, "path", "warn"),
        "tests": ("classes", {"column": "n_images_in_test", "min_value": 2}, "label", "refuse"),
    }
    assert suite.labels == ("a", "b")
    assert suite.asks_for_embeddings
    assert all(
        e.table == "drift" or e.arguments["column"] in COLUMNS[e.table] for e in suite.expectations
    )


def test_what_is_expected_is_told_with_the_bounds_in_force() -> None:
    channels = "  - {name: c, meaning: d, severity: warn, check: channels, values: [1, 3]}\n"

    suite = parse_suite(TEXT.replace("max: 1000", "max: 99.5") + channels, name="f")

    told = [expectation.description for expectation in suite.expectations]
    assert told == [
        "wide enough (min 32, max 99.5)",
        "files are not huge (max_value 9000, mostly 0.9)",
        "the classes",
        "as before (max 0.8)",
        "none (max 8)",
        "some (min 2)",
        "d (values 1, 3)",
    ]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("min: 32", "mn: 32", "line 3, expectation 1 (width): mn: unknown key"),
        ("min: 32", "min: 0", "(width): min must be from 1 to inf (it is 0)"),
        ("max: 1000", "max: 10", "(width): min (32) must not be above max (10)"),
        ("max: 1000", "max: wide", "(width): max: Input should be a valid number (it is 'wide')"),
        ("max: 1000", "max: true", "(width): max: Input should be a valid number (it is True)"),
        ("max: 1000", "max: .inf", "(width): max: "),
        ("max: 1000", "feature: labels", "(width): feature does not go with it"),
        ("    min: 32\n    max: 1000\n", "", "(width): needs min or max"),
        ("min: 32", "min: 32\n    min: 40", "line 7: 'min' stands twice"),
        ("check: width", "check: breadth", "check 'breadth' is none; there are width, height"),
        ("    check: width\n", "", "(width): must have either check"),
        ("severity: refuse\n  - name: f", "severity: deny\n  - name: f", "(width): severity: "),
        ("    meaning: wide enough\n", "", "(width): meaning: missing; add it"),
        ("name: width", "name: files", "line 9, expectation 2 (files): another one has this name"),
        ("name: width", "name: groups_in_one_split", "groups_in_one_split always holds"),
        ("name: width", "name: columns", "columns always holds"),
        ("name: width", "name: Width!", "(Width!): name: "),
        ("column: n_bytes", "column: bytes", "column 'bytes' is not in the table of images"),
        ("column: n_bytes", "column: path", "column path holds text, which"),
        ("n_bytes\n", "n_bytes\n    table: groups\n", "'n_bytes' is not in the table of groups"),
        ("values_to_be_between", "values_be_between", "is none that fits"),
        ("{max_value: 9000,", "{max: 9000,", "arguments.max: unknown key"),
        (
            "mostly: 0.9",
            "mostly: 1.5",
            "arguments.mostly must be above 0 and at most 1 (it is 1.5)",
        ),
        ("9000", ".inf", "arguments.max_value must be a number (it is inf)"),
        ("9000", ".nan", "arguments.max_value must be a number (it is nan)"),
        ("9000", "1" + "0" * 400, "arguments.max_value must be a number (it is 1000"),
        ("mostly: 0.9", "min_value: 9001", "min_value (9001) must not be above max_value (9000)"),
        ("{max_value: 9000, mostly: 0.9}", "{}", "arguments must have min_value, max_value"),
        ("values: [a, b]", "values: [a, a]", "(names): values names 'a' twice"),
        ("values: [a, b]", "values: [1, 2]", "(names): values must be names, those like numbers"),
        ("values: [a, b]", "values: [a, no]", "dates or yes in quotes (False)"),
        ("values: [a, b]", "values: [2020-01-02, a]", "in quotes (datetime.date(2020, 1, 2))"),
        ("values: [a, b]", "values: [[a], b]", "in quotes (['a'])"),
        ("values: [a, b]", "values: ['', b]", "in quotes ('')"),
        ("labels, values: [a, b]", "channels, values: [1, rgb]", "must be some of 1, 2, 3, 4"),
        ("labels, values: [a, b]", "channels, values: [true]", "must be some of 1, 2, 3, 4"),
        ("values: [a, b]", "values: [a]", "(names): values must name at least two classes"),
        ("feature: embeddings", "feature: mood", "feature 'mood' is none; there are labels"),
        ("column: contrast", "column: n_bytes", "column 'n_bytes' is no measure"),
        ("max: 0.8", "max: 0.2", "(looks): max must be from 0.5 (alike) to 1 for embeddings"),
        ("split: test", "split: holdout", "split 'holdout' is none"),
        ("schema_version: 1", "schema_version: 2", "schema_version: Input should be 1"),
        (
            "schema_version: 1",
            "schema_version: 1\nschema_version: 2",
            "line 2: 'schema_version' st",
        ),
        ("min: 32", "1: 32", "line 3, expectation 1 (width): 1: is no name of a key"),
        ("min: 32", "min: 2020-13-45", "is not valid YAML: month must be in 1..12"),
        ("schema_version: 1\n", "", "schema_version: missing; add it"),
        ("expectations:\n", "<<:\n expectations:\n", "as a list in the file, not behind <<"),
        ("expectations:", "expectation:", "expectation: unknown key"),
        ("    check: width", "   check: width", "is not valid YAML"),
    ],
)
def test_a_mistake_is_told_with_the_entry_and_its_place(old: str, new: str, told: str) -> None:
    assert old in TEXT

    with pytest.raises(ConfigError) as refusal:
        parse_suite(TEXT.replace(old, new, 1), name="data/expectations.yaml")

    assert str(refusal.value).startswith("data/expectations.yaml ")
    assert told in str(refusal.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "3",
        "schema_version: 1\nexpectations: [3]",
        "? [a]\n",
        "schema_version: 1\nexpectations: &a [*a]",
        "schema_version: 1\nexpectations: [&a {name: *a}]",
    ],
)
def test_what_is_no_suite_at_all_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match="expectations"):
        parse_suite(text, name="data/expectations.yaml")


@pytest.mark.parametrize(
    ("kind", "column", "arguments", "told"),
    [
        ("expect_column_values_to_match_regex", "path", "{regex: '['}", "must be a regular"),
        ("expect_column_values_to_match_regex", "path", "{}", "arguments.regex: missing"),
        ("expect_column_values_to_match_regex", "n_bytes", "{regex: a}", "holds numbers"),
        ("expect_column_values_to_be_in_set", "split", "{value_set: test}", "a list of texts"),
        ("expect_column_values_to_be_in_set", "split", "{value_set: [[a]]}", "texts or numbers"),
        ("expect_column_values_to_be_in_set", "split", "{value_set: [.nan]}", "texts or numbers"),
        ("expect_column_values_to_be_in_set", "split", "{value_set: [2020-01-02]}", "texts or num"),
        ("expect_column_values_to_be_in_set", "label", "{value_set: [a, 7]}", "in quotes (7)"),
        ("expect_column_values_to_be_in_set", "channels", "{value_set: ['3']}", "numbers ('3')"),
        (
            "expect_column_values_to_match_regex_list",
            "path",
            "{regex_list: [a], match_on: [any]}",
            "must be any or all (it is ['any'])",
        ),
        (
            "expect_column_value_z_scores_to_be_less_than",
            "n_bytes",
            "{threshold: 3}",
            "arguments.double_sided: missing; add it",
        ),
        ("expect_column_values_to_be_unique", "phash", "{strictly: true}", "strictly: unknown"),
        ("expect_column_mean_to_be_between", "n_bytes", "{min_value: 1, mostly: 1}", "mostly: unk"),
        ("expect_column_value_lengths_to_equal", "path", "{value: x}", "must be a number"),
    ],
)
def test_arguments_of_an_expectation_are_held_to_its_kind(
    kind: str, column: str, arguments: str, told: str
) -> None:
    entry = f"{{name: a, meaning: b, severity: warn, expect: {kind}, column: {column}, arguments: "

    with pytest.raises(ConfigError) as refusal:
        parse_suite(f"schema_version: 1\nexpectations:\n - {entry}{arguments}}}\n", name="f")

    assert told in str(refusal.value)


def test_attributes_of_the_images_can_be_named() -> None:
    kind = "expect_column_values_to_not_be_null"
    entry = f"{{name: a, meaning: b, severity: warn, expect: {kind}, column: attribute_camera}}"

    suite = parse_suite(f"schema_version: 1\nexpectations: [{entry}]", name="f")

    assert kind in KINDS
    assert suite.expectations[0].arguments == {"column": "attribute_camera"}


def test_at_most_five_mistakes_are_named_and_all_are_counted() -> None:
    entries = "\n".join(f"  - {{name: n{i}}}" for i in range(20))

    with pytest.raises(ConfigError) as refusal:
        parse_suite(f"schema_version: 1\nexpectations:\n{entries}\n", name="f")

    assert "f has 40 mistake(s)" in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 7


def test_a_file_that_is_not_there_names_what_writes_it(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="fgpipe data profile"):
        read_suite(tmp_path / "expectations.yaml")
