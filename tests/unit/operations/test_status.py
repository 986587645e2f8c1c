from pathlib import Path

from fgpipe.operations.status import describe
from fgpipe.pipeline import stage_named
from fgpipe.records import ExpectationResult, Validation
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
