from pathlib import Path

import pytest
import yaml

from fgpipe.errors import ConfigError, NotReadyError
from fgpipe.operations.benchmark_file import BENCHMARK, read_benchmark
from fgpipe.operations.benchmark_plan import cells_of

ROOT = Path(__file__).parents[3]
GOOD = {"measure": "test_top1", "seeds": 3, "grid": {"train.head": ["linear", "gru"]}}


def make_project(root: Path) -> Path:
    (root / "data" / "raw").mkdir(parents=True)
    (root / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_project(tmp_path / "birds")


def write(root: Path, **content: object) -> None:
    (root / BENCHMARK).write_text(yaml.safe_dump(content, sort_keys=False))


def refused(root: Path, **content: object) -> str:
    write(root, **content)
    with pytest.raises(ConfigError) as error:
        read_benchmark(root)
    assert str(root / BENCHMARK) in str(error.value)
    return str(error.value)


def test_the_file_that_ships_is_one_that_runs(root: Path) -> None:
    (root / BENCHMARK).write_text((ROOT / BENCHMARK).read_text())

    benchmark = read_benchmark(root)

    assert len(list(cells_of(benchmark))) == 6
    assert benchmark.baseline == "head=linear"


def test_what_the_file_that_ships_has_as_comments_runs_too(root: Path) -> None:
    make_project(root.parent / "other-project")
    lines = (ROOT / BENCHMARK).read_text().splitlines()
    shown = [line.removeprefix("# ") for line in lines if line.startswith(("# ", "#   "))]
    keys = ("baseline:", "variants:", "protocols:", "projects:", "  ")
    active = [line for line in lines if not line.startswith("#")]
    (root / BENCHMARK).write_text(
        "\n".join(active + [line for line in shown if line.startswith(keys)])
    )

    benchmark = read_benchmark(root)

    assert [variant.name for variant in benchmark.variants][2:] == [
        "strong augmentation",
        "larger images",
    ]
    assert list(benchmark.protocols) == ["by group", "as published"]
    assert [data_set.name for data_set in benchmark.data_sets] == ["birds", "other-project"]


def test_the_baseline_is_the_first_method_unless_it_is_named(root: Path) -> None:
    write(root, **GOOD)
    first = read_benchmark(root)
    write(root, **GOOD, baseline="head=gru")

    named = read_benchmark(root)

    assert (first.baseline, named.baseline) == ("head=linear", "head=gru")


def test_other_projects_have_their_own_parameters(root: Path) -> None:
    other = make_project(root.parent / "cars")
    params = yaml.safe_load((other / "params.yaml").read_text())
    n_epochs = params["train"]["epochs"]
    params["train"]["epochs"] = 99
    (other / "params.yaml").write_text(yaml.safe_dump(params))
    write(root, **GOOD, projects=[".", "../cars"])

    benchmark = read_benchmark(root)

    epochs = {cell.data_set.name: cell.content["train"]["epochs"] for cell in cells_of(benchmark)}
    assert epochs == {"birds": n_epochs, "cars": 99}


def test_projects_of_one_name_are_told_apart_by_their_paths(root: Path) -> None:
    make_project(root.parent / "more" / "birds")
    write(root, **GOOD, projects=[".", "../more/birds"])

    benchmark = read_benchmark(root)

    assert [data_set.name for data_set in benchmark.data_sets] == [".", "../more/birds"]


def test_all_mistakes_are_in_one_message_with_key_value_and_way_out(root: Path) -> None:
    said = refused(
        root,
        measure="test_top1",
        seeds=3,
        baseline="hed=linear",
        grid={"train.head": ["linear"], "manifest.seed": [1, 2], "train.seed": [5], "gate": [1]},
        variants={"longer": {"validate.seed": 3}},
        projects=[".", "../nowhere"],
    )

    assert "grid: manifest.seed (to be [1, 2]): variants are compared on the same data" in said
    assert "grid: train.seed (to be [5]): seeds says how many there are; take it out" in said
    assert "grid: gate (to be [1]): is no SECTION.KEY" in said
    assert "variants.longer: validate.seed (to be 3): variants are compared on the same" in said
    assert "baseline (hed=linear): no variant is called that; did you mean" in said
    assert "projects (../nowhere)" in said
    assert "has no params.yaml; name folders of projects" in said


def test_values_are_tried_before_anything_runs_and_named_once(root: Path) -> None:
    said = refused(
        root,
        measure="test_top1",
        seeds=3,
        grid={"train.head": ["linear", "gruu"], "train.dropout": [0.1, 2]},
        variants={"x": {"train.haed": "gru"}, "y": {"train.low_size_px": 96}},
    )

    assert said.count("train.head (gruu): Input should be 'linear'") == 1
    assert said.count("train.dropout (2): Input should be less than 1") == 1
    assert "x: train.haed (gru): unknown key; remove it or mend its spelling" in said
    assert "did you mean train.head?" in said
    assert "has 3 mistake(s)" in said


def test_values_that_do_not_go_together_are_named(root: Path) -> None:
    changes = {"train.low_size_px": 96, "train.finish_epochs": 8, "train.epochs": 8}

    said = refused(root, measure="test_top1", seeds=1, variants={"small": changes})

    assert "small: train: finish_epochs (8) must be below epochs (8)" in said


def test_a_protocol_that_cannot_be_is_named_by_its_own_name(root: Path) -> None:
    said = refused(root, **GOOD, protocols={"by group": {"protocol": "folds", "fold": 4}})

    assert "protocols.by group: manifest.protocol (folds): Input should be" in said


def test_two_methods_that_are_the_same_are_refused(root: Path) -> None:
    said = refused(root, **GOOD, variants={"as it is": {}, "head=gru": {"train.head": "gru"}})

    assert "variants.head=gru: 2 variants have this name" in said
    said = refused(root, **GOOD, variants={"as it is": {}})
    assert "as it is: is the same as head=linear; take one of the two out" in said


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"seeds": 0}, "seeds (0): Input should be greater than or equal to 1"),
        ({"seeds": "many"}, "seeds (many): Input should be a valid integer"),
        ({"measure": "top1"}, "measure (top1): Input should be 'test_top1'"),
        ({"seedz": 3}, "seedz (3): unknown key; remove it or mend its spelling (did you mean seed"),
        ({"grid": {"train.head": []}}, "grid.train.head ([]): List should have at least 1 item"),
        ({"grid": {"train.head": "gru"}}, "grid.train.head (gru): Input should be a valid list"),
        ({"grid": {}}, "grid, variants: neither names anything to compare"),
        ({"protocols": {}}, "protocols ({}): names none"),
        ({"projects": [".", "../birds"]}, "stands 2 times; keep one"),
        ({"projects": []}, "projects ([]): List should have at least 1 item"),
        (
            {"grid": {f"train.{key}": list(range(100)) for key in "abc"}},
            "grid: makes 1,000,000 methods; name some under variants instead",
        ),
        (
            {"seeds": 1000, "grid": {"train.epochs": list(range(1, 12))}},
            "seeds (1000): all in all there are more than 10,000 trainings; take fewer",
        ),
    ],
)
def test_what_cannot_be_is_refused(root: Path, content: dict[str, object], expected: str) -> None:
    assert expected in refused(root, **(GOOD | content))


def test_a_missing_key_is_named(root: Path) -> None:
    said = refused(root, grid={"train.head": ["gru"]})

    assert "measure: missing; add it" in said
    assert "seeds: missing; add it" in said


def test_a_file_of_weights_that_is_not_there_is_found_before_the_night(root: Path) -> None:
    (root / "there.safetensors").write_bytes(b"")
    weights = ["packaged", "there.safetensors", "gone.safetensors"]

    said = refused(root, measure="test_top1", seeds=3, grid={"train.weights": weights})

    assert "has 1 mistake(s)" in said
    assert f"train.weights (gone.safetensors): {root}/gone.safetensors is no file" in said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [", "is not valid YAML"),
        ("- 1", "has to be a mapping"),
        ("seeds: 3\nseeds: 4", "line 1: 'seeds' stands twice; keep one"),
        ("grid:\n  train.head: [a]\n  train.head: [b]", "line 2: 'train.head' stands twice"),
    ],
)
def test_what_is_no_mapping_is_refused(root: Path, text: str, expected: str) -> None:
    (root / BENCHMARK).write_text(text)

    with pytest.raises(ConfigError, match=expected):
        read_benchmark(root)


def test_a_missing_file_says_how_to_write_one(root: Path) -> None:
    with pytest.raises(ConfigError, match="with at least measure: test_top1, seeds: 3 and grid"):
        read_benchmark(root)


def test_a_project_without_images_names_the_command_that_brings_them(root: Path) -> None:
    (root / "data" / "raw").rmdir()
    write(root, **GOOD)

    with pytest.raises(NotReadyError, match="fgpipe data import"):
        read_benchmark(root)


def test_a_change_of_the_images_that_was_cut_short_is_completed_first(root: Path) -> None:
    (root / "data" / ".raw.ready").mkdir()
    (root / "data" / ".raw.ready" / "plan.json").write_text("{}")
    write(root, **GOOD)

    with pytest.raises(NotReadyError, match="`fgpipe data status` in that project completes it"):
        read_benchmark(root)
