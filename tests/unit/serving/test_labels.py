import json
from pathlib import Path

import numpy as np
import pytest

from fgpipe.errors import NotReadyError
from fgpipe.serving.labels import Labels


def test_parents_are_sorted_and_each_label_points_at_its_own() -> None:
    labels = Labels(names=("a", "b", "c"), parents={"a": "y", "b": "x", "c": "y"})

    assert labels.parent_names == ("x", "y")
    assert labels.parent_targets is not None
    assert [labels.parent_names[index] for index in labels.parent_targets] == ["y", "x", "y"]
    assert labels.parent_targets.dtype == np.int64


def test_labels_without_parents_have_no_parent_targets() -> None:
    assert Labels(names=("a", "b"), parents={}).parent_targets is None


@pytest.mark.parametrize(
    "text",
    [
        None,
        "not json",
        "[]",
        json.dumps({"labels": ["a"]}),
        json.dumps({"labels": ["a", "b"], "parents": {"a": "x"}}),
    ],
)
def test_a_file_that_is_no_labels_is_refused_by_name(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "labels.json"
    if text is not None:
        path.write_text(text)

    with pytest.raises(NotReadyError, match=r"labels\.json"):
        Labels.load(path)
