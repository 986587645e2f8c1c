"""Change params.yaml of a project made for a test."""

from pathlib import Path

import yaml


def change_params(root: Path, **sections: dict[str, object]) -> None:
    """Replace values of some sections."""
    path = root / "params.yaml"
    params = yaml.safe_load(path.read_text())
    for section, values in sections.items():
        params[section].update(values)
    path.write_text(yaml.safe_dump(params, sort_keys=False))
