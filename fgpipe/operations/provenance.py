"""Names for the data, the training output and the code of a checkout.

Read from the files that DVC and git keep, so that what is registered or tracked can be
traced to bytes: a checkout with these three names makes the same model again.
"""

import subprocess
from pathlib import Path

import yaml

from fgpipe.errors import DataError
from fgpipe.pipeline import RAW, stage_named


def provenance(root: Path) -> dict[str, str]:
    """What is known of ``data_hash``, ``train_hash`` and ``git_commit``.

    A name that the checkout cannot tell (no commit yet, data never added) is left out.
    """
    known = {
        "data_hash": data_hash(root),
        "train_hash": train_hash(root),
        "git_commit": git_commit(root),
    }
    return {name: value for name, value in known.items() if value is not None}


def data_hash(root: Path) -> str | None:
    """DVC's hash of ``data/raw``, or None where DVC does not keep it yet."""
    path = root / f"{RAW}.dvc"
    return _hash_of_out(_mapping(path), RAW.name)


def train_hash(root: Path) -> str | None:
    """DVC's hash of what the train stage made, or None where DVC has not run it."""
    stages = _mapping(root / "dvc.lock").get("stages")
    train = stages.get("train") if isinstance(stages, dict) else None
    payload = stage_named("train").folder / "payload"
    return _hash_of_out(train or {}, payload.as_posix())


def git_commit(root: Path) -> str | None:
    """The commit checked out, or None outside git and before the first commit."""
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "--verify", "--quiet", "HEAD"],
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return None
    return answer.stdout.strip() or None


def _mapping(path: Path) -> dict[str, object]:
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        return {}
    except yaml.YAMLError as error:
        message = f"{path} is not valid YAML; `git checkout {path.name}` brings it back ({error})"
        raise DataError(message) from None
    return content if isinstance(content, dict) else {}


def _hash_of_out(entry: dict[str, object], path: str) -> str | None:
    outs = entry.get("outs")
    for out in outs if isinstance(outs, list) else []:
        if out.get("path") == path and "md5" in out:
            return str(out["md5"])
    return None
