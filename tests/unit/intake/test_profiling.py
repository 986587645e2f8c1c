from pathlib import Path

import pytest

from fgpipe.errors import InputError
from fgpipe.images.data_tables import MEASURES
from fgpipe.images.expectations_file import parse_suite
from fgpipe.images.structure import expected_structure
from fgpipe.intake.profiling import expectations_text, write_expectations
from fgpipe.records import SPLITS
from fgpipe.stages.validate import tables_of
from tests.adapters.checker import FakeChecker
from tests.support.tables import sound_table, with_spread


def test_the_data_that_bounds_are_taken_from_meet_them() -> None:
    table = with_spread("sharpness", odd=90.0)

    suite = parse_suite(expectations_text(table), name="f")

    tables = tables_of(table, suite, n_quarantined=0)
    for expectation in (*expected_structure(by_group=True), *suite.expectations):
        if expectation.table != "drift" and expectation.name != "sharpness_outliers":
            (result,) = FakeChecker().check(tables[expectation.table], [expectation])
            assert result.passed, result


def test_bounds_leave_room_around_what_is_there() -> None:
    found = {
        e.name: e.arguments
        for e in parse_suite(expectations_text(sound_table()), name="f").expectations
    }

    assert found["width"] == {"column": "width_px", "min_value": 150, "max_value": 600}
    assert found["aspect_ratio"]["max_value"] == pytest.approx(2.3)
    assert found["brightness"] == {"column": "brightness", "min_value": 0.2, "max_value": 0.7}
    assert found["contrast"] == {"column": "contrast", "min_value": 0.1}
    assert found["sharpness"] == {"column": "sharpness", "min_value": 20}
    assert found["images_per_class"]["min_value"] == 8
    assert found["images_per_class_in_test"]["min_value"] == 2
    assert found["channels"]["value_set"] == [1]


def test_what_is_required_of_a_data_set_is_in_the_suite() -> None:
    suite = parse_suite(expectations_text(sound_table()), name="f")

    names = {expectation.name for expectation in suite.expectations}
    assert names >= {f"images_per_class_in_{split}" for split in SPLITS}
    assert names >= {f"{feature}_drift" for feature in (*MEASURES, "labels", "embeddings")}
    assert names >= {"label_set", "imbalance", "quarantined", "brightness_outliers"}
    assert suite.labels == ("crack", "fine", "stain")


def test_labels_of_any_sort_survive_the_file() -> None:
    labels = {"crack": "3", "fine": "no: 'yes' # \u00e9", "stain": "null"}
    table = sound_table()
    table["label"] = table["label"].map(labels)

    suite = parse_suite(expectations_text(table), name="f")

    assert suite.labels == ("3", "no: 'yes' # \u00e9", "null")


def test_bounds_for_data_still_to_come_name_no_class() -> None:
    suite = parse_suite(expectations_text(None), name="f")

    assert suite.labels is None
    assert "Half the smallest" not in expectations_text(None)


def test_a_file_that_is_there_is_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "expectations.yaml"
    path.write_text("mine")

    with pytest.raises(InputError, match="--force"):
        write_expectations(path, table=None, force=False)

    assert path.read_text() == "mine"
    assert write_expectations(path, table=sound_table(), force=True) > 20
    assert path.read_text() == expectations_text(sound_table())


def test_a_folder_where_the_file_goes_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder, where a file goes"):
        write_expectations(tmp_path, table=None, force=True)
