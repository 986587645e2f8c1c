from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fgpipe.errors import ConfigError
from fgpipe.operations.tune_file import Choice, FloatRange, IntRange, load_tune_file

ROOT = Path(__file__).parents[3]
PARAMS = ROOT / "params.yaml"


def shipped() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "tune.yaml").read_text())


def written(folder: Path, **changes: object) -> Path:
    path = folder / "tune.yaml"
    path.write_text(yaml.safe_dump(shipped() | changes))
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as error:
        load_tune_file(path, params=PARAMS)
    assert str(error.value).startswith(str(path))
    return str(error.value)


def test_the_shipped_file_is_accepted_and_begins_with_what_the_shipped_parameters_are() -> None:
    file, space = load_tune_file(ROOT / "tune.yaml", params=PARAMS)

    assert list(space) == list(shipped()["search"])
    assert file.objective == "validation_loss"
    params = yaml.safe_load(PARAMS.read_text())
    for key, range_ in space.items():
        section, name = key.split(".")
        assert range_.has(params[section][name]), key


def test_values_are_what_params_yaml_makes_of_them(tmp_path: Path) -> None:
    search = {
        "train.learning_rate": ["1e-3", 1, 0.5],  # YAML takes the first for a text
        "train.batch_norm": [True, False],
        "train.threads": ["auto", 2],
        "train.epochs": {"kind": "int", "low": 2, "high": 9, "step": 3},
        "train.weight_decay": {"kind": "float", "low": 0, "high": "1e-1"},
    }

    _, space = load_tune_file(written(tmp_path, search=search), params=PARAMS)

    assert space["train.learning_rate"] == Choice(values=(0.001, 1.0, 0.5))
    assert space["train.batch_norm"] == Choice(values=(True, False))
    assert space["train.threads"] == Choice(values=("auto", 2))
    assert space["train.epochs"].ends == (2, 8)
    assert space["train.weight_decay"].ends == (0.0, 0.1)


@pytest.mark.parametrize("key", ["objective", "n_trials", "sampler", "pruner", "seed", "search"])
def test_a_key_that_is_missing_or_misspelt_or_impossible_is_named(key: str, tmp_path: Path) -> None:
    path = written(tmp_path)
    content = yaml.safe_load(path.read_text())
    value = content.pop(key)

    path.write_text(yaml.safe_dump(content))
    missing = refusal(path)
    path.write_text(yaml.safe_dump(content | {f"{key}s": value}))
    misspelt = refusal(path)
    path.write_text(yaml.safe_dump(content | {key: ["surprise"]}))
    impossible = refusal(path)

    assert f"  {key}: missing; add it" in missing
    assert f"  {key}s: unknown key" in misspelt
    assert f"  {key}: " in impossible
    assert "['surprise']" in impossible


def test_a_test_figure_is_no_objective(tmp_path: Path) -> None:
    text = refusal(written(tmp_path, objective="test_top1"))

    assert "objective" in text
    assert "'test_top1'" in text


@pytest.mark.parametrize(
    ("key", "said", "explanation"),
    [
        ("train.learning_rat", [0.1, 0.2], "train.learning_rate is one"),
        ("gate.min_top1", [0.1, 0.2], "begin those that can be"),
        ("train", [0.1, 0.2], "is no key of params.yaml to search"),
        ("train.dropout", 0.3, "(0.3) must be a list of values, {kind: float"),
        ("train.dropout", {"low": 0, "high": 0.5}, "must be a list of values, {kind: float"),
        ("train.dropout", {"kind": "flat", "low": 0, "high": 0.5}, "{kind: float"),
        ("train.dropout", {"kind": "float", "low": 0.5, "high": 0.2}, "low (0.5) must be below"),
        ("train.dropout", {"kind": "float", "low": 0.5, "high": 0.5}, "low (0.5) must be below"),
        ("train.dropout", {"kind": "float", "low": 0.1}, ".high: missing; add it"),
        ("train.dropout", {"kind": "float", "low": "a", "high": 0.5}, "(it is 'a')"),
        ("train.dropout", {"kind": "float", "low": True, "high": 2}, ".low: must be a number"),
        ("train.dropout", {"kind": "float", "low": 0.1, "high": 1.5}, "cannot have 1.5 there"),
        (
            "train.dropout",
            {"kind": "float", "low": 0, "high": 0.5, "log": True},
            "low (0) must be above 0 under log",
        ),
        ("train.dropout", {"kind": "float", "low": 0, "high": 0.5, "step": 1}, ".step: unknown"),
        ("train.epochs", {"kind": "float", "low": 2, "high": 5}, "takes no fractions"),
        ("train.epochs", {"kind": "float", "low": 2, "high": 5.5}, "cannot have 5.5 there"),
        ("train.epochs", {"kind": "int", "low": 0, "high": 5}, "cannot have 0 there"),
        ("train.epochs", {"kind": "int", "low": 1.5, "high": 5}, "(it is 1.5)"),
        ("train.epochs", {"kind": "int", "low": 1, "high": 5, "step": 0}, "(it is 0)"),
        ("train.batch_norm", {"kind": "int", "low": 0, "high": 1}, "write [true, false]"),
        ("train.head", {"kind": "int", "low": 0, "high": 1}, "cannot have 0 there"),
        ("train.head", ["linear", "transformer"], "cannot have 'transformer' there"),
        ("train.head", ["linear"], "two values or more"),
        ("train.head", ["linear", "linear"], "each another"),
        ("train.dropout", [0, 0.0], "each another"),
        ("train.head", ["linear", ["gru"]], "(it is ['gru'])"),
        ("preprocess.clahe_grid", {"kind": "int", "low": 0, "high": 9}, "cannot have 0 there"),
    ],
)
def test_what_cannot_be_searched_is_named_with_its_key_and_value(
    key: str, said: object, explanation: str, tmp_path: Path
) -> None:
    text = refusal(written(tmp_path, search={"train.backbone_rate": [0.1, 0.2], key: said}))

    assert f"search.{key}" in text
    assert explanation in text


def test_a_choice_that_does_not_go_with_the_rest_of_the_parameters_is_told_why(
    tmp_path: Path,
) -> None:
    content = yaml.safe_load(PARAMS.read_text())
    content["pretrain"]["method"] = "byol"
    params = tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump(content))
    path = written(tmp_path, search={"train.weights": ["packaged", "timm"]})

    with pytest.raises(ConfigError, match=r"cannot have 'timm' there: pretrain\.weights"):
        load_tune_file(path, params=params)


@pytest.mark.parametrize(
    ("content", "explanation"),
    [
        (None, "does not exist"),
        (b"search: {", "is not valid YAML"),
        (b"seed: 2026-13-01", "is not valid YAML: month"),
        (b"\xff\xfe", "is not valid YAML"),
        (b"", "file: "),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_reason(
    content: bytes | None, explanation: str, tmp_path: Path
) -> None:
    path = tmp_path / "tune.yaml"
    if content is not None:
        path.write_bytes(content)

    assert explanation in refusal(path)


@given(
    low=st.integers(-20, 20), n_more=st.integers(1, 40), step=st.integers(1, 9), value=st.integers()
)
def test_a_range_of_whole_numbers_has_those_that_counting_meets(
    low: int, n_more: int, step: int, value: int
) -> None:
    range_ = IntRange(kind="int", low=low, high=low + n_more, step=step)

    counted = [low]
    while counted[-1] + step <= low + n_more:
        counted.append(counted[-1] + step)

    assert range_.ends == (low, counted[-1])
    assert all(map(range_.has, counted))
    assert range_.has(value) == (value in counted)
    assert not range_.has(float(low))


def test_a_range_of_numbers_has_its_ends_and_nothing_beyond_or_besides() -> None:
    range_ = FloatRange(kind="float", low=1, high=2)

    assert [range_.has(value) for value in (1, 1.5, 2.0)] == [True] * 3
    assert [range_.has(value) for value in (0.99, 2.01, "1.5", True)] == [False] * 4
