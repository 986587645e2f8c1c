"""Where ``fgpipe data show`` and ``label-errors`` write."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from fgpipe.commands.looking import label_errors, show
from fgpipe.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder without data, with a file where a folder should be."""
    for name in ("params.yaml", "dvc.yaml", "taken"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FGPIPE_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_a_file_in_the_place_of_the_pages_folder_is_a_usage_error() -> None:
    result = CliRunner().invoke(show, ["--to", "taken"])

    assert result.exit_code == 2
    assert "Directory 'taken' is a file" in result.output


@pytest.mark.usefixtures("folder")
def test_a_folder_that_cannot_be_made_is_told_before_any_work() -> None:
    result = CliRunner().invoke(show, ["--to", "taken/pages"])

    assert isinstance(result.exception, ConfigError)
    assert str(result.exception) == "taken/pages cannot be made (Not a directory)"


def test_a_file_named_reports_is_told(folder: Path) -> None:
    (folder / "reports").touch()

    result = CliRunner().invoke(label_errors, [])

    assert isinstance(result.exception, ConfigError)
    assert "reports/label-errors cannot be made" in str(result.exception)
