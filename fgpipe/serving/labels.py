"""The classes a network answers with: names in the order of its logits, and their parents."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from fgpipe.errors import NotReadyError


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Names of the classes, and the coarser class of each if the data name any."""

    names: tuple[str, ...]
    """In the order of the logits."""
    parents: dict[str, str]
    """The parent of every class, or empty."""

    @classmethod
    def load(cls, path: Path) -> "Labels":
        """Read ``labels.json``.

        Raises:
            NotReadyError: If it is not there or not such a file.
        """
        try:
            content = json.loads(path.read_text())
            labels = cls(names=tuple(content["labels"]), parents=dict(content["parents"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise NotReadyError(f"{path} cannot be read as labels ({error!r})") from None
        if labels.parents and set(labels.parents) != set(labels.names):
            raise NotReadyError(f"{path} must name a parent for every label or for none")
        return labels

    @property
    def parent_names(self) -> tuple[str, ...]:
        """The parents, sorted; empty if there are none."""
        return tuple(sorted(set(self.parents.values())))

    @property
    def parent_targets(self) -> Int64[np.ndarray, " classes"] | None:
        """For each class the position of its parent in :attr:`parent_names`."""
        if not self.parents:
            return None
        names = self.parent_names
        return np.array([names.index(self.parents[name]) for name in self.names], dtype=np.int64)
