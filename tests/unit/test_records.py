import hashlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fgpipe.errors import NotReadyError, PipelineError
from fgpipe.records import (
    SCHEMA_VERSION,
    Baseline,
    Evaluation,
    GateDecision,
    LabelCount,
    Manifest,
    Score,
    digest_of_files,
    file_sha256,
    write_atomically,
)
from tests.support.evaluations import comparison, evaluation, score


def manifest(**changes: object) -> Manifest:
    fields = {
        "protocol": "stable",
        "n_images": 6,
        "n_groups": 3,
        "n_quarantined": 0,
        "labels": (
            LabelCount(label="crack", parent="bad", n_images={"train": 3, "test": 1}),
            LabelCount(label="größer", parent=None, n_images={"train": 2}),
        ),
        "attributes": {"camera": ("a", "b")},
        "table_sha256": "f" * 64,
    }
    return Manifest.model_validate(fields | changes)


def test_a_record_read_back_is_equal_and_written_again_the_same_bytes(tmp_path: Path) -> None:
    record = evaluation(comparison=comparison(top1=score(0.1 + 0.2)))
    record.save(tmp_path / "first.json")

    again = Evaluation.load(tmp_path / "first.json")
    again.save(tmp_path / "again.json")

    assert again == record
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "first.json").read_bytes()


@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_a_figure_keeps_every_bit(value: float) -> None:
    figure = Score(value=value, low=-value, high=value)

    again = Score.model_validate_json(json.dumps(figure.model_dump(mode="json")))

    assert again.value.hex() == value.hex()


def test_json_is_canonical_sorted_indented_plain_unicode_and_ends_with_a_newline() -> None:
    record = manifest()

    text = record.to_json()

    content = json.loads(text)
    assert text == json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    assert "größer" in text
    assert content["schema_version"] == SCHEMA_VERSION


def test_a_records_hash_is_that_of_the_file_it_is_saved_as(tmp_path: Path) -> None:
    record = manifest()

    record.save(tmp_path / "record.json")

    assert record.sha256() == file_sha256(tmp_path / "record.json")
    assert record.sha256() != manifest(n_images=7).sha256()


@pytest.mark.parametrize("version", [0, 2, "1.5", None])
def test_a_record_of_another_schema_version_is_not_ready_and_named(
    version: object, tmp_path: Path
) -> None:
    path = tmp_path / "record.json"
    path.write_text(json.dumps(json.loads(manifest().to_json()) | {"schema_version": version}))

    with pytest.raises(NotReadyError) as refusal:
        Manifest.load(path)

    assert str(path) in str(refusal.value)
    assert "dvc repro" in str(refusal.value)


@pytest.mark.parametrize("text", ["", "{", "null", "[]", '{"protocol": "stable"}'])
def test_a_file_that_is_no_such_record_is_not_ready(text: str, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text(text)

    with pytest.raises(NotReadyError, match="is not a Manifest record of schema 1"):
        Manifest.load(path)


def test_a_field_that_the_schema_does_not_know_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text(json.dumps(json.loads(manifest().to_json()) | {"made_at": "yesterday"}))

    with pytest.raises(NotReadyError):
        Manifest.load(path)


def test_a_record_that_is_not_there_names_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match=r"record\.json does not exist; `dvc repro` makes it"):
        GateDecision.load(tmp_path / "record.json")


def test_a_record_cannot_be_changed() -> None:
    record = manifest()

    with pytest.raises(ValidationError, match="frozen"):
        record.n_images = 7  # type: ignore[misc]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_figure_that_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        Score(value=value, low=0, high=1)


def test_a_figure_reads_with_its_interval() -> None:
    figure = Score(value=0.8712, low=0.8409, high=0.9)

    assert str(figure) == "0.871 [0.841, 0.900]"


def test_labels_come_in_the_order_of_their_targets_and_parents_where_there_are_any() -> None:
    record = manifest()

    assert record.label_names == ("crack", "größer")
    assert record.parents == {"crack": "bad"}


def test_a_write_that_fails_leaves_the_former_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "record.json"
    write_atomically(path, b"former")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"half of the n")

    assert path.read_bytes() == b"former"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_makes_the_folders_it_needs_and_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "record.json"

    write_atomically(path, b"one")
    write_atomically(path, b"two")

    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


def test_a_write_replaces_a_link_and_leaves_what_it_points_to_alone(tmp_path: Path) -> None:
    cached = tmp_path / "cached"
    cached.write_bytes(b"cached")
    path = tmp_path / "record.json"
    path.hardlink_to(cached)

    write_atomically(path, b"changed")

    assert cached.read_bytes() == b"cached"
    assert path.read_bytes() == b"changed"


def test_the_baseline_is_null_or_a_model_and_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    champion = Baseline(version=3, bundle_sha256="b" * 64, train_sha256="c" * 64)

    Baseline.save(None, path)
    nothing = Baseline.load(path)
    Baseline.save(champion, path)
    something = Baseline.load(path)

    assert nothing is None
    assert something == champion


def test_an_unchanged_baseline_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    Baseline.save(None, path)
    inode = path.stat().st_ino

    Baseline.save(None, path)

    assert path.stat().st_ino == inode


@pytest.mark.parametrize("text", [None, "", "{}", '{"version": "three"}', "[1]"])
def test_a_baseline_that_is_missing_or_wrong_says_how_to_start(
    text: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "baseline.json"
    if text is not None:
        path.write_text(text)

    with pytest.raises(NotReadyError, match="echo null >"):
        Baseline.load(path)


@given(st.dictionaries(st.text(max_size=5), st.binary(max_size=4).map(bytes.hex), min_size=1))
def test_a_digest_of_files_does_not_depend_on_their_order(files: dict[str, str]) -> None:
    backwards = dict(reversed(files.items()))

    assert digest_of_files(backwards) == digest_of_files(files)


def test_a_digest_of_files_changes_with_a_name_and_with_a_content() -> None:
    one, two = (hashlib.sha256(text).hexdigest() for text in (b"1", b"2"))

    digests = {digest_of_files(files) for files in ({"a": one}, {"b": one}, {"a": two})}

    assert len(digests) == 3


def test_a_digest_of_no_files_is_a_mistake_of_the_program() -> None:
    with pytest.raises(PipelineError, match="at least one"):
        digest_of_files({})
