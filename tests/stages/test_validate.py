import json
from pathlib import Path

import pandas as pd
import pytest

from fgpipe.errors import DataError
from fgpipe.records import Protocol, Validation
from fgpipe.stages.validate import expected_rows, validate
from tests.support.ports import fake_ports
from tests.support.tables import BOUNDS, FLAWS, sound_table, stored_manifest, with_value


def run(table: pd.DataFrame, folder: Path, *, protocol: Protocol = "stable") -> Validation:
    (folder / "payload").mkdir(exist_ok=True)
    ports = fake_ports(folder)
    manifest = stored_manifest(table, folder, protocol=protocol)
    return validate(manifest=manifest, config=BOUNDS, out=folder, ports=ports)


def test_sound_data_pass_every_expectation_and_these_are_written_in_full(tmp_path: Path) -> None:
    table = sound_table()

    validation = run(table, tmp_path)

    written = json.loads((tmp_path / "payload" / "results.json").read_text())
    names = [result.name for result in validation.expectations]
    assert len(set(names)) == len(names) >= 10
    assert all(result.passed for result in validation.expectations)
    assert [entry["name"] for entry in written] == names
    assert next(e for e in written if e["name"] == "contrast")["arguments"] == {
        "column": "contrast",
        "min_value": 0.01,
    }


def test_every_expectation_has_a_flaw_that_proves_it() -> None:
    names = {"columns"} | {e.name for e in expected_rows(BOUNDS, by_group=True)}

    assert {name for name, _, _ in FLAWS.values()} == names


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_flaw_is_refused_by_its_name_and_an_example_and_nothing_is_written(
    flaw: str, tmp_path: Path
) -> None:
    name, table, example = FLAWS[flaw]

    with pytest.raises(DataError) as refusal:
        run(table(), tmp_path)

    text = str(refusal.value)
    assert "do not meet 1 expectation" in text
    assert f"  {name}: " in text
    assert example in text
    assert "params.yaml" in text
    assert list((tmp_path / "payload").iterdir()) == []


def test_values_at_their_bounds_are_accepted(tmp_path: Path) -> None:
    table = sound_table()
    table.loc[:3, ["width_px", "height_px"]] = [[32, 32], [32, 96], [1000, 1000], [1000, 334]]
    table.loc[:2, "brightness"] = [0.02, 0.98, 0.5]
    table.loc[0, "contrast"] = 0.01
    table.loc[:3, "channels"] = [1, 2, 3, 4]

    validation = run(table, tmp_path)

    assert all(result.passed for result in validation.expectations)


def test_a_random_split_may_part_a_group_since_it_ignores_groups_on_purpose(
    tmp_path: Path,
) -> None:
    table = with_value(0, "split", "test")

    validation = run(table, tmp_path, protocol="random")

    assert "groups_in_one_split" not in {result.name for result in validation.expectations}


def test_data_without_parents_are_sound(tmp_path: Path) -> None:
    table = sound_table().assign(parent=None)

    validation = run(table, tmp_path)

    assert all(result.passed for result in validation.expectations)


def test_a_refusal_names_all_that_is_wrong_and_stays_short_whatever_the_data(
    tmp_path: Path,
) -> None:
    table = sound_table().assign(brightness=0.0, contrast=0.0, channels=9)
    table["path"] = [f"images/{'x' * 5000}{row}.png" for row in range(len(table))]

    with pytest.raises(DataError) as refusal:
        run(table, tmp_path)

    text = str(refusal.value)
    assert "do not meet 3 expectation" in text
    assert all(f"  {name}: " in text for name in ("brightness", "contrast", "channels"))
    assert "48 row(s)" in text
    assert len(text) < 4000


def test_the_same_data_give_the_same_bytes(tmp_path: Path) -> None:
    table = sound_table()

    first = run(table, tmp_path).to_json(), (tmp_path / "payload" / "results.json").read_bytes()
    again = run(table, tmp_path).to_json(), (tmp_path / "payload" / "results.json").read_bytes()

    assert again == first


def test_a_class_absent_from_a_split_is_told_by_the_splits_name(tmp_path: Path) -> None:
    table = sound_table()
    table = table[(table["label"] != "stain") | (table["split"] != "validation")]

    with pytest.raises(DataError, match=r"in_validation: .*\(stain: 0\)"):
        run(table, tmp_path)
