from pathlib import Path

import pytest

from fgpipe.operations.benchmark_plan import (
    Benchmark,
    DataSet,
    Variant,
    cells_of,
    changed,
    grid_variants,
    repeats_of,
)


def benchmark(**replaced: object) -> Benchmark:
    content = {
        "manifest": {"protocol": "stable", "n_folds": 2, "fold": 0, "seed": 7},
        "train": {"head": "linear", "seed": 7},
    }
    values: dict[str, object] = {
        "data_sets": (
            DataSet(name="birds", root=Path("birds"), content=content),
            DataSet(name="cars", root=Path("cars"), content=content),
        ),
        "protocols": {"": {}},
        "variants": (
            Variant(name="linear", changes={}),
            Variant(name="gru", changes={"train.head": "gru"}),
        ),
        "baseline": "linear",
        "n_seeds": 3,
        "measure": "test_top1",
    }
    return Benchmark(**(values | replaced))  # type: ignore[arg-type]


def test_a_grid_is_every_combination_named_by_its_values() -> None:
    grid = {"train.head": ["linear", "gru"], "preprocess.image_size_px": [160, 224]}

    variants = list(grid_variants(grid))

    assert [variant.name for variant in variants] == [
        "head=linear, image_size_px=160",
        "head=linear, image_size_px=224",
        "head=gru, image_size_px=160",
        "head=gru, image_size_px=224",
    ]
    assert variants[1].changes == {"train.head": "linear", "preprocess.image_size_px": 224}


def test_no_grid_is_no_variant_and_not_one_without_changes() -> None:
    assert list(grid_variants({})) == []


def test_keys_of_one_name_in_two_sections_are_told_apart() -> None:
    grid = {"train.precision": ["bf16"], "evaluate.precision": ["f32"], "train.batch_norm": [True]}

    (variant,) = grid_variants(grid)

    assert variant.name == "train.precision=bf16, evaluate.precision=f32, batch_norm=true"


def test_a_change_leaves_the_parameters_it_began_with_alone() -> None:
    content = {"train": {"head": "linear", "epochs": 8}}

    result = changed(content, {"train.head": "gru"})

    assert result == {"train": {"head": "gru", "epochs": 8}}
    assert content == {"train": {"head": "linear", "epochs": 8}}


@pytest.mark.parametrize(
    ("protocol", "names", "last"),
    [
        ("stable", ["seed 0", "seed 1", "seed 2"], {"train.seed": 2}),
        ("given", ["seed 0", "seed 1", "seed 2"], {"train.seed": 2}),
        ("random", ["seed 0", "seed 1", "seed 2"], {"train.seed": 2, "manifest.seed": 2}),
        ("fold", ["fold 0", "fold 1"], {"manifest.fold": 1}),
    ],
)
def test_repeats_change_the_seed_the_split_or_the_fold(
    protocol: str, names: list[str], last: dict[str, int]
) -> None:
    repeats = repeats_of(protocol, n_seeds=3, n_folds=2)  # type: ignore[arg-type]

    assert [repeat.name for repeat in repeats] == names
    assert repeats[-1].changes == last


def test_cells_are_all_of_everything_and_pairs_are_whole_early() -> None:
    asked = benchmark(protocols={"a": {"protocol": "random"}, "b": {"protocol": "fold"}})

    cells = list(cells_of(asked))

    assert len(cells) == 2 * (3 + 2) * 2
    assert [cell.name for cell in cells[:3]] == [
        "birds, a, linear, seed 0",
        "birds, a, gru, seed 0",
        "birds, a, linear, seed 1",
    ]
    assert cells[3].content["train"] == {"head": "gru", "seed": 1}
    assert cells[3].content["manifest"]["seed"] == 1
    assert cells[-1].name == "cars, b, gru, fold 1"
    assert cells[-1].content["manifest"]["fold"] == 1
    assert cells[-1].content["train"] == {"head": "gru", "seed": 7}
