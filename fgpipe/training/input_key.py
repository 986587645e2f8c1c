"""What a training is known by, however often it is taken up again."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path


def input_key(
    *,
    inputs: Mapping[str, str],
    parameters: Mapping[str, object],
    code: Sequence[str],
) -> str:
    """A hash of all that a training depends on.

    Args:
        inputs: Hash of each record it reads.
        parameters: Its parameters, resolved, as plain data.
        code: What of the package decides the weights: files and folders.
    """
    package = Path(__file__).parents[1]
    files = [path for part in code for path in _python_files(package / part)]
    hashes = {
        path.relative_to(package).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }
    content = json.dumps([dict(inputs), dict(parameters), hashes], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _python_files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(path.rglob("*.py"))
