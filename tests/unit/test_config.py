from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic.fields import FieldInfo

from fgpipe.config import AUGMENTATIONS, GateConfig, Params, Section, ValidateConfig, load_params
from fgpipe.errors import ConfigError
from fgpipe.pipeline import STAGES
from fgpipe.records import ColorSpace

SHIPPED = Path(__file__).parents[2] / "params.yaml"


def shipped() -> dict[str, dict[str, Any]]:
    return yaml.safe_load(SHIPPED.read_text())


def written(content: object, folder: Path) -> Path:
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as error:
        load_params(path)
    return str(error.value)


def test_the_shipped_parameters_are_accepted_and_say_what_the_file_says() -> None:
    params = load_params(SHIPPED)

    assert params.model_dump(by_alias=True) == shipped()


def test_every_stage_has_a_section_and_every_section_a_stage() -> None:
    params = load_params(SHIPPED)

    sections = {stage.name: params.section(stage.name) for stage in STAGES}

    assert set(sections) == set(shipped())
    assert isinstance(sections["validate"], ValidateConfig)
    assert isinstance(sections["gate"], GateConfig)


ALL_KEYS = [(section, key) for section, keys in shipped().items() for key in keys]


@pytest.mark.parametrize(("section", "key"), ALL_KEYS)
def test_a_key_that_is_missing_is_named_with_its_path(
    section: str, key: str, tmp_path: Path
) -> None:
    content = shipped()
    del content[section][key]

    text = refusal(written(content, tmp_path))

    assert f"  {section}.{key}: missing; add it" in text
    assert "1 wrong value(s)" in text


@pytest.mark.parametrize(("section", "key"), ALL_KEYS)
def test_a_key_that_is_misspelt_is_named_and_so_is_the_one_it_should_be(
    section: str, key: str, tmp_path: Path
) -> None:
    content = shipped()
    content[section][f"{key}x"] = content[section].pop(key)

    text = refusal(written(content, tmp_path))

    assert f"  {section}.{key}x: unknown key; remove it or mend its spelling" in text
    assert f"  {section}.{key}: missing" in text


@pytest.mark.parametrize(("section", "key"), ALL_KEYS)
def test_a_value_of_the_wrong_type_is_named_and_quoted(
    section: str, key: str, tmp_path: Path
) -> None:
    content = shipped()
    content[section][key] = ["surprise"]

    text = refusal(written(content, tmp_path))

    assert f"  {section}.{key}" in text
    assert "['surprise']" in text


def fields_of(section: str) -> dict[str, FieldInfo]:
    fields = {field.alias or name: field for name, field in Params.model_fields.items()}
    type_ = fields[section].annotation
    assert type_ is not None
    assert issubclass(type_, Section)
    return type_.model_fields


def assert_named_and_quoted(section: str, key: str, value: object, *, folder: Path) -> None:
    """The shipped parameters with this value are refused for it."""
    content = shipped()
    content[section][key] = value

    text = refusal(written(content, folder))

    assert f"  {section}.{key}" in text
    assert f"(it is {value!r})" in text


@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize(
    ("section", "key"),
    [(name, key) for name, key in ALL_KEYS if fields_of(name)[key].annotation is not bool],
)
def test_true_and_false_are_taken_for_no_number(
    section: str, key: str, value: object, tmp_path: Path
) -> None:
    assert_named_and_quoted(section, key, value, folder=tmp_path)


@pytest.mark.parametrize("section", shipped())
def test_a_section_that_is_missing_is_named(section: str, tmp_path: Path) -> None:
    content = shipped()
    del content[section]

    text = refusal(written(content, tmp_path))

    assert f"  {section}: missing; add it" in text


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("manifest", "protocol", "grouped"),
        ("manifest", "seed", -1),
        ("manifest", "n_folds", 1),
        ("validate", "refuse_on", "pass"),
        ("validate", "drift_sample", -1),
        ("package", "profile_sample", 1_000_000),
        ("preprocess", "image_size_px", 8),
        ("preprocess", "color_space", "cmyk"),
        ("preprocess", "resize", "crop"),
        ("preprocess", "box_margin", -0.1),
        ("preprocess", "contrast", "gamma"),
        ("preprocess", "clahe_clip_limit", 0.5),
        ("preprocess", "clahe_grid", 0),
        ("pretrain", "method", "mae"),
        ("pretrain", "min_scale", 0),
        ("pretrain", "momentum", 1),
        ("pretrain", "precision", "fp16"),
        ("train", "head", "transformer"),
        ("train", "backbone", ""),
        ("pretrain", "learning_rate", 1e38),
        ("train", "learning_rate", 0),
        ("train", "learning_rate", 1e38),
        ("train", "learning_rate", float("nan")),
        ("train", "learning_rate", "fast"),
        ("train", "epochs", 2.5),
        ("train", "dropout", 1),
        ("train", "threads", 0),
        ("train", "threads", 2**31),
        ("train", "n_attentions", 10**7),
        ("train", "n_centres", 10**8),
        ("evaluate", "n_bins", 10**9),
        ("evaluate", "n_bootstrap", 10),
        ("evaluate", "confidence_level", 95),
        ("gate", "min_top1", 1.01),
        ("gate", "max_drop", -0.1),
        ("package", "name", "Solar Cells"),
    ],
)
def test_an_impossible_value_is_named_with_its_path_and_quoted(
    section: str, key: str, value: object, tmp_path: Path
) -> None:
    assert_named_and_quoted(section, key, value, folder=tmp_path)


@pytest.mark.parametrize(
    ("change", "explanation"),
    [
        ({"fractions": {"train": 0.6, "validation": 0.1, "calibration": 0.1, "test": 0.1}}, "0.9"),
        ({"fractions": {"train": 0.8, "validation": 0.1, "calibration": 0.1}}, "test is not"),
        (
            {"fractions": {"train": 0.8, "validation": 0, "calibration": 0.1, "test": 0.1}},
            "validation is not",
        ),
        ({"fold": 4}, "fold (4) must be below n_folds (4)"),
    ],
)
def test_values_that_do_not_go_together_are_refused_with_their_numbers(
    change: dict[str, object], explanation: str, tmp_path: Path
) -> None:
    content = shipped()
    content["manifest"] |= change

    text = refusal(written(content, tmp_path))

    assert explanation in text
    assert "manifest" in text


def test_tiles_that_are_too_small_are_refused_with_what_is_possible(tmp_path: Path) -> None:
    content = shipped()
    content["preprocess"] |= {"contrast": "clahe", "clahe_grid": 29}

    text = refusal(written(content, tmp_path))

    assert "  preprocess: clahe_grid (29) must be at most 28" in text
    content["preprocess"]["contrast"] = "none"
    assert load_params(written(content, tmp_path)).preprocess.clahe_grid == 29


@pytest.mark.parametrize("augment", ["flip", "Flips", "mine.yaml", "/mine.json", "../mine.json"])
def test_an_augmentation_that_is_no_name_and_no_file_of_the_project_is_refused(
    augment: str, tmp_path: Path
) -> None:
    content = shipped()
    content["train"]["augment"] = augment

    text = refusal(written(content, tmp_path))

    assert "train.augment: must be one of none, flips, square, light, trivial, textures" in text
    assert f"(it is {augment!r})" in text


@pytest.mark.parametrize("color_space", get_args(ColorSpace))
@pytest.mark.parametrize("augment", [*AUGMENTATIONS, "mine.json", "own/mine.json"])
def test_every_augmentation_goes_with_every_colour_space(
    color_space: str, augment: str, tmp_path: Path
) -> None:
    content = shipped()
    content["preprocess"]["color_space"] = color_space
    content["train"]["augment"] = augment

    assert load_params(written(content, tmp_path)).train.augment == augment


def test_rare_classes_are_not_made_up_for_twice(tmp_path: Path) -> None:
    content = shipped()
    content["train"] |= {"sampling": "balanced", "logit_adjustment": 1.0}

    text = refusal(written(content, tmp_path))

    assert "train: logit_adjustment (1) must be 0 under sampling (balanced)" in text


@pytest.mark.parametrize(
    ("values", "least"),
    [
        ({"processes": 4}, "8: two images for each of batch_parts (1) in each of processes (4)"),
        ({"batch_parts": 4}, "8: two images for each of batch_parts (4) in each of processes (1)"),
        (
            {"batch_parts": 2, "processes": 2},
            "8: two images for each of batch_parts (2) in each of processes (2)",
        ),
    ],
)
def test_a_batch_without_two_images_for_each_part_and_process_is_refused(
    values: dict[str, int], least: str, tmp_path: Path
) -> None:
    content = shipped()
    content["train"] |= values | {"batch_size": 7}

    text = refusal(written(content, tmp_path))

    assert f"  train: batch_size (7) must be at least {least}" in text
    content["train"]["batch_size"] = 8
    assert load_params(written(content, tmp_path)).train.batch_size == 8


SEED_CNN = {"backbone": "seed_cnn", "weights": "scratch", "frozen_stages": 0}


@pytest.mark.parametrize(
    ("change", "explanation"),
    [
        (
            {"low_size_px": 16, "finish_epochs": 2},
            "low_size_px (16) must be 0 under backbone (seed",
        ),
        ({"weights": "packaged"}, "weights (packaged) must be scratch or a file under backbone"),
        ({"weights": "timm"}, "weights (timm) must be scratch or a file under backbone"),
        ({"frozen_stages": 2}, "frozen_stages (2) must be 0 under weights (scratch)"),
        ({"backbone_rate": 0}, "backbone_rate (0) must be above 0 under weights (scratch)"),
    ],
)
def test_what_the_seed_network_cannot_do_is_refused(
    change: dict[str, object], explanation: str, tmp_path: Path
) -> None:
    content = shipped()
    content["train"] |= SEED_CNN
    assert load_params(written(content, tmp_path)).train.backbone == "seed_cnn"
    content["train"] |= change

    text = refusal(written(content, tmp_path))

    assert f"  train: {explanation}" in text


def test_the_seed_network_starts_from_a_file_as_well(tmp_path: Path) -> None:
    content = shipped()
    frozen = {"frozen_stages": 2, "backbone_rate": 0}
    content["train"] |= SEED_CNN | {"weights": "model.safetensors"} | frozen

    params = load_params(written(content, tmp_path))

    assert params.train.weights == "model.safetensors"


@pytest.mark.parametrize("low_size_px", [224, 448])
def test_a_low_size_that_is_not_below_the_images_is_refused_with_both(
    low_size_px: int, tmp_path: Path
) -> None:
    content = shipped()
    content["train"] |= {"low_size_px": low_size_px, "finish_epochs": 2}

    text = refusal(written(content, tmp_path))

    assert f"train.low_size_px ({low_size_px}) must be below preprocess.image_size_px (224)" in text
    content["train"]["low_size_px"] = 223
    assert load_params(written(content, tmp_path)).train.low_size_px == 223


@pytest.mark.parametrize(
    ("augment", "views"),
    [("none", "flips"), ("none", "mirror"), ("flips", "square"), ("light", "flips")],
)
def test_views_that_training_never_shows_are_doubted_by_evaluation_alone(
    augment: str, views: str, tmp_path: Path
) -> None:
    content = shipped()
    content["train"]["augment"], content["evaluate"]["views"] = augment, views

    params = load_params(written(content, tmp_path))

    (doubt,) = params.doubts("evaluate")
    assert f"evaluate.views ({views}) looks at" in doubt
    assert f"train.augment ({augment}) never showed" in doubt
    assert doubt.endswith("textures")
    assert params.doubts("train") == ()


@pytest.mark.parametrize(
    ("augment", "views"),
    [("none", "one"), ("flips", "flips"), ("light", "mirror"), ("mine.json", "square")],
)
def test_views_that_training_shows_or_may_show_are_not_doubted(
    augment: str, views: str, tmp_path: Path
) -> None:
    content = shipped()
    content["train"]["augment"], content["evaluate"]["views"] = augment, views

    assert load_params(written(content, tmp_path)).doubts("evaluate") == ()


@pytest.mark.parametrize("key", ["backbone", "weights"])
def test_a_pretraining_of_other_weights_than_training_starts_from_is_refused(
    key: str, tmp_path: Path
) -> None:
    content = shipped()
    content["pretrain"] |= {"method": "byol", key: "other"}

    text = refusal(written(content, tmp_path))

    assert f"pretrain.{key} (other) must be train.{key} ({content['train'][key]})" in text
    content["pretrain"]["method"] = "none"
    assert load_params(written(content, tmp_path)).pretrain.method == "none"


def test_views_of_another_size_than_seed_cnn_takes_are_refused(tmp_path: Path) -> None:
    content = shipped()
    small = {"backbone": "seed_cnn", "weights": "scratch"}
    content["train"] |= small | {"frozen_stages": 0}
    content["pretrain"] |= small | {"method": "byol", "image_size_px": 128}

    text = refusal(written(content, tmp_path))

    assert "pretrain.image_size_px (128) must be preprocess.image_size_px (224)" in text
    content["pretrain"]["image_size_px"] = 224
    assert load_params(written(content, tmp_path)).pretrain.image_size_px == 224


def test_the_finer_map_of_seed_cnn_is_refused(tmp_path: Path) -> None:
    content = shipped()
    small = {"backbone": "seed_cnn", "weights": "scratch", "frozen_stages": 0}
    content["train"] |= small | {"mid_level": True}

    text = refusal(written(content, tmp_path))

    assert "mid_level (true) must be false under backbone (seed_cnn)" in text


def test_a_split_of_another_name_is_refused(tmp_path: Path) -> None:
    content = shipped()
    content["manifest"]["fractions"]["holdout"] = 0.0

    text = refusal(written(content, tmp_path))

    assert "manifest.fractions.holdout" in text


def test_fractions_that_sum_to_one_but_for_rounding_are_accepted(tmp_path: Path) -> None:
    content = shipped()
    content["manifest"]["fractions"] = {
        "train": 0.7,
        "validation": 0.1,
        "calibration": 0.1,
        "test": 0.1,
    }

    params = load_params(written(content, tmp_path))

    assert params.manifest.fractions["test"] == 0.1


@pytest.mark.parametrize(
    ("write", "explanation"),
    [
        (lambda path: None, "does not exist; run fgpipe in the project's folder"),
        (lambda path: path.write_text("train: {head: gru"), "is not valid YAML"),
        (lambda path: path.write_text("train:\n\t- head: gru"), "is not valid YAML"),
        (lambda path: path.write_text("name: 2026-13-01"), "is not valid YAML: month"),
        (lambda path: path.write_bytes(b"train: \xff\xfe"), "is not valid YAML"),
        (lambda path: path.write_text(""), "file: "),
        (lambda path: path.write_text("- manifest"), "file: "),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_reason(
    write: Callable[[Path], object], explanation: str, tmp_path: Path
) -> None:
    path = tmp_path / "params.yaml"
    write(path)

    text = refusal(path)

    assert str(path) in text
    assert explanation in text


def test_a_file_full_of_mistakes_gives_a_short_message_that_counts_them(tmp_path: Path) -> None:
    content = {section: dict.fromkeys(keys, "?") for section, keys in shipped().items()}

    text = refusal(written(content, tmp_path))

    assert "wrong value(s)" in text
    assert len(text.splitlines()) == 6
