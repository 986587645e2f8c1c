import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from fgpipe.adapters.bento_contents import Contents, collect, imported_names, pinned

pytestmark = pytest.mark.integration

SERVICE = Path(__file__).parents[2] / "deploy" / "service.py"

TRAINING_ONLY = {
    "dvc", "great-expectations", "matplotlib", "mlflow", "pandas", "prefect", "timm", "torch",
    "torchvision",
}  # fmt: skip


@pytest.fixture(scope="module")
def contents() -> Contents:
    return collect(SERVICE)


def test_a_bento_holds_what_the_service_reaches_and_no_stage(contents: Contents) -> None:
    assert {
        "service.py",
        "fgpipe/__init__.py",
        "fgpipe/settings.py",
        "fgpipe/errors.py",
        "fgpipe/images/decoding.py",
        "fgpipe/serving/http.py",
        "fgpipe/serving/predictor.py",
    } <= contents.sources.keys()
    assert not [name for name in contents.sources if "stages" in name or "adapters" in name]


def test_a_bento_pins_what_it_imports_and_nothing_that_only_training_needs(
    contents: Contents,
) -> None:
    pins = dict(line.split("==") for line in contents.requirements)

    assert pins["openvino"] == version("openvino")
    assert pins["numpy"] == version("numpy")
    assert pins["starlette"] == version("starlette")
    assert "python-multipart" in pins
    assert not TRAINING_ONLY & pins.keys()


def test_its_code_runs_with_only_the_modules_that_it_holds(
    contents: Contents, tmp_path: Path
) -> None:
    for name, code in contents.sources.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(code)
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "import fgpipe.serving.http, fgpipe.serving.predictor\n"
        f"assert fgpipe.__file__.startswith({str(tmp_path)!r}), fgpipe.__file__\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )

    answer = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert answer.returncode == 0, answer.stderr
    loaded = set(answer.stdout.split()) - {"torch"}
    assert not {name.replace("-", "_") for name in TRAINING_ONLY} & loaded


def test_its_version_changes_with_bundle_code_packages_and_python() -> None:
    contents = Contents(sources={"a.py": b"1"}, requirements=("x==1",), python_version="3.11")
    others = [
        Contents(sources={"a.py": b"2"}, requirements=("x==1",), python_version="3.11"),
        Contents(sources={"b.py": b"1"}, requirements=("x==1",), python_version="3.11"),
        Contents(sources={"a.py": b"1"}, requirements=("x==2",), python_version="3.11"),
        Contents(sources={"a.py": b"1"}, requirements=("x==1",), python_version="3.12"),
    ]

    versions = [contents.version("b"), contents.version("c"), *(o.version("b") for o in others)]

    assert len(set(versions)) == len(versions)
    assert contents.version("b") == versions[0]


def test_imports_are_found_wherever_they_run_but_not_those_for_type_checkers() -> None:
    code = b"""
import a.b
from c import d
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import torch
def late():
    from e.f import g
"""

    assert imported_names(code) == {"a.b", "c.d", "typing.TYPE_CHECKING", "e.f.g"}


def test_pins_reach_all_that_is_needed_but_no_extras() -> None:
    pins = {line.partition("==")[0] for line in pinned(["fastapi"])}

    assert {"fastapi", "starlette", "pydantic", "pydantic-core", "anyio", "idna"} <= pins
    assert "email-validator" not in pins
