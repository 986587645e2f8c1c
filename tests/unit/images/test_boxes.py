import pandas as pd
import pytest

from fgpipe.errors import DataError
from fgpipe.images.boxes import boxes_of
from fgpipe.images.labels_file import Box


def test_a_table_without_boxes_gives_none() -> None:
    assert boxes_of(pd.DataFrame({"path": ["a", "b"]})) == [None, None]


@pytest.mark.parametrize("missing", [None, "", float("nan"), pd.NA])
def test_each_row_has_its_own_box_or_none(missing: object) -> None:
    table = pd.DataFrame({"path": ["a", "b"], "box": ["1 2 30 40", missing]})

    assert boxes_of(table) == [Box(left=1, top=2, width=30, height=40), None]


def test_a_box_that_is_none_is_quoted() -> None:
    with pytest.raises(DataError, match="'1 2 3'"):
        boxes_of(pd.DataFrame({"box": ["1 2 3"]}))
