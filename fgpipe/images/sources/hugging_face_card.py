"""The card of a Hugging Face ``datasets`` folder: what ``README.md`` says of its columns.

It opens with YAML, in which ``dataset_info`` lists features (for each configuration, where
there are several); Parquet files written by other tools than ``datasets`` name classes there
alone.
"""

from pathlib import Path
from typing import Any

import yaml

from fgpipe.errors import DataError

CARD_NAME = "README.md"

_LINE = "---"


def card_features(folder: Path) -> dict[str, dict[str, Any]]:
    """The columns a card describes, in the form that the schema's metadata has; or none.

    Args:
        folder: The one that Parquet files are in; the card is there or in one of the two above.

    Raises:
        DataError: If the card's YAML is broken.
    """
    folder = folder.absolute()
    for place in (folder, *folder.parents[:2]):
        if (place / CARD_NAME).is_file():
            return _features(place / CARD_NAME, configuration=folder.name)
    return {}


def _features(path: Path, *, configuration: str) -> dict[str, dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        if _LINE not in lines[1:] or lines[0].strip() != _LINE:
            return {}
        content = yaml.safe_load("\n".join(lines[1 : lines.index(_LINE, 1)]))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{path} does not open with YAML ({error})") from None
    found = content.get("dataset_info") if isinstance(content, dict) else None
    if isinstance(found, list):
        entries = [entry for entry in found if isinstance(entry, dict)]
        named = [entry for entry in entries if entry.get("config_name") == configuration]
        found = (named or entries)[0] if named or len(entries) == 1 else None
    features = found.get("features") if isinstance(found, dict) else None
    known = [each for each in features or [] if isinstance(each, dict)]
    return {str(each.get("name")): _feature(path, each.get("dtype")) for each in known}


def _feature(path: Path, dtype: object) -> dict[str, Any]:
    if dtype == "image":
        return {"_type": "Image"}
    if not isinstance(dtype, dict) or "class_label" not in dtype:
        return {"_type": "Value"}
    described = dtype["class_label"]
    names = described.get("names") if isinstance(described, dict) else None
    if isinstance(names, dict):
        if {str(key) for key in names} != {str(i) for i in range(len(names))}:
            raise DataError(f"{path} numbers its classes {', '.join(map(str, names))}, not from 0")
        names = [names[key] for key in sorted(names, key=int)]
    return {"_type": "ClassLabel", "names": names or []}
