from pathlib import Path

from fgpipe.operations.status import describe
from fgpipe.pipeline import stage_named
from fgpipe.records import (
    ExpectationResult,
    Pretrained,
    Pretraining,
    Probed,
    Resolved,
    Validation,
)
from tests.support.tiny_project import manifest


def test_what_is_not_as_expected_is_named(tmp_path: Path) -> None:
    result = ExpectationResult(
        name="files_small",
        description="files are small",
        table="images",
        verdict="warn",
        n_unexpected=1200,
        examples=("a.png: 1",),
        offenders=("a.png",),
    )
    met = result.model_copy(update={"name": "width", "verdict": "pass"})
    validation = Validation(
        manifest_sha256="m",
        verdict="warn",
        expectations=(met, result),
        drift_note="none",
        drift=(),
    )
    manifest().save(tmp_path / stage_named("manifest").folder / "record.json")
    validation.save(tmp_path / stage_named("validate").folder / "record.json")

    text = describe(tmp_path)

    assert "1 expectations met, 1 warnings: data/02_validate/payload/report.html" in text
    assert "files_small: files are small; not so: 1,200" in text
    assert "width" not in text


def test_what_came_of_a_pretraining_is_told_with_its_reason(tmp_path: Path) -> None:
    probed = Probed(neighbour_accuracy=0.5, linear_accuracy=0.7)
    pretraining = Pretraining(
        manifest_sha256="m",
        preprocessed_sha256="p",
        backbone="tiny",
        initial_weights="scratch",
        n_train_images=3,
        n_unlabelled_images=0,
        n_left_out=0,
        resolved=Resolved(device="cpu", precision="fp32", threads=1, libraries={}),
        curves=(),
        collapsed=False,
        kept_epoch=1,
        before=probed,
        after=probed,
        handed_on=False,
        reason="worse than before; refused",
        weights_sha256=None,
    )
    manifest().save(tmp_path / stage_named("manifest").folder / "record.json")
    path = tmp_path / stage_named("pretrain").folder / "record.json"

    Pretrained(method="byol", pretraining=pretraining).save(path)

    assert "  pretrain  byol: worse than before; refused" in describe(tmp_path).splitlines()


def test_without_a_pretraining_none_is_told_of(tmp_path: Path) -> None:
    manifest().save(tmp_path / stage_named("manifest").folder / "record.json")
    path = tmp_path / stage_named("pretrain").folder / "record.json"

    Pretrained(method="none", pretraining=None).save(path)

    assert not any(line.startswith("  pretrain") for line in describe(tmp_path).splitlines())
