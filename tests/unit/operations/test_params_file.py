"""The file with a value in another place: looked up line by line, and read again as YAML."""

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fgpipe.config import load_params
from fgpipe.errors import ConfigError
from fgpipe.operations.params_file import write_values
from fgpipe.ports import Scalar

SHIPPED = Path(__file__).parents[3] / "params.yaml"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A copy of the shipped file."""
    copied = tmp_path / "params.yaml"
    copied.write_bytes(SHIPPED.read_bytes())
    return copied


def differing_lines(path: Path) -> list[tuple[str, str]]:
    """The shipped file's lines that are others in this one."""
    pairs = zip(SHIPPED.read_text().splitlines(), path.read_text().splitlines(), strict=True)
    return [(before, after) for before, after in pairs if before != after]


def refusal(path: Path, values: dict[str, Scalar]) -> str:
    before = path.read_bytes()
    with pytest.raises(ConfigError) as error:
        write_values(path, values)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
    return str(error.value)


def test_only_the_values_change_and_comments_and_order_stay(path: Path) -> None:
    former = write_values(path, {"train.learning_rate": 0.01, "train.head": "gru"})

    assert former == {"train.learning_rate": 0.003, "train.head": "linear"}
    assert differing_lines(path) == [
        (
            "  head: linear # linear | mlp | gru | lstm | isqrt | bilinear | cal | cosine",
            "  head: gru # linear | mlp | gru | lstm | isqrt | bilinear | cal | cosine",
        ),
        ("  learning_rate: 3.0e-3 # of the head", "  learning_rate: 0.01 # of the head"),
    ]


def test_a_value_between_braces_changes_alone(path: Path) -> None:
    write_values(path, {"manifest.fractions.train": 0.5, "manifest.fractions.test": 0.3})

    assert differing_lines(path) == [
        (
            "  fractions: { train: 0.6, validation: 0.1, calibration: 0.1, test: 0.2 }",
            "  fractions: { train: 0.5, validation: 0.1, calibration: 0.1, test: 0.3 }",
        )
    ]


def test_a_text_over_several_lines_is_replaced_and_what_follows_stays(path: Path) -> None:
    write_values(path, {"package.description": "Tells: {cells}, # apart"})

    text = path.read_text()
    before, after = SHIPPED.read_text().split(">-")
    assert text.startswith(before)
    assert text.endswith(after[after.index("\n  license") :])
    assert load_params(path).package.description == "Tells: {cells}, # apart"


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_line_ends_and_marks_at_the_start_stay_as_they_are(path: Path, line_end: str) -> None:
    content = "\ufeff" + SHIPPED.read_text().replace("\n", line_end)
    path.write_bytes(content.encode())

    write_values(path, {"train.dropout": 0.3})

    assert path.read_bytes() == content.replace("dropout: 0.2", "dropout: 0.3").encode()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    rate=st.floats(min_value=1e-300, max_value=100),
    seed=st.integers(min_value=0, max_value=2**32 - 1),
    batch_norm=st.booleans(),
    backbone=st.text(min_size=1),
)
def test_whatever_is_written_is_what_is_read(
    path: Path, rate: float, seed: int, *, batch_norm: bool, backbone: str
) -> None:
    values = {
        "train.learning_rate": rate,
        "train.seed": seed,
        "train.batch_norm": batch_norm,
        "train.backbone": backbone,
    }

    write_values(path, values)

    expected = yaml.safe_load(SHIPPED.read_text())
    for key, value in values.items():
        expected["train"][key.removeprefix("train.")] = value
    assert yaml.safe_load(path.read_bytes()) == expected


def test_what_was_replaced_can_be_put_back(path: Path) -> None:
    former = write_values(path, {"train.epochs": 20, "evaluate.seed": 4})

    write_values(path, former)

    assert path.read_bytes() == SHIPPED.read_bytes()


@pytest.mark.parametrize(
    ("key", "known"),
    [
        ("train.learning_rat", "train.learning_rate is there"),
        ("trian.head", "train is there"),
        ("train.head.size", "look up in it how the key is spelt"),
        ("x", "look up in it how the key is spelt"),
    ],
)
def test_an_unknown_key_is_refused_with_the_one_it_may_mean(
    path: Path, key: str, known: str
) -> None:
    text = refusal(path, {"train.epochs": 3, key: 0.25})

    assert f"{path} has no {key}, which was to be 0.25" in text
    assert known in text


def test_a_section_is_no_value(path: Path) -> None:
    assert "manifest.fractions is no single value" in refusal(path, {"manifest.fractions": 1})


def test_an_impossible_value_is_refused_and_nothing_is_written(path: Path) -> None:
    text = refusal(path, {"train.epochs": 3, "train.learning_rate": -1.0})

    assert "train.learning_rate" in text
    assert "(it is -1.0)" in text


def test_values_that_do_not_go_together_are_refused(path: Path) -> None:
    text = refusal(path, {"pretrain.method": "byol", "train.backbone": "resnet18"})

    assert "must be train.backbone (resnet18)" in text


def test_a_file_that_is_wrong_already_is_told_as_it_is(path: Path) -> None:
    path.write_text(SHIPPED.read_text().replace("dropout: 0.2", "dropout: 2"))

    text = refusal(path, {"train.dropout": 0.2})

    assert "train.dropout" in text
    assert "(it is 2)" in text


def test_a_value_that_others_refer_to_is_not_replaced_behind_their_back(path: Path) -> None:
    shared = SHIPPED.read_text().replace("n_folds: 4", "n_folds: &four 4")
    path.write_text(shared.replace("epochs: 12", "epochs: *four"))

    text = refusal(path, {"train.epochs": 9})

    assert "train.epochs cannot be replaced alone" in text
    assert "anchor" in text
