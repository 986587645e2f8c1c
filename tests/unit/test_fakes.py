from pathlib import Path

import pytest

from fgpipe.errors import NotReadyError
from fgpipe.ports import Checker, Registry, Searcher, SearchRun, Tracker
from fgpipe.records import Baseline, EpochFigures
from tests.adapters.checker import FakeChecker
from tests.adapters.registry import FakeRegistry
from tests.adapters.searcher import FakeSearcher
from tests.adapters.tracker import FakeSearchRun, FakeTracker

FIGURES = EpochFigures(
    epoch=1,
    learning_rate=0.1,
    train_loss=1.0,
    validation_loss=1.0,
    validation_top1=0.5,
    validation_macro_recall=0.5,
    validation_coarse_accuracy=None,
)


@pytest.mark.parametrize(
    ("port", "fake"),
    [
        (Checker, FakeChecker),
        (Registry, FakeRegistry),
        (Searcher, FakeSearcher),
        (SearchRun, FakeSearchRun),
        (Tracker, FakeTracker),
    ],
)
def test_a_fake_has_every_method_of_its_port(port: type, fake: type) -> None:
    methods = {name for name in vars(port) if not name.startswith("_")}

    assert methods
    assert all(callable(getattr(fake, name, None)) for name in methods)


def test_promoting_moves_the_champion_and_keeps_the_former_one_as_previous(tmp_path: Path) -> None:
    registry = FakeRegistry()
    for bundle in ("a", "b", "a"):
        registry.register(tmp_path, bundle_sha256=bundle, train_sha256="t", tags={})

    before = registry.champion()
    registry.promote(1)
    registry.promote(2)
    registry.promote(2)

    assert before is None
    assert registry.aliases == {"champion": 2, "previous": 1}
    newest = registry.find("a")
    assert newest is not None
    assert newest.version == 3
    assert registry.find("c") is None


def test_a_bundle_is_fetched_by_version_and_hash_or_not_at_all(tmp_path: Path) -> None:
    registry = FakeRegistry()
    registry.register(tmp_path, bundle_sha256="a", train_sha256="t", tags={"git": "1"})
    baseline = Baseline(version=1, bundle_sha256="a", train_sha256="t")

    folder = registry.fetch_bundle(baseline)

    assert folder == tmp_path
    for changes in ({"version": 2}, {"bundle_sha256": "b"}):
        with pytest.raises(NotReadyError):
            registry.fetch_bundle(baseline.model_copy(update=changes))


def test_an_interrupted_training_is_taken_up_again_and_epochs_are_logged_once() -> None:
    tracker = FakeTracker()

    for _ in range(2):
        with tracker.training(input_key="key", parameters={"a": 1}) as run:
            run.log_epoch(FIGURES, speed={})
    with tracker.training(input_key="other", parameters={}):
        pass

    assert [(run.input_key, list(run.epochs)) for run in tracker.runs] == [
        ("key", [1]),
        ("other", []),
    ]
