from pathlib import Path

import pandas as pd
import pytest

from fgpipe.adapters.gx_checks import GxChecker
from fgpipe.errors import PipelineError
from fgpipe.images.data_tables import classes_table
from fgpipe.images.gx_kinds import KINDS, ROW_KINDS
from fgpipe.images.structure import expected_columns
from fgpipe.ports import TABLE_NAMES, Expectation
from fgpipe.records import ExpectationResult
from fgpipe.stages.validate import suite_of, tables_of
from tests.adapters.checker import FakeChecker
from tests.support.tables import FLAWS, IMPLIED, SUITE, sound_table, stored_manifest

pytestmark = pytest.mark.integration


def check_all(
    table: pd.DataFrame, checker: GxChecker | FakeChecker, folder: Path, *, n_quarantined: int = 0
) -> tuple[ExpectationResult, ...]:
    results = checker.check(table, [expected_columns()])
    if results[0].passed:
        manifest = stored_manifest(table, folder).record
        suite = suite_of(SUITE, manifest=manifest, drift=())
        tables = tables_of(table, SUITE, n_quarantined=n_quarantined)
        for name in TABLE_NAMES[:-1]:
            results += checker.check(tables[name], [e for e in suite if e.table == name])
    return results


def expectation_of(name: str) -> Expectation:
    return next(e for e in SUITE.expectations if e.name == name)


def test_a_sound_table_passes_every_expectation_silently(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    results = check_all(sound_table(), GxChecker(), tmp_path)

    assert len(results) >= 25
    assert all(result.verdict == "pass" and result.n_unexpected == 0 for result in results)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_flaw_breaks_its_expectation_alone_and_the_fake_checker_sees_the_same(
    flaw: str, tmp_path: Path
) -> None:
    name, table, example = FLAWS[flaw]

    results = check_all(table(), GxChecker(), tmp_path)

    failed = {result.name: result for result in results if not result.passed}
    assert set(failed) - IMPLIED.get(name, set()) == {name}
    assert any(found.startswith(example) for found in failed[name].examples)
    assert failed[name].n_unexpected >= 1
    assert results == check_all(table(), FakeChecker(), tmp_path)


def test_a_quarantined_share_breaks_its_expectation_alone(tmp_path: Path) -> None:
    results = check_all(sound_table(), GxChecker(), tmp_path, n_quarantined=12)

    (failed,) = (result for result in results if not result.passed)
    assert (failed.name, failed.verdict, failed.examples) == ("quarantined", "warn", ("data: 0.2",))


def test_a_new_and_a_vanished_class_are_told_by_name() -> None:
    classes = classes_table(sound_table(), expected=("crack", "fine", "gone"))

    (result,) = GxChecker().check(classes, [expectation_of("label_set")])

    assert result.examples == ("gone: vanished", "stain: new")


def test_a_severity_becomes_the_verdict() -> None:
    table = sound_table().assign(n_bytes=20_000, contrast=0.0)

    results = GxChecker().check(table, [expectation_of("files_small"), expectation_of("contrast")])

    assert [result.verdict for result in results] == ["warn", "refuse"]


def test_at_most_five_examples_and_twelve_names_are_kept_of_any_number_of_rows() -> None:
    table = pd.concat([sound_table()] * 100, ignore_index=True).assign(contrast=0.0)
    table["path"] = [f"images/{row}.png" for row in range(len(table))]

    (result,) = GxChecker().check(table, [expectation_of("contrast")])

    assert result.n_unexpected == 4800
    assert len(result.examples) == 5
    assert result.examples[-1] == "images/4.png: 0"
    assert result.offenders == tuple(f"images/{row}.png" for row in range(12))


def test_an_expectation_that_cannot_be_evaluated_is_no_refusal_of_the_data() -> None:
    expectation = Expectation(
        name="absent",
        description="a column that is not there",
        kind="expect_column_values_to_be_between",
        arguments={"column": "absent", "max_value": 1},
    )

    with pytest.raises(PipelineError, match="could not evaluate absent"):
        GxChecker().check(sound_table(), [expectation])


ARGUMENTS: dict[str, tuple[str, dict[str, object]]] = {
    "expect_column_values_to_be_between": ("n_bytes", {"max_value": 10}),
    "expect_column_values_to_be_in_set": ("label", {"value_set": ["x"]}),
    "expect_column_values_to_not_be_in_set": ("label", {"value_set": ["crack"]}),
    "expect_column_values_to_be_null": ("label", {}),
    "expect_column_values_to_not_be_null": ("box", {}),
    "expect_column_values_to_be_unique": ("label", {}),
    "expect_column_values_to_match_regex": ("path", {"regex": "jpg$"}),
    "expect_column_values_to_not_match_regex": ("path", {"regex": "png$"}),
    "expect_column_values_to_match_regex_list": ("path", {"regex_list": ["a$"], "match_on": "any"}),
    "expect_column_values_to_not_match_regex_list": ("path", {"regex_list": ["g$"]}),
    "expect_column_value_lengths_to_be_between": ("path", {"max_value": 3}),
    "expect_column_value_lengths_to_equal": ("path", {"value": 3}),
    "expect_column_value_z_scores_to_be_less_than": (
        "target",
        {"threshold": 0.1, "double_sided": True},
    ),
    "expect_column_max_to_be_between": ("n_bytes", {"max_value": 10}),
    "expect_column_mean_to_be_between": ("n_bytes", {"max_value": 10}),
    "expect_column_median_to_be_between": ("n_bytes", {"max_value": 10}),
    "expect_column_min_to_be_between": ("n_bytes", {"max_value": 10}),
    "expect_column_stdev_to_be_between": ("target", {"max_value": 0.1}),
    "expect_column_sum_to_be_between": ("n_bytes", {"max_value": 10}),
    "expect_column_unique_value_count_to_be_between": ("label", {"max_value": 1}),
    "expect_column_proportion_of_unique_values_to_be_between": ("label", {"min_value": 0.9}),
}


def test_every_kind_that_the_file_may_name_can_be_evaluated_and_fail() -> None:
    suite = [
        Expectation(
            name=kind, description=kind, kind=kind, arguments={"column": column, **arguments}
        )
        for kind, (column, arguments) in ARGUMENTS.items()
    ]

    results = GxChecker().check(sound_table(), suite)

    assert set(ARGUMENTS) == set(KINDS)
    assert [result.name for result in results if result.passed] == []
    assert all(bool(result.offenders) == (result.name in ROW_KINDS) for result in results)


def test_great_expectations_own_pages_name_every_expectation(tmp_path: Path) -> None:
    table = sound_table().assign(contrast=0.0)
    manifest = stored_manifest(table, tmp_path).record
    suite = suite_of(SUITE, manifest=manifest, drift=())
    tables = tables_of(table, SUITE, n_quarantined=0)

    page = GxChecker().document(tables, suite, tmp_path / "docs")

    assert page.is_file()
    pages = "".join(path.read_text() for path in (tmp_path / "docs").rglob("*.html"))
    assert all(f"{expectation.description}" in pages for expectation in SUITE.expectations[:16])
    assert "images" in pages
