import pandas as pd
import pytest

from fgpipe.adapters.gx_checks import GxChecker
from fgpipe.errors import PipelineError
from fgpipe.ports import Expectation
from fgpipe.records import ExpectationResult
from fgpipe.stages.validate import expected_columns, expected_rows, with_counts
from tests.adapters.checker import FakeChecker
from tests.support.tables import BOUNDS, FLAWS, sound_table

pytestmark = pytest.mark.integration


def check_all(
    table: pd.DataFrame, checker: GxChecker | FakeChecker
) -> tuple[ExpectationResult, ...]:
    results = checker.check(table, [expected_columns()])
    if results[0].passed:
        suite = expected_rows(BOUNDS, by_group=True)
        results += checker.check(with_counts(table), suite)
    return results


def test_a_sound_table_passes_every_expectation_silently(
    capfd: pytest.CaptureFixture[str],
) -> None:
    results = check_all(sound_table(), GxChecker())

    assert len(results) >= 10
    assert all(result.passed and result.n_unexpected == 0 for result in results)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_flaw_breaks_its_expectation_alone_and_the_fake_checker_sees_the_same(flaw: str) -> None:
    name, table, example = FLAWS[flaw]

    results = check_all(table(), GxChecker())

    failed = [result for result in results if not result.passed]
    assert [result.name for result in failed] == [name]
    assert example in failed[0].examples
    assert failed[0].n_unexpected >= 1
    assert results == check_all(table(), FakeChecker())


def test_at_most_five_different_examples_are_kept_of_any_number_of_rows() -> None:
    table = sound_table().assign(contrast=0.0, parent=None)
    table.loc[:2, "parent"] = "bad"

    results = check_all(table, GxChecker())

    contrast, parent = (r for r in results if not r.passed)
    assert (contrast.n_unexpected, len(contrast.examples)) == (48, 5)
    assert (parent.n_unexpected, parent.examples) == (16, ("crack: 2",))


def test_thousands_of_failing_rows_are_all_counted() -> None:
    table = pd.concat([sound_table()] * 100, ignore_index=True).assign(contrast=0.0)
    table["path"] = [f"images/{row}.png" for row in range(len(table))]
    expectation = next(e for e in expected_rows(BOUNDS, by_group=True) if e.name == "contrast")

    (result,) = GxChecker().check(table, [expectation])

    assert result.n_unexpected == 4800
    assert result.examples[-1] == "images/4.png: 0"


def test_an_expectation_that_cannot_be_evaluated_is_no_refusal_of_the_data() -> None:
    expectation = Expectation(
        name="absent",
        description="a column that is not there",
        kind="expect_column_values_to_be_between",
        arguments={"column": "absent", "max_value": 1},
    )

    with pytest.raises(PipelineError, match="could not evaluate absent"):
        GxChecker().check(sound_table(), [expectation])
