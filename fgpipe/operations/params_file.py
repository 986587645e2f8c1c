"""Writing values into ``params.yaml`` where they stand.

What else is in the file stays as it is, byte for byte: comments, order, spacing, the way
other numbers are written. The file is read as YAML only to find where each value begins
and ends; a library that writes YAML back would lay it out anew.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from fgpipe.config import parse_params, read_params
from fgpipe.errors import ConfigError
from fgpipe.ports import Scalar
from fgpipe.records import write_atomically


def write_values(path: Path, values: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Replace values in ``params.yaml`` by one atomic rename, or leave it as it is.

    Args:
        path: Of ``params.yaml``.
        values: By the keys' path, e.g. ``{"train.learning_rate": 0.003}``.

    Returns:
        What stood there before, by the same keys.

    Raises:
        ConfigError: If the file cannot be used, has no such key, a value is impossible, or
            one cannot be replaced without changing others (YAML's anchors).

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "params.yaml")
        ...     _ = path.write_bytes(Path("params.yaml").read_bytes())
        ...     write_values(path, {"train.dropout": 0.5})
        {'train.dropout': 0.2}
    """
    text = read_params(path)
    parse_params(text, path=path)
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert root is not None
    spans = {
        key: _span(root, text, key=key, value=value, path=path) for key, value in values.items()
    }
    changed = text
    for key, (start, end) in sorted(spans.items(), key=lambda item: item[1], reverse=True):
        changed = changed[:start] + _written(values[key]) + changed[end:]
    content = yaml.safe_load(text)
    former = {key: _exchange(content, key, value) for key, value in values.items()}
    if _loaded(changed) != content:
        raise ConfigError(
            f"{path}: {', '.join(values)} cannot be replaced alone, probably because of an anchor "
            "(&name, *name); write out what stands for it"
        )
    parse_params(changed, path=path)
    write_atomically(path, changed.encode())
    return former


def _span(root: yaml.Node, text: str, *, key: str, value: Scalar, path: Path) -> tuple[int, int]:
    """Where in the text the value of ``key`` stands: its first character, and one past it."""
    node = root
    for depth, name in enumerate(names := key.split(".")):
        children = (
            {child.value: found for child, found in node.value}
            if isinstance(node, yaml.MappingNode)
            else {}
        )
        if name not in children:
            parent = ".".join(names[:depth])
            near = get_close_matches(name, children, n=1)
            known = ".".join(filter(None, [parent, near[0]])) if near else ""
            raise ConfigError(
                f"{path} has no {key}, which was to be {value!r}; "
                + (f"{known} is there" if known else "look up in it how the key is spelt")
            )
        node = children[name]
    if not isinstance(node, yaml.ScalarNode):
        raise ConfigError(f"{path}: {key} is no single value; name one of those in it")
    start, end = node.start_mark.index, node.end_mark.index
    return start, start + len(text[start:end].rstrip())  # a folded text ends on the next line


def _written(value: Scalar) -> str:
    """The value in YAML, such that it may stand in a line as well as between braces."""
    within = yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=2**31)
    return within.strip().removeprefix("[").removesuffix("]")


def _exchange(content: dict[str, Any], key: str, value: Scalar) -> Scalar:
    """Put a value in its place; what stood there."""
    *parents, last = key.split(".")
    for name in parents:
        content = content[name]
    former: Scalar = content[last]
    content[last] = value
    return former


def _loaded(text: str) -> object:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:  # an anchor that is gone
        return None
