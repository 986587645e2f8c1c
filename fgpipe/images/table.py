"""The manifest's table: one row an image, in the same bytes for the same rows.

=================  =====================================================================
column             what it says
=================  =====================================================================
id                 first 16 digits of ``sha256``
path               relative to ``data/raw``; rows are sorted by it
label, target      the class: its name, and its position among the sorted names
parent             the coarser class, null if the data name none
group, split       what no two splits share, and the split it is in
sha256, phash      hash of the bytes, and the perceptual hash (16 digits)
width_px ...       ``height_px``, ``channels``, ``n_bytes``: as stored, but upright
brightness         mean grey value, 0 to 1; ``contrast`` is the standard deviation
attribute_NAME     each further column of ``labels.csv``
=================  =====================================================================
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fgpipe.errors import NotReadyError

TABLE_NAME = "manifest.parquet"
ATTRIBUTE_PREFIX = "attribute_"

_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("path", pa.string()),
        ("label", pa.string()),
        ("target", pa.int64()),
        ("parent", pa.string()),
        ("group", pa.string()),
        ("split", pa.string()),
        ("sha256", pa.string()),
        ("phash", pa.string()),
        ("width_px", pa.int64()),
        ("height_px", pa.int64()),
        ("channels", pa.int64()),
        ("n_bytes", pa.int64()),
        ("brightness", pa.float64()),
        ("contrast", pa.float64()),
    ]
)


def write_table(
    rows: Sequence[Mapping[str, object]], *, attributes: Sequence[str], payload: Path
) -> Path:
    """Write ``manifest.parquet``.

    Args:
        rows: One mapping an image, with every column; attributes under their prefixed name.
        attributes: Names of the attributes, without the prefix.
        payload: The folder it goes to.

    Returns:
        The file.
    """
    schema = _SCHEMA
    for attribute in attributes:
        schema = schema.append(pa.field(ATTRIBUTE_PREFIX + attribute, pa.string()))
    table = pa.Table.from_pylist(sorted(rows, key=lambda row: str(row["path"])), schema=schema)
    path = payload / TABLE_NAME
    pq.write_table(table, path, compression="zstd")
    return path


def read_table(payload: Path) -> pd.DataFrame:
    """Read the manifest's table.

    Args:
        payload: The payload folder of the manifest stage.

    Raises:
        NotReadyError: If it is not there or not whole.
    """
    path = payload / TABLE_NAME
    try:
        table: pd.DataFrame = pq.read_table(path).to_pandas()
    except (OSError, pa.ArrowException):
        raise NotReadyError(f"{path} cannot be read; `dvc repro manifest` makes it") from None
    return table
