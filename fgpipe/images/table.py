"""The manifest's table: one row an image, in the same bytes for the same rows.

=================  =====================================================================
column             what it says
=================  =====================================================================
id                 first 16 digits of ``sha256``
path               relative to ``data/raw``; rows are sorted by it
label, target      the class: its name, and its position among the sorted names
parent             the coarser class, null if the data name none
group, batch       what no two splits share, and when the image was added, from 1
split              the split it is in
box                where in it the object is (``left top width height``), null if unknown
sha256, phash      hash of the bytes, and the perceptual hash (16 digits)
width_px ...       ``height_px``, ``channels``, ``n_bytes``: as stored, but upright
brightness         mean grey value, 0 to 1; ``contrast`` is the standard deviation
sharpness          variance of the Laplacian, see :class:`fgpipe.images.files.ImageMeasures`
attribute_NAME     each further column of ``labels.csv``
=================  =====================================================================
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fgpipe.errors import NotReadyError

TABLE_NAME = "manifest.parquet"
ATTRIBUTE_PREFIX = "attribute_"

ROWS_A_PART = 2**16
"""Rows read at a time, by parts."""

_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("path", pa.string()),
        ("label", pa.string()),
        ("target", pa.int64()),
        ("parent", pa.string()),
        ("group", pa.string()),
        ("batch", pa.int64()),
        ("split", pa.string()),
        ("box", pa.string()),
        ("sha256", pa.string()),
        ("phash", pa.string()),
        ("width_px", pa.int64()),
        ("height_px", pa.int64()),
        ("channels", pa.int64()),
        ("n_bytes", pa.int64()),
        ("brightness", pa.float64()),
        ("contrast", pa.float64()),
        ("sharpness", pa.float64()),
    ]
)


_REPEATED = ["label", "parent", "split"]
"""Columns with few values; of others a dictionary takes time and no less space."""


def write_table(
    columns: Mapping[str, Sequence[object]], *, attributes: Sequence[str], payload: Path
) -> Path:
    """Write ``manifest.parquet``.

    Args:
        columns: Every column, its values in the order of the images; attributes under
            their prefixed name.
        attributes: Names of the attributes, without the prefix.
        payload: The folder it goes to.

    Returns:
        The file.
    """
    schema = _SCHEMA
    for attribute in attributes:
        schema = schema.append(pa.field(ATTRIBUTE_PREFIX + attribute, pa.string()))
    table = pa.table([columns[name] for name in schema.names], schema=schema)
    if columns["path"] != sorted(map(str, columns["path"])):
        table = table.sort_by("path")
    path = payload / TABLE_NAME
    pq.write_table(table, path, compression="zstd", use_dictionary=_REPEATED)
    return path


def read_table(payload: Path, *, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read the manifest's table.

    Args:
        payload: The payload folder of the manifest stage.
        columns: Which to read; None for all. One of hashes takes 72 bytes a row.

    Raises:
        NotReadyError: If it is not there or not whole.
    """
    with _opened(payload) as file:
        table: pd.DataFrame = file.read(columns).to_pandas()
    return table


def read_table_by_parts(payload: Path, *, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    """The same, :data:`ROWS_A_PART` rows at a time, for where memory is not to grow with them.

    Raises:
        NotReadyError: As :func:`read_table` does.
    """
    with _opened(payload) as file:
        for batch in file.iter_batches(ROWS_A_PART, columns=columns):
            yield batch.to_pandas()


@contextlib.contextmanager
def _opened(payload: Path) -> Iterator[pq.ParquetFile]:
    path = payload / TABLE_NAME
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (OSError, pa.ArrowException):
        raise NotReadyError(f"{path} cannot be read; `dvc repro manifest` makes it") from None
