import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fgpipe.errors import ConfigError, DataError
from fgpipe.images.expectations_file import Suite, parse_suite
from fgpipe.images.quarantine_file import QuarantinedImage, quarantine_text
from fgpipe.images.structure import expected_columns, expected_structure
from fgpipe.ports import Ports
from fgpipe.records import Baseline, Protocol, Validation
from fgpipe.stages.validate import validate
from tests.support.champion import champion
from tests.support.ports import fake_ports
from tests.support.tables import (
    CONFIG,
    FLAWS,
    IMPLIED,
    MANIFEST_ONLY,
    SUITE,
    SUITE_TEXT,
    sound_table,
    stored_manifest,
    with_value,
)


def run(
    table: pd.DataFrame,
    folder: Path,
    *,
    suite: Suite = SUITE,
    protocol: Protocol = "stable",
    refuse_on: str = "refuse",
    baseline: Baseline | None = None,
    ports: Ports | None = None,
) -> Validation:
    out = folder / "data" / "02_validate"
    (out / "payload").mkdir(exist_ok=True, parents=True)
    return validate(
        raw=folder / "raw",
        expectations=suite,
        baseline=baseline,
        manifest=stored_manifest(table, folder, protocol=protocol),
        config=CONFIG.model_copy(update={"refuse_on": refuse_on}),
        out=out,
        ports=ports or fake_ports(folder),
    )


def payload(folder: Path) -> Path:
    return folder / "data" / "02_validate" / "payload"


def test_sound_data_pass_every_expectation_and_these_are_written_in_full(tmp_path: Path) -> None:
    validation = run(sound_table(), tmp_path)

    written = json.loads((payload(tmp_path) / "results.json").read_text())
    names = [result.name for result in validation.expectations]
    assert len(set(names)) == len(names) >= 25
    assert all(result.passed for result in validation.expectations)
    assert (validation.verdict, validation.warnings, validation.drift) == ("pass", (), ())
    assert "no champion" in validation.drift_note
    assert [entry["name"] for entry in written] == names
    assert next(e for e in written if e["name"] == "contrast")["arguments"] == {
        "column": "contrast",
        "min_value": 0.01,
    }


def test_every_expectation_has_a_flaw_that_proves_it() -> None:
    names = {expected_columns().name}
    names |= {e.name for e in (*expected_structure(by_group=True), *SUITE.expectations)}

    assert {name for name, _, _ in FLAWS.values()} == names - MANIFEST_ONLY


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_flaw_is_refused_by_its_name_and_an_example_and_only_the_report_is_left(
    flaw: str, tmp_path: Path
) -> None:
    name, table, example = FLAWS[flaw]

    with pytest.raises(DataError) as refusal:
        run(table(), tmp_path, refuse_on="warn")

    text = str(refusal.value)
    assert f"do not meet {1 + len(IMPLIED.get(name, ()))} expectation" in text
    assert f"  {name}: " in text
    assert example in text
    assert "data/expectations.yaml" in text
    assert "look at data/02_validate/payload/report.html" in text
    assert [path.name for path in payload(tmp_path).iterdir()] == ["report.html"]
    assert name in (payload(tmp_path) / "report.html").read_text()


def test_what_only_warns_is_recorded_and_said_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = with_value(5, "n_bytes", 10_000)

    validation = run(table, tmp_path)

    (warning,) = validation.warnings
    assert (validation.verdict, warning.name, warning.verdict) == ("warn", "files_small", "warn")
    said = capsys.readouterr().err
    assert said == (
        "warning: files_small: files are small (max_value 9000); "
        "not so for 1 image(s) (images/crack05.png: 10000)\n"
    )


def test_a_column_as_a_whole_is_no_number_of_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = (
        "  - {name: kinds, meaning: of one kind, severity: warn, column: label,\n"
        "      expect: expect_column_unique_value_count_to_be_between, arguments: {min_value: 4}}\n"
    )
    suite = parse_suite(SUITE_TEXT + entry, name="f")

    run(sound_table(), tmp_path, suite=suite)

    said = capsys.readouterr().err
    assert said == "warning: kinds: of one kind (min_value 4); not so (found 3)\n"
    assert "Not so: <code>found 3</code>" in (payload(tmp_path) / "report.html").read_text()


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


def test_a_file_that_asks_for_nothing_keeps_what_always_holds(tmp_path: Path) -> None:
    nothing = parse_suite("schema_version: 1\nexpectations: []\n", name="expectations.yaml")
    leaking = with_value(0, "split", "test")

    with pytest.raises(DataError, match="groups_in_one_split"):
        run(leaking, tmp_path, suite=nothing)


def test_data_without_parents_are_sound(tmp_path: Path) -> None:
    validation = run(sound_table().assign(parent=None), tmp_path)

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
    assert "48 image(s)" in text
    assert len(text) < 4000


def test_an_attribute_that_the_data_do_not_have_is_named(tmp_path: Path) -> None:
    entry = (
        "  - {name: night, meaning: day, severity: warn, column: attribute_light,"
        " expect: expect_column_values_to_not_be_null}\n"
    )
    suite = parse_suite(SUITE_TEXT + entry, name="expectations.yaml")

    with pytest.raises(ConfigError, match=r"night is about column attribute_light.*_camera"):
        run(sound_table(), tmp_path, suite=suite)


def test_the_same_data_give_the_same_bytes(tmp_path: Path) -> None:
    table = with_value(5, "n_bytes", 10_000)
    kinds = ("results.json", "report.html")

    first = run(table, tmp_path).to_json(), [(payload(tmp_path) / n).read_bytes() for n in kinds]
    again = run(table, tmp_path).to_json(), [(payload(tmp_path) / n).read_bytes() for n in kinds]

    assert again == first


def test_the_report_shows_offenders_and_what_is_quarantined_and_needs_no_other_file(
    tmp_path: Path,
) -> None:
    raw = tmp_path / "raw"
    (raw / "images").mkdir(parents=True)
    (raw / "quarantine").mkdir()
    Image.new("RGB", (300, 200), "red").save(raw / "images" / "crack05.png")
    Image.new("RGB", (300, 200), "blue").save(raw / "quarantine" / "b.png")
    row = QuarantinedImage(
        sha256="b" * 64,
        path="quarantine/b.png",
        source="images/<b>.png",
        label="fine",
        kind="bridge",
        reason="near two groups",
        batch=1,
    )
    (raw / "quarantine.csv").write_text(quarantine_text([row]))
    table = with_value(5, "n_bytes", 10_000)
    table.loc[6, "n_bytes"] = 10_000

    run(table, tmp_path)

    page = (payload(tmp_path) / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 2
    assert page.count("no picture") == 1
    assert "images/&lt;b&gt;.png: near two groups" in page
    assert "http" not in page
    assert "<script" not in page
    assert "train 4 validation 4 calibration 4 test 4" in page


def with_added(table: pd.DataFrame, *, brightness: float, n: int) -> pd.DataFrame:
    """A table and a later batch of one class's images."""
    more = table.iloc[:n].copy().assign(batch=2, brightness=brightness)
    more["path"] = [f"images/more{row}.png" for row in range(n)]
    more["sha256"] = [f"{row:064x}" for row in range(n)]
    return pd.concat([table, more], ignore_index=True)


def spread_table() -> pd.DataFrame:
    table = sound_table()
    light = np.random.default_rng(0).normal(0.4, 0.05, size=len(table))
    return table.assign(brightness=light)


def test_what_was_added_since_the_champion_is_compared_with_its_data(tmp_path: Path) -> None:
    ports = fake_ports(tmp_path)
    baseline = champion(spread_table(), tmp_path, ports)
    table = with_added(spread_table(), brightness=0.55, n=16)

    validation = run(table, tmp_path, baseline=baseline, ports=ports)

    drifted = {warning.name for warning in validation.warnings}
    figures = {figure.feature: figure for figure in validation.drift}
    assert {"labels_drift", "brightness_drift"} <= drifted
    assert "16 images were added since the 48 of champion version 1" in validation.drift_note
    assert (figures["labels"].n_then, figures["labels"].n_since) == (48, 16)
    assert figures["width_px"].value <= figures["width_px"].by_chance
    assert "embeddings" not in figures
    page = (payload(tmp_path) / "report.html").read_text()
    assert "<td>labels</td>" in page


def test_with_nothing_added_today_is_compared_and_there_is_no_drift(tmp_path: Path) -> None:
    ports = fake_ports(tmp_path)
    baseline = champion(spread_table(), tmp_path, ports)

    validation = run(spread_table(), tmp_path, baseline=baseline, ports=ports)

    assert validation.verdict == "pass"
    assert "all of today's" in validation.drift_note
    assert {figure.value for figure in validation.drift} == {0.0}
    assert {"labels_drift", "brightness_drift"} <= {r.name for r in validation.expectations}


def test_a_champion_older_than_profiles_is_said_so(tmp_path: Path) -> None:
    ports = fake_ports(tmp_path)
    baseline = champion(sound_table(), tmp_path, ports, profiled=False)

    validation = run(sound_table(), tmp_path, baseline=baseline, ports=ports)

    assert validation.drift == ()
    assert "champion version 1 has no profile" in validation.drift_note
