"""Searches whose trainings take no time: what a trial comes to follows from its values."""

import csv
import io
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from fgpipe.config import load_params
from fgpipe.errors import (
    ConfigError,
    InputError,
    NotReadyError,
    PipelineError,
    UnavailableError,
)
from fgpipe.operations import trial as trial_module
from fgpipe.operations.params_file import write_values
from fgpipe.operations.search import Search, alone, find, prepare
from fgpipe.operations.trial_table import ranked, summary
from fgpipe.operations.tune import adopt, run_search
from fgpipe.pipeline import RAW, UNLABELLED, stage_named
from fgpipe.ports import Ports, Trial, TrialResult
from fgpipe.records import Pretrained
from tests.adapters.reproducer import FakeReproducer
from tests.adapters.searcher import FakeSearcher
from tests.adapters.tracker import FakeTracker
from tests.support.params import change_params
from tests.support.ports import fake_ports
from tests.support.tiny_project import epoch, manifest, preprocessed, trained

SHIPPED = Path(__file__).parents[3]
RATE = "train.learning_rate"
BASE = {RATE: 0.003, "train.augment": "flips"}
TUNE = {
    "objective": "validation_loss",
    "n_trials": 3,
    "sampler": "random",
    "pruner": "none",
    "seed": 0,
    "search": {
        RATE: {"kind": "float", "low": 1e-4, "high": 1.0, "log": True},
        "train.augment": ["flips", "square"],
    },
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project whose stages before the training have run."""
    root = tmp_path / "project"
    (root / RAW / "images").mkdir(parents=True)
    (root / "params.yaml").write_bytes((SHIPPED / "params.yaml").read_bytes())
    write_values(root / "params.yaml", {"train.augment": "flips", "train.epochs": 8})
    change_tune(root)
    for name, record in (
        ("manifest", manifest()),
        ("preprocess", preprocessed()),
        ("pretrain", Pretrained(method="none", pretraining=None)),
    ):
        record.save(root / stage_named(name).folder / "record.json")
    return root


@pytest.fixture
def tracker() -> FakeTracker:
    return FakeTracker()


@pytest.fixture
def ports(root: Path, tracker: FakeTracker) -> Ports:
    return fake_ports(root, tracker=tracker)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Folders of the trials whose training began.

    A training has two epochs; the loss is how many powers of ten the rate is from 0.01, and
    one more in the first epoch. A rate of 1 diverges, of 0.5 has no weights to start from,
    of 0.25 is interrupted after an epoch.
    """
    begun: list[Path] = []

    def run_stage(name: str, *, root: Path, ports: Ports) -> object:
        if name != "train":
            return None
        begun.append(root)
        config = load_params(root / "params.yaml").train
        rate = config.learning_rate
        checkpoint = ports.checkpoints / f"key-{rate:g}"
        checkpoint.mkdir(parents=True, exist_ok=True)
        if rate == 0.5:
            raise ConfigError("train.weights: no such file")
        loss = abs(math.log10(rate) + 2)
        curves = tuple(
            epoch(number).model_copy(update={"validation_loss": value})
            for number, value in ((1, loss + 1), (2, loss))
        )
        with ports.tracker.training(
            input_key=f"key-{rate:g}", parameters={"train": config.model_dump()}
        ) as run:
            for figures in curves:
                run.log_epoch(figures, speed={})
                if rate == 0.25:
                    raise KeyboardInterrupt
                if rate == 1:
                    raise PipelineError("the loss is not finite")
            record = trained().model_copy(update={"curves": curves})
            run.finish(record, root)
        record.save(root / stage_named("train").folder / "record.json")
        checkpoint.rmdir()
        return record

    monkeypatch.setattr(trial_module, "run_stage", run_stage)
    return begun


def change_tune(root: Path, **changes: object) -> None:
    (root / "tune.yaml").write_text(yaml.safe_dump(TUNE | changes, sort_keys=False))


def tries(*rates: float) -> list[dict[str, str | float]]:
    return [{RATE: rate, "train.augment": "square"} for rate in rates]


def searched(
    root: Path, ports: Ports, searcher: FakeSearcher, say: Callable[[str], object] = str
) -> tuple[TrialResult, ...]:
    return run_search(find(root), searcher=searcher, ports=ports, say=say)


def test_trials_are_run_until_there_are_enough_and_the_first_is_what_stands_there(
    root: Path, ports: Ports, trainings: list[Path]
) -> None:
    before = (root / "params.yaml").read_bytes()

    results = searched(root, ports, FakeSearcher(tries(0.1, 0.01)))

    assert [result.trial.values[RATE] for result in results] == [0.003, 0.1, 0.01]
    assert [result.value for result in results] == pytest.approx([0.5229, 1, 0], abs=1e-4)
    assert results[0].trial.values == BASE
    assert [result.trial.values[RATE] for result in ranked(find(root), results)] == [
        0.01,
        0.003,
        0.1,
    ]
    assert not any(folder.exists() for folder in trainings)
    assert (root / "params.yaml").read_bytes() == before


def test_what_stands_there_is_not_tried_where_the_ranges_leave_it_out(
    root: Path, ports: Ports, trainings: list[Path]
) -> None:
    change_params(root, train={"learning_rate": 5.0})

    results = searched(root, ports, FakeSearcher(tries(0.1, 0.01, 0.02)))

    assert [result.trial.values[RATE] for result in results] == [0.1, 0.01, 0.02]


def test_a_trial_has_its_own_parameters_and_the_projects_data(
    root: Path, ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def run_stage(name: str, *, root: Path, ports: Ports) -> None:
        params = load_params(root / "params.yaml")
        links = sorted((root / "data").iterdir())
        assert all(link.is_symlink() for link in links)
        seen.append((name, params.train.augment, [link.name for link in links]))
        raise PipelineError("seen enough")

    monkeypatch.setattr(trial_module, "run_stage", run_stage)
    with pytest.raises(PipelineError):
        searched(root, ports, FakeSearcher(tries(0.1, 0.2)))

    shared = ["01_manifest", "02_validate", "03_preprocess", "04_pretrain", "raw", "unlabelled"]
    assert seen == [("train", augment, shared) for augment in ("flips", "square", "square")]


def test_trials_preprocess_images_themselves_where_that_is_searched(
    root: Path, ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_tune(root, search={"preprocess.resize": ["letterbox", "squash"]}, n_trials=1)
    stages = []

    def run_stage(name: str, *, root: Path, ports: Ports) -> None:
        assert not (root / "data" / "03_preprocess").exists()
        stages.append((name, load_params(root / "params.yaml").preprocess.resize))
        (root / "data" / "05_train").mkdir(exist_ok=True)
        if name == "train":
            raise PipelineError("seen enough")

    monkeypatch.setattr(trial_module, "run_stage", run_stage)
    change_params(root, preprocess={"resize": "shortest_side"})
    with pytest.raises(PipelineError, match="none of 1 trials finished; the last: seen enough"):
        searched(root, ports, FakeSearcher([{"preprocess.resize": "squash"}]))

    assert stages == [(name, "squash") for name in ("preprocess", "pretrain", "train")]


def test_a_trial_without_promise_is_stopped_and_leaves_nothing_to_resume(
    root: Path, ports: Ports, tracker: FakeTracker, trainings: list[Path]
) -> None:
    searcher = FakeSearcher(
        tries(0.1, 0.01), stops=lambda trial, epoch, value: epoch == 1 and value > 1.9
    )

    results = searched(root, ports, searcher)

    assert [result.state for result in results] == ["finished", "pruned", "finished"]
    assert results[1].value is None
    assert results[1].note == "after epoch 1"
    assert searcher.reported[1] == {1: pytest.approx(2.0)}
    assert list(searcher.reported[2]) == [1, 2]
    [run] = tracker.searches.values()
    assert list(run.trials[1].epochs) == [1]
    assert run.states == {0: "finished", 1: "pruned", 2: "finished"}
    assert list(ports.checkpoints.iterdir()) == []


def test_a_training_that_fails_is_a_trial_and_not_the_end(
    root: Path, ports: Ports, trainings: list[Path]
) -> None:
    said: list[str] = []

    results = searched(root, ports, FakeSearcher(tries(1.0, 0.5)), said.append)

    assert [result.state for result in results] == ["finished", "failed", "failed"]
    assert "trial 1 failed: the loss is not finite" in said
    assert "trial 2 failed: train.weights: no such file" in said
    assert list(ports.checkpoints.iterdir()) == [ports.checkpoints / "key-0.5"]


def test_a_mistake_in_the_first_training_stops_the_search_and_its_trial_is_tried_again(
    root: Path, ports: Ports, trainings: list[Path]
) -> None:
    searcher = FakeSearcher(tries(0.1, 0.01))
    change_params(root, train={"learning_rate": 0.5})

    with pytest.raises(InputError, match="no such file"):
        searched(root, ports, searcher)

    assert list(searcher.running) == [0]
    assert searcher.results() == ()


def test_values_that_do_not_go_together_are_a_failed_trial(
    root: Path, ports: Ports, tracker: FakeTracker, trainings: list[Path]
) -> None:
    change_tune(
        root,
        n_trials=2,
        search={
            "train.sampling": ["uniform", "balanced"],
            "train.logit_adjustment": [0.0, 1.0],
        },
    )
    searcher = FakeSearcher([{"train.sampling": "balanced", "train.logit_adjustment": 1.0}])

    results = searched(root, ports, searcher)

    assert [result.state for result in results] == ["finished", "failed"]
    together = "its values do not go together: train: logit_adjustment (1) must be 0 under"
    assert results[1].note.startswith(together)
    assert len(trainings) == 1


def test_an_interrupted_search_goes_on_with_the_same_values(
    root: Path, ports: Ports, trainings: list[Path]
) -> None:
    searcher = FakeSearcher(tries(0.25, 0.01))
    with pytest.raises(KeyboardInterrupt):
        searched(root, ports, searcher)
    left = root / ".fgpipe" / "tune" / "trials" / "77"
    left.mkdir(parents=True)
    said: list[str] = []

    with pytest.raises(KeyboardInterrupt):
        searched(root, ports, searcher, said.append)

    assert said[0] == "1 trial(s) that were broken off are taken up again"
    assert said[1].startswith("trial 2, 2 of 3: train.learning_rate 0.25")
    assert [result.trial.number for result in searcher.results()] == [0]
    assert (ports.checkpoints / "key-0.25").exists()
    assert not left.exists()


def test_a_search_that_has_its_trials_runs_no_more(
    root: Path, ports: Ports, trainings: list[Path]
) -> None:
    searcher = FakeSearcher(tries(0.1, 0.01, 0.02))
    first = searched(root, ports, searcher)

    again = searched(root, ports, searcher)
    change_tune(root, n_trials=4)
    more = searched(root, ports, searcher)

    assert again == first
    assert more[:3] == first
    assert len(more) == 4
    assert len(trainings) == 4


def test_the_search_is_tracked_with_what_is_searched_and_the_best(
    root: Path, ports: Ports, tracker: FakeTracker, trainings: list[Path]
) -> None:
    searched(root, ports, FakeSearcher(tries(0.1, 1.0)))

    [run] = tracker.searches.values()
    assert run.key == find(root).key
    assert run.parameters == {
        "objective": "validation_loss",
        f"search.{RATE}": "0.0001 to 1, log",
        "search.train.augment": "flips, square",
    }
    assert run.best == Trial(number=0, values=BASE)
    assert run.figures == {"best_validation_loss": pytest.approx(0.5229, abs=1e-4), "n_trials": 3}
    assert yaml.safe_load(run.files["tune.yaml"]) == TUNE
    rows = list(csv.DictReader(io.StringIO(run.files["trials.csv"])))
    assert [(row["trial"], row["state"], row[RATE], row["note"]) for row in rows] == [
        ("0", "finished", "0.003", ""),
        ("1", "finished", "0.1", ""),
        ("2", "failed", "1.0", "the loss is not finite"),
    ]


def test_the_figure_is_that_of_the_epoch_that_is_kept_and_not_the_best_of_all(
    root: Path, ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_tune(root, objective="validation_top1", n_trials=1)

    def run_stage(name: str, *, root: Path, ports: Ports) -> None:
        curves = (epoch(1), epoch(2), epoch(4))
        record = trained().model_copy(update={"curves": curves, "best_epoch": 2})
        record.save(root / stage_named("train").folder / "record.json")

    monkeypatch.setattr(trial_module, "run_stage", run_stage)

    [result] = searched(root, ports, FakeSearcher([]))

    assert result.value == epoch(2).validation_top1
    assert result.value != epoch(4).validation_top1


@pytest.mark.parametrize(
    ("objective", "order"), [("validation_loss", [2, 0, 3]), ("validation_top1", [0, 3, 2])]
)
def test_the_best_are_the_lowest_or_the_highest_and_of_equals_the_first(
    objective: str, order: list[int], root: Path
) -> None:
    change_tune(root, objective=objective)
    values = [0.5, None, 0.25, 0.5]
    results = [
        TrialResult(
            trial=Trial(number=number, values=BASE),
            state="failed" if value is None else "finished",
            value=value,
            note="",
        )
        for number, value in enumerate(values)
    ]

    best = ranked(find(root), results)

    assert [result.trial.number for result in best] == order


def key(root: Path) -> str:
    return find(root).key


@pytest.mark.parametrize(
    "change",
    [
        lambda root: change_tune(root, n_trials=9, sampler="tpe", pruner="median", seed=4),
        lambda root: change_params(root, train={"learning_rate": 0.02, "augment": "square"}),
        lambda root: change_params(root, gate={"min_top1": 0.1}, evaluate={"seed": 3}),
    ],
)
def test_the_same_search_is_found_again(change: Callable[[Path], None], root: Path) -> None:
    before = key(root)

    change(root)

    assert key(root) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda root: change_tune(root, objective="validation_top1"),
        lambda root: change_tune(root, search={RATE: [0.1, 0.2]}),
        lambda root: change_params(root, train={"dropout": 0.4}),
        lambda root: change_params(root, preprocess={"resize": "squash"}),
        lambda root: (
            manifest()
            .model_copy(update={"table_sha256": "other"})
            .save(root / "data" / "01_manifest" / "record.json")
        ),
        lambda root: (
            preprocessed()
            .model_copy(update={"array_sha256": "other"})
            .save(root / "data" / "03_preprocess" / "record.json")
        ),
    ],
)
def test_another_search_is_another(change: Callable[[Path], None], root: Path) -> None:
    before = key(root)

    change(root)

    assert key(root) != before


def test_images_as_the_project_has_them_do_not_count_where_trials_make_their_own(
    root: Path,
) -> None:
    change_tune(root, search={"preprocess.resize": ["letterbox", "squash"]})
    before = key(root)

    (root / "data" / "03_preprocess" / "record.json").unlink()
    change_params(root, preprocess={"resize": "squash"})

    assert key(root) == before


@pytest.mark.parametrize("is_searched", [True, False])
def test_a_file_of_ones_own_is_known_by_its_content(root: Path, *, is_searched: bool) -> None:
    policy = root / "mine.json"
    policy.write_text("{}")
    if is_searched:
        change_tune(root, search={"train.augment": ["square", "mine.json"]})
    else:
        change_tune(root, search={RATE: [0.1, 0.2]})
        change_params(root, train={"augment": "mine.json"})
    before = key(root)

    policy.write_text('{"another": true}')

    assert key(root) != before


def test_no_folder_of_unlabelled_images_is_one_without_images(root: Path) -> None:
    change_params(root, pretrain={"method": "simsiam"})
    change_tune(root, search={"preprocess.resize": ["letterbox", "squash"]})

    assert not (root / UNLABELLED).exists()
    assert key(root) == key(root)


@pytest.mark.parametrize(
    "change",
    [
        lambda root: change_params(root, pretrain={"epochs": 3}),
        lambda root: (root / UNLABELLED / "one.png").write_bytes(b"an image"),
    ],
)
def test_where_trials_pretrain_what_they_pretrain_on_makes_another_search(
    change: Callable[[Path], None], root: Path
) -> None:
    (root / UNLABELLED).mkdir()
    change_params(root, pretrain={"method": "simsiam"})
    change_tune(root, search={"preprocess.resize": ["letterbox", "squash"]})
    before = key(root)

    change(root)
    after = key(root)
    change_params(root, pretrain={"method": "none"})

    assert after != before
    assert key(root) not in {before, after}


@pytest.mark.parametrize(
    ("searches", "stages"),
    [
        (RATE, ["manifest", "validate", "preprocess", "pretrain"]),
        ("preprocess.box_margin", ["manifest", "validate"]),
    ],
)
def test_what_trials_start_from_is_brought_up_to_date_first(
    searches: str, stages: list[str], root: Path
) -> None:
    change_tune(root, search={searches: [0.1, 0.2]})
    reproducer = FakeReproducer((), run=lambda name: None)

    prepare(root, reproducer=reproducer)

    assert reproducer.reproduced == stages


def test_a_mistake_in_the_file_is_told_before_any_stage_runs(root: Path) -> None:
    change_tune(root, sampler="grid")
    reproducer = FakeReproducer((), run=lambda name: None)

    with pytest.raises(ConfigError, match="sampler"):
        prepare(root, reproducer=reproducer)

    assert reproducer.reproduced == []


def test_coarse_accuracy_needs_parents(root: Path) -> None:
    change_tune(root, objective="validation_coarse_accuracy")

    with pytest.raises(ConfigError, match=r"tune\.yaml: objective: .* needs parents"):
        find(root)


@pytest.mark.parametrize(
    ("search", "n_epochs"),
    [
        ({RATE: [0.1, 0.2]}, 8),
        ({"train.epochs": {"kind": "int", "low": 2, "high": 9, "step": 2}}, 8),
        ({"train.epochs": [3, 20]}, 20),
    ],
)
def test_the_longest_trial_is_known(search: dict[str, object], n_epochs: int, root: Path) -> None:
    change_tune(root, search=search)

    assert find(root).n_epochs == n_epochs


def test_a_second_search_at_the_same_time_is_refused(root: Path) -> None:
    with alone(find(root)), pytest.raises(UnavailableError, match="another `fgpipe tune`"):  # noqa: SIM117
        with alone(find(root)):
            pass
    with alone(find(root)):
        pass


def finished(number: int, value: float) -> TrialResult:
    trial = Trial(number=number, values={RATE: 0.01 * (number + 1), "train.augment": "square"})
    return TrialResult(trial=trial, state="finished", value=value, note="")


def ended(search: Search, *results: TrialResult) -> FakeSearcher:
    searcher = FakeSearcher([])
    searcher.ended = {result.trial.number: result for result in results}
    return searcher


@pytest.mark.parametrize(("number", "rate"), [(None, 0.02), (0, 0.01)])
def test_a_trial_is_adopted_and_the_search_stays_the_same(
    number: int | None, rate: float, root: Path
) -> None:
    search = find(root)
    searcher = ended(search, finished(0, 0.5), finished(1, 0.25))

    adopted = adopt(search, searcher=searcher, number=number)

    assert adopted.trial.values == {RATE: rate, "train.augment": "square"}
    text = (root / "params.yaml").read_text()
    assert f"learning_rate: {rate} # of the head" in text
    assert "augment: square #" in text
    assert find(root).key == search.key


def test_only_what_finished_is_adopted(root: Path) -> None:
    search = find(root)
    pruned = TrialResult(
        trial=Trial(number=1, values=BASE), state="pruned", value=None, note="after epoch 1"
    )
    before = (root / "params.yaml").read_bytes()

    with pytest.raises(NotReadyError, match="`fgpipe tune` runs them"):
        adopt(search, searcher=ended(search, pruned), number=None)
    with pytest.raises(InputError, match="trial 1 is none that finished; the best are 3, 0"):
        adopt(
            search,
            searcher=ended(search, finished(0, 0.5), pruned, finished(3, 0.1)),
            number=1,
        )

    assert (root / "params.yaml").read_bytes() == before


def test_the_summary_has_the_best_five_what_counts_and_what_adopts_them(root: Path) -> None:
    results = [finished(number, value) for number, value in enumerate([0.5, 0.25, 1, 0.75, 2, 3])]

    text = summary(find(root), results, importances={RATE: 0.75, "train.augment": 0.25})

    lines = text.splitlines()
    assert lines[0] == "6 trials: 6 finished, 0 pruned, 0 failed"
    assert lines[1] == "the best by validation_loss (lower is better):"
    assert [line.split()[0] for line in lines[2:8]] == ["trial", "1", "0", "3", "2", "4"]
    assert lines[3].split() == ["1", "0.2500", "0.02", "square"]
    assert "share in how trials differ: train.learning_rate 0.75, train.augment 0.25" in lines
    assert "  train.learning_rate: 0.02" in lines
    assert lines[-1] == "  dvc exp run -S train.learning_rate=0.02 -S train.augment=square"
