import csv
import io
import re
from dataclasses import replace

import pytest

from fgpipe.metrics.repeats import Judgement, RepeatedFigure
from fgpipe.report.benchmark_page import (
    BenchmarkReport,
    MeanCosts,
    MethodRow,
    MethodTable,
    render_benchmark,
)
from fgpipe.report.benchmark_tables import COLUMNS, benchmark_csv, benchmark_markdown

COSTS = MeanCosts(
    train_s=123.4,
    memory_mib=1567.0,
    train_images_per_s=None,
    serve_images_per_s=218.0,
    n_parameters=3_370_000.0,
    file_mb=13.6,
)


def row(name: str, *, judgement: Judgement | None = None, **changes: object) -> MethodRow:
    made = MethodRow(
        name=name,
        changes=(("train.head", name),),
        values=(0.71, 0.73, 0.75),
        figure=RepeatedFigure(mean=0.73, low=0.6803, high=0.7797, n=3),
        difference=None
        if judgement is None
        else RepeatedFigure(mean=0.021, low=-0.014, high=0.056, n=3),
        judgement=judgement,
        validation=0.664,
        costs=COSTS,
        problems=(),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def report(*rows: MethodRow, **changes: object) -> BenchmarkReport:
    table = MethodTable(
        data_set="birds",
        protocol="by group",
        description="1,200 images of 4 classes",
        repeats=("seed 0", "seed 1", "seed 2"),
        rows=rows,
    )
    made = BenchmarkReport(
        measure="test top1",
        is_test=True,
        baseline="linear",
        tables=(table,),
        n_cells=6,
        n_done=6,
        machines=("cpu bf16, 2 threads",),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def words(page: str) -> str:
    """What a reader sees of a page, in one line."""
    body = page[page.index("<body>") :]
    return " ".join(re.sub(r"<[^>]*>", " ", body).replace("&nbsp;", " ").split())


def test_every_figure_of_a_method_is_in_its_row() -> None:
    page = words(render_benchmark(report(row("linear"), row("gru", judgement="undecided"))))

    assert (
        "gru train.head: gru 73.0 68.0 to 78.0 +2.1 -1.4 to +5.6 3 pairs not told apart 66.4 123 "
        "1567 unknown 218 3.37 13.6" in page
    )
    assert "linear train.head: linear 73.0 68.0 to 78.0 baseline 66.4" in page


def test_the_page_is_whole_in_itself() -> None:
    page = render_benchmark(report(row("linear"), row("gru", judgement="better")))

    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert "<script" not in page
    assert "data:image/svg+xml;base64," in page


def test_what_does_not_help_is_said() -> None:
    rows = [
        row("linear"),
        row("a", judgement="undecided"),
        row("b", judgement="worse"),
        row("c", judgement="better"),
        row("d", judgement="too few"),
    ]

    page = words(render_benchmark(report(*rows)))

    said = page[page.index("Not shown to help") :].partition(".")[0]
    assert said.endswith("0 or lies below it: a ; b ")


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (0, "No comparison has the 3 pairs that an interval takes"),
        (1, "1 comparison: had all methods been equal, about 0.1 of them"),
        (20, "20 comparisons: had all methods been equal, about 1.0 of them"),
    ],
)
def test_how_many_comparisons_there_are_is_said_and_what_chance_alone_would_show(
    n: int, expected: str
) -> None:
    rows = [row(f"m{number}", judgement="better") for number in range(n)]

    page = words(render_benchmark(report(row("linear"), row("x", judgement="too few"), *rows)))

    assert expected in page


def test_the_method_that_validation_would_choose_is_named_beside_test_figures() -> None:
    rows = [row("linear"), row("gru", judgement="better", validation=0.7)]

    page = words(render_benchmark(report(*rows)))

    assert "Best on validation, which is what to choose by: gru" in page
    assert "better 70.0 best" in page
    assert page.count("best") == 2  # its badge, and the advice below
    unfinished = [row("linear"), row("gru", validation=None)]
    assert "Best on validation" not in words(render_benchmark(report(*unfinished)))


def test_under_a_measure_of_validation_the_page_has_no_column_beside_it() -> None:
    rows = [row("linear", validation=None)]

    page = words(render_benchmark(report(*rows, is_test=False, measure="validation top1")))

    assert "Validation, %" not in page
    assert "No figure of the test split is on this page" in page


def test_a_method_without_results_or_interval_is_shown_all_the_same() -> None:
    nothing = row(
        "gru",
        values=(),
        figure=None,
        validation=None,
        costs=None,
        problems=("the loss is not finite",),
    )
    one = row("mlp", values=(0.5,), figure=RepeatedFigure(mean=0.5, low=None, high=None, n=1))

    page = words(render_benchmark(report(row("linear"), one, nothing, n_done=4)))

    assert "gru train.head: gru failed: the loss is not finite" in page
    assert "mlp train.head: mlp 50.0 1 of 3" in page
    assert "4 of 6 trainings; the others are still to come, or failed" in page


def test_a_page_of_no_result_has_no_picture() -> None:
    nothing = row("linear", values=(), figure=None, validation=None, costs=None)

    assert "<img" not in render_benchmark(report(nothing, n_done=0))


def test_names_are_words_and_not_markup() -> None:
    page = render_benchmark(report(row("<b>bold</b>")))

    assert "<b>bold" not in page
    assert "&lt;b&gt;bold" in page


def test_the_csv_has_every_figure_with_every_digit() -> None:
    text = benchmark_csv(report(row("linear"), row("a, b", judgement="better")))

    first, second = csv.DictReader(io.StringIO(text))
    assert tuple(first) == COLUMNS
    assert second["variant"] == "a, b"
    assert [second[name] for name in ("n", "mean", "low", "high")] == [
        "3",
        "0.73",
        "0.6803",
        "0.7797",
    ]
    assert second["difference_low"] == "-0.014"
    assert second["judgement"] == "better"
    assert second["train_images_per_s"] == ""
    assert [first["difference"], first["judgement"]] == ["", ""]
    assert first["n_parameters"] == "3370000.0"


def test_the_markdown_is_a_table_with_the_pages_figures() -> None:
    text = benchmark_markdown(report(row("linear"), row("a|b", judgement="undecided")))

    lines = text.splitlines()
    assert "Comparisons with an interval: 1; of equal methods, 0.1 would look different" in lines[0]
    assert "### birds, by group" in lines
    expected = (
        r"| a\|b | 73.0 [68.0, 78.0] | +2.1 [-1.4, +5.6] | not told apart | 66.4 | 123 | 1567 |  "
        "| 218 | 3.37 | 13.6 |"
    )
    assert expected in lines
    table = [line for line in lines if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {12}
