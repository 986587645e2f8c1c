"""A folder of Hugging Face ``datasets`` in Parquet form.

``train-00000-of-00001.parquet`` and the like, in the folder, in its ``data``, or beside a card
in the folder of its only configuration; or ``train/0000.parquet`` in these places or in
``default``, as the Hub converts sets. An image is a struct of ``bytes`` and ``path``, and the
classes' names are in the schema's metadata or in the card. Files are read some rows at a time.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fgpipe.errors import DataError
from fgpipe.images.sources.folder import folder_names
from fgpipe.images.sources.gathering import SPLIT_NAMES, gather
from fgpipe.images.sources.hugging_face_card import CARD_NAME, card_features
from fgpipe.images.sources.source import Source, SourceImage

SHARD = re.compile(r"(?P<split>[\w.]+?)-\d{5}-of-\d{5}(?:-[0-9a-f]+)?\.parquet")
"""How a file is called."""

CONVERTED = re.compile(r"\d{4}\.parquet")
"""How a file is called that the Hub made, in a folder called like its split."""

FORMATS = (
    (b"\xff\xd8\xff", ".jpg"),
    (b"\x89PNG", ".png"),
    (b"GIF8", ".gif"),
    (b"RIFF", ".webp"),
    (b"BM", ".bmp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
)
"""How the bytes of a format begin, and a name ends that has no extension of its own."""

_ROWS_AT_ONCE = 64
"""Images of some megabytes each may be held at a time."""

_BUFFER_BYTES = 1 << 20
"""What is read ahead of a column; by default pyarrow buffers, and keeps, the whole file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    image: str
    label: str
    parent: str | None
    names: dict[str, list[str]]
    """Names of a column's classes, where it holds numbers."""


def shards_of(folder: Path) -> list[Path]:
    """The Parquet files of a folder that are called like shards, wherever in it they are.

    Raises:
        DataError: If it has several configurations.
    """
    for place in (folder, folder / "data"):
        found = _shards_in(place)
        if found:
            return found
    has_card = (folder / CARD_NAME).is_file()
    names = folder_names(folder) if has_card else ["default"]
    configurations = {name: _shards_in(folder / name) for name in names}
    full = [name for name, shards in configurations.items() if shards]
    if len(full) > 1:
        raise DataError(f"{folder} has several configurations, {', '.join(full)}; name one of them")
    return configurations[full[0]] if full else []


def _shards_in(place: Path) -> list[Path]:
    shards = [path for path in sorted(place.glob("*.parquet")) if SHARD.fullmatch(path.name)]
    if shards or not place.is_dir():
        return shards
    splits = [name for name in folder_names(place) if (place / name / "0000.parquet").is_file()]
    files = [path for name in splits for path in sorted((place / name).glob("*.parquet"))]
    return [path for path in files if CONVERTED.fullmatch(path.name)]


def hugging_face(folder: Path, work: Path) -> Source:
    """The images of a folder of Parquet files, written out.

    Args:
        folder: The folder that has the files, or the card.
        work: Where images are written.

    Raises:
        DataError: If there is none, a file is broken, has no image or label column, or a
            row has no image, no bytes or no label.
    """
    shards = shards_of(folder)
    if not shards:
        raise DataError(f"{folder} holds no train-00000-of-00001.parquet or the like")
    images = [image for path in shards for image in _of_shard(path, work)]
    return gather(str(folder), images, seen=True)


def _of_shard(path: Path, work: Path) -> Iterator[SourceImage]:
    from pyarrow import ArrowException, parquet

    named = SHARD.fullmatch(path.name)
    part = named["split"] if named else path.parent.name.removeprefix("partial-")
    split = SPLIT_NAMES.get(part.lower())
    name = path.stem if named else f"{path.parent.name}-{path.stem}"
    folder = work / "images" / name
    folder.mkdir(parents=True)
    number = 0
    try:
        with parquet.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES) as file:
            columns = _columns(path, file.schema_arrow)
            wanted = [columns.image, columns.label, *filter(None, [columns.parent])]
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=wanted):
                for row in batch.to_pylist():
                    number += 1
                    label = _label(path, number, row, columns.label, columns)
                    parent = columns.parent and _label(path, number, row, columns.parent, columns)
                    target = _write(path, number, row[columns.image], folder)
                    yield SourceImage(
                        file=target,
                        path=f"images/{name}/{target.name}",
                        label=label,
                        parent=parent,
                        split=split,
                    )
    except (ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error})") from None


def _columns(path: Path, schema: Any) -> _Columns:  # noqa: ANN401 - pyarrow has no types
    features = _features(path, schema)
    image = _only(path, schema, features, kind="Image", usual=("image", "img"))
    label = _only(
        path, schema, features, kind="ClassLabel", usual=("label", "labels", "fine_label")
    )
    parent = next((name for name in ("parent", "coarse_label") if name in schema.names), None)
    names = {
        name: [str(each) for each in feature.get("names") or []]
        for name, feature in features.items()
        if feature.get("_type") == "ClassLabel"
    }
    return _Columns(image=image, label=label, parent=parent, names=names)


def _features(path: Path, schema: Any) -> dict[str, dict[str, Any]]:  # noqa: ANN401 - as above
    text = (schema.metadata or {}).get(b"huggingface")
    if text is None:
        return card_features(path.parent)
    try:
        features = json.loads(text)["info"]["features"]
        return {name: each for name, each in features.items() if isinstance(each, dict)}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: its metadata `huggingface` are broken ({error})") from None


def _only(
    path: Path,
    schema: Any,  # noqa: ANN401 - as above
    features: dict[str, dict[str, Any]],
    *,
    kind: str,
    usual: tuple[str, ...],
) -> str:
    """The column of a kind: the one with a usual name, or the only one."""
    found = [name for name in usual if name in schema.names]
    typed = [name for name, each in features.items() if each.get("_type") == kind]
    typed = [name for name in typed if name in schema.names]
    if found:
        return found[0]
    if len(typed) != 1:
        raise DataError(
            f"{path} has {len(typed)} columns of kind {kind} and none called {usual[0]!r}; "
            f"it has {', '.join(schema.names)}"
        )
    return typed[0]


def _label(path: Path, number: int, row: dict[str, Any], column: str, columns: _Columns) -> str:
    value, names = row[column], columns.names.get(column)
    if value is None or value == -1:
        raise DataError(
            f"{path} row {number} has no {column}; where none has, move the file out of its folder"
        )
    if names and isinstance(value, int):
        if not 0 <= value < len(names):
            raise DataError(f"{path} row {number}: {column} {value} is none of the {len(names)}")
        return names[value]
    return str(value)


def _write(path: Path, number: int, image: object, folder: Path) -> Path:
    data = image.get("bytes") if isinstance(image, dict) else image
    if not isinstance(data, bytes) or not data:
        raise DataError(
            f"{path} row {number} has no image bytes; files that are only named are not followed"
        )
    extension = next((end for start, end in FORMATS if data.startswith(start)), ".jpg")
    target = folder / f"{number:07d}{extension}"
    target.write_bytes(data)
    return target
