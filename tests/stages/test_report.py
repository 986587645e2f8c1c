from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from fgpipe.metrics.calibration import reliability_curve
from fgpipe.records import Evaluation, TrainedModel
from fgpipe.report.page import Outcome, render_report
from tests.support.ports import fake_ports
from tests.support.tiny_model import (
    Done,
    Tiny,
    register_champion,
    run_evaluate,
)


@dataclass
class Page:
    """What a browser makes of the page, as far as tests ask."""

    html: str
    references: list[str] = field(default_factory=list)
    images: list[dict[str, str]] = field(default_factory=list)
    tags: set[str] = field(default_factory=set)
    ids: list[str] = field(default_factory=list)
    words: str = ""


class Reader(HTMLParser):
    def __init__(self, page: Page) -> None:
        super().__init__()
        self.page = page
        self.inside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.page.tags.add(tag)
        self.page.references += [
            values[name] for name in ("src", "href", "srcset", "action", "data") if name in values
        ]
        self.page.ids += [values["id"]] if "id" in values else []
        if tag == "img":
            self.page.images.append(values)
        self.inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "style" not in self.inside:
            self.page.words += data + " "


def read(html: str) -> Page:
    page = Page(html=html)
    Reader(page).feed(html)
    page.words = " ".join(page.words.split())
    return page


@pytest.fixture(scope="module")
def result(
    tiny: Tiny, done: Done, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Evaluation, Page]:
    """The worse model with the better one as champion: there are mistakes to show."""
    folder = tmp_path_factory.mktemp("report")
    ports = fake_ports(folder)
    baseline = register_champion(done.packaged, ports)
    evaluation = run_evaluate(
        tiny, folder / "out", train=tiny.worse, baseline=baseline, ports=ports
    )
    return evaluation, read((folder / "out" / "payload" / "report.html").read_text())


@pytest.fixture
def page(result: tuple[Evaluation, Page]) -> Page:
    return result[1]


def test_nothing_is_referred_to_but_the_page_itself(page: Page) -> None:
    assert page.references
    for reference in page.references:
        assert reference.startswith(("data:image/", "#")), reference[:80]
        if reference.startswith("#"):
            assert reference[1:] in page.ids
    assert not page.tags & {"script", "link", "iframe", "object", "embed", "base"}
    assert "@import" not in page.html
    assert "url(" not in page.html


def test_the_pictures_asked_for_are_there_and_every_picture_has_a_text(page: Page) -> None:
    texts = [image["alt"] for image in page.images]

    for start in (
        "Confusion matrix of 4 labels",
        "Reliability curve",
        "Training curves",
        "Headline shares",
    ):
        [picture] = [image for image in page.images if image["alt"].startswith(start)]
        assert picture["src"].startswith("data:image/svg+xml;base64,")
    assert all(len(text) > 20 for text in texts)


def test_the_surest_mistake_is_shown_with_its_picture_and_probabilities(
    tiny: Tiny, result: tuple[Evaluation, Page], tmp_path: Path
) -> None:
    evaluation, page = result
    thumbnails = [image for image in page.images if image["src"].startswith("data:image/jpeg")]
    n_wrong = sum(
        count
        for row, counts in enumerate(evaluation.confusion)
        for column, count in enumerate(counts)
        if row != column
    )

    assert n_wrong >= 2
    assert f"{n_wrong} of {evaluation.candidate.n_images} images" in page.words
    assert all(image["alt"].startswith("Test image images/") for image in thumbnails)
    assert len({image["alt"] for image in thumbnails}) == min(n_wrong, 12)


def test_the_headline_figures_of_both_models_are_there_with_intervals(
    result: tuple[Evaluation, Page],
) -> None:
    evaluation, page = result
    comparison = evaluation.comparison
    assert comparison is not None

    words = page.words

    for score in (
        evaluation.candidate.top1,
        evaluation.candidate.macro_recall,
        comparison.champion.top1,
        comparison.champion.macro_recall,
    ):
        interval = f"{100 * score.low:.1f} to {100 * score.high:.1f} %"
        assert f"{100 * score.value:.1f} % {interval}" in words
    assert f"{100 * comparison.top1.value:+.1f} points" in words
    assert "Champion, version 1" in words


def test_data_slices_and_origin_are_told(tiny: Tiny, page: Page) -> None:
    for entry in tiny.manifest.record.labels:
        counts = [str(n) for n in entry.n_images.values()]
        assert f"{entry.label} {' '.join(counts)}" in page.words
    for word in ("light", "day", "night", tiny.worse.record.sha256(), "stable"):
        assert word in page.words


def test_neither_this_machine_nor_a_time_is_in_it(tiny: Tiny, page: Page) -> None:
    assert str(tiny.raw) not in page.html
    assert str(Path.home()) not in page.words
    assert "/tmp" not in page.words
    assert len(page.html) < 5_000_000


def rendered(
    tiny: Tiny, evaluation: Evaluation, *, trained: TrainedModel, wrong: bool = True
) -> Page:
    """The page of three test images."""
    targets = np.array([0, 1, 2])
    probabilities = np.eye(4)[[1, 1, 2] if wrong else [0, 1, 2]] * 0.6 + 0.1
    paths = sorted((tiny.raw / "images").iterdir())[:3]
    return read(
        render_report(
            evaluation,
            trained=trained,
            manifest=tiny.manifest.record,
            outcome=Outcome(
                paths=tuple(path.relative_to(tiny.raw).as_posix() for path in paths),
                targets=targets,
                probabilities=probabilities,
                reliability=reliability_curve(probabilities, targets, n_bins=5),
                confidence_level=0.9,
            ),
            raw=tiny.raw,
        )
    )


def test_labels_are_text_and_not_markup(tiny: Tiny, result: tuple[Evaluation, Page]) -> None:
    names = ("<script>alert(1)</script>", "b&amp;", "c", "d")
    trained = tiny.worse.record.model_copy(update={"labels": names, "parents": {}})

    page = rendered(tiny, result[0], trained=trained)

    assert "script" not in page.tags
    assert "<script>alert(1)</script> taken for b&amp;" in page.words


def test_a_model_without_mistakes_gets_a_page_without_examples(
    tiny: Tiny, result: tuple[Evaluation, Page]
) -> None:
    page = rendered(tiny, result[0], trained=tiny.worse.record, wrong=False)

    assert "Worst mistakes" not in page.words
    assert not [image for image in page.images if image["src"].startswith("data:image/jpeg")]


def test_what_cannot_be_promoted_or_compared_says_so_at_the_top(
    tiny: Tiny, result: tuple[Evaluation, Page]
) -> None:
    evaluation = result[0].model_copy(
        update={"protocol": "random", "comparison": None, "comparison_note": "it has seen all"}
    )

    page = rendered(tiny, evaluation, trained=tiny.worse.record)

    top = page.words[: page.words.index("Intervals hold")]
    assert "never promoted" in top
    assert "it has seen all" in top
    assert "Champion, version" not in page.words


def test_the_page_tells_what_becomes_of_each_label_without_its_colour(
    result: tuple[Evaluation, Page],
) -> None:
    evaluation, page = result

    assert evaluation.color is not None
    for each in evaluation.color.per_class:
        shares = (each.recall, each.recall_grey, each.recall_turned)
        cells = " ".join(f"{100 * share:.1f} %" for share in shares)
        assert f"{each.label} {each.n_images} {cells}" in page.words.replace("\xa0", " ")


def test_the_page_tells_how_well_embeddings_find_more_of_a_label(
    tiny: Tiny, result: tuple[Evaluation, Page]
) -> None:
    evaluation, page = result

    assert evaluation.retrieval is not None
    shares = [evaluation.retrieval.recall_at_1.value, evaluation.retrieval.map_at_r.value]
    section = page.words.replace("\xa0", " ").partition("Search by image")[2][:700]
    assert all(f"{100 * share:.1f} %" in section for share in shares)
    unasked = evaluation.model_copy(update={"retrieval": None})
    without = rendered(tiny, unasked, trained=tiny.train.record)
    assert "Search by image" not in without.words
