"""Measures of contents seen before, so that adding images decodes only what is new.

Entries are keyed by the sha256 of the bytes, and kept in a folder named after the version
of everything that can change a measure. They lie in Parquet files that are written whole,
renamed into place and never changed: a process that is killed loses what it had not yet
saved, two at a time save files of different names, and a file that is damaged is removed
and measured anew. A file that has not changed since it was hashed is not read again
(:mod:`fgpipe.images.hashed_files`).
"""

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import takewhile
from pathlib import Path
from typing import get_type_hints

import cv2
import PIL
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg
from tqdm import tqdm

from fgpipe.errors import DataError
from fgpipe.images.collector import without_collector
from fgpipe.images.files import MEASURES_VERSION, ImageMeasures
from fgpipe.images.hashed_files import HashedFiles
from fgpipe.images.measuring import measured
from fgpipe.records import write_atomically

MAX_FILES = 16
"""More of them are merged into one when they are next read."""

SAVED_AT_ONCE = 10_000
"""Entries after which a file is written: what a kill loses is half a minute's work."""

_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64()}
_SCHEMA = pa.schema(
    [(name, _TYPES[type_]) for name, type_ in get_type_hints(ImageMeasures).items()]
)


class MeasureCache:
    """Measures files, decoding no content a second time.

    Args:
        folder: Where entries are kept; None keeps none.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = None if folder is None else folder / version()
        self._hashed = None if folder is None else folder / "hashed"

    def measure_all(
        self, root: Path, names: Sequence[str], *, description: str
    ) -> list[ImageMeasures | DataError]:
        """Measure files over all cores, with a progress bar, in the order of ``names``.

        A file that cannot be used is never remembered: it is looked at again each time.

        Args:
            root: Where the files are.
            names: Their paths below it.
            description: What the progress bar says.

        Returns:
            What each file measures, or why it cannot be used.

        Cost: Of a content seen before that of reading and hashing, a tenth of the time of a
        decode; of a file that has not changed since, that of asking for its times.
        """
        with self.measuring(root, names, description=description) as results:
            return results()

    @contextlib.contextmanager
    def measuring(
        self, root: Path, names: Sequence[str], *, description: str
    ) -> Iterator[Callable[[], list[ImageMeasures | DataError]]]:
        """As :meth:`measure_all`, but in the background of what is done meanwhile.

        What is given back waits for the results. Without it, leaving stops the measuring.
        """
        stop = threading.Event()
        files = HashedFiles(self._hashed, root)
        # Before anything else begins: beside a busy thread, asking for the times of 100,000
        # files one by one waits for the interpreter's lock that often.
        hashes = files.unchanged(names)
        with ThreadPoolExecutor(1) as thread:
            finding = thread.submit(
                self._found, root, names, hashes=hashes, description=description, stop=stop
            )
            # After it, and while who asked goes on.
            thread.submit(lambda: files.remember(finding.result()[1]))
            try:
                yield lambda: finding.result()[0]
            finally:
                stop.set()

    def _found(
        self,
        root: Path,
        names: Sequence[str],
        *,
        hashes: Mapping[str, str],
        description: str,
        stop: threading.Event,
    ) -> tuple[list[ImageMeasures | DataError], dict[str, str]]:
        """What each file measures, and the sha256 of those that were read for it."""
        with ThreadPoolExecutor(1) as loader:
            loading = loader.submit(self._load)  # what is left to hash is hashed meanwhile
            measures = loading.result() if hashes else {}
            known: dict[str, ImageMeasures | DataError] = {
                name: measures[sha256] for name, sha256 in hashes.items() if sha256 in measures
            }
            others = [name for name in names if name not in known]
            results = measured(root, others, known=loading.result if self._files() else None)
            bar = tqdm(
                results,
                total=len(names),
                initial=len(known),
                desc=description,
                unit="image",
                disable=None,
            )
            wanted = takewhile(lambda _: not stop.is_set(), bar)
            with contextlib.closing(results):
                known |= zip(others, self._saving(wanted, loading), strict=False)
        read = {
            name: each.sha256
            for name in others
            if isinstance(each := known.get(name), ImageMeasures)
        }
        return [known[name] for name in names if name in known], read

    def _saving(
        self,
        results: Iterable[ImageMeasures | DataError],
        loading: Future[dict[str, ImageMeasures]],
    ) -> Iterator[ImageMeasures | DataError]:
        """The results, each content that is new among them saved once."""
        known: dict[str, ImageMeasures] | None = None
        unsaved: dict[str, ImageMeasures] = {}
        try:
            for result in results:
                known = loading.result() if known is None else known
                if isinstance(result, ImageMeasures) and result.sha256 not in known:
                    known[result.sha256] = unsaved[result.sha256] = result
                if len(unsaved) == SAVED_AT_ONCE:
                    self._save(unsaved)
                    unsaved = {}
                yield result
        finally:
            self._save(unsaved)

    def _files(self) -> list[Path]:
        return [] if self._folder is None else sorted(self._folder.glob("*.parquet"))

    @without_collector()
    def _load(self) -> dict[str, ImageMeasures]:
        known: dict[str, ImageMeasures] = {}
        files = self._files()
        for file in files:
            try:
                known |= {entry.sha256: entry for entry in _read(file)}
            except OSError:  # another process has merged it away
                continue
            except ValueError:
                _remove(file)
        if len(files) > MAX_FILES:
            merged = self._save(known)
            for file in files:
                if merged is not None and file != merged:
                    _remove(file)
        return known

    def _save(self, entries: dict[str, ImageMeasures]) -> Path | None:
        """Write entries to a file named by their content; a disk that is full is no error."""
        if self._folder is None or not entries:
            return None
        rows = [entries[sha256] for sha256 in sorted(entries)]
        columns = [list(column) for column in zip(*rows, strict=True)]
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(columns, schema=_SCHEMA), sink, compression="zstd")
        content = sink.getvalue().to_pybytes()
        path = self._folder / f"{hashlib.sha256(content).hexdigest()[:32]}.parquet"
        try:
            write_atomically(path, content)
        except OSError:
            return None
        return path


def version() -> str:
    """Name of all that measures depend on besides the bytes: our code and the decoders."""
    return f"{MEASURES_VERSION}-{PIL.__version__}-{simplejpeg.__version__}-{cv2.__version__}"


def _remove(file: Path) -> None:
    with contextlib.suppress(OSError):
        file.unlink(missing_ok=True)


def _read(file: Path) -> Iterator[ImageMeasures]:
    """The entries of a file.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is not as saved.
    """
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest()[:32] != file.stem:
        raise ValueError(f"{file} has other bytes than were saved")
    table = pq.ParquetFile(pa.BufferReader(content)).read()
    if table.schema != _SCHEMA:
        raise ValueError(f"{file} has other columns")
    columns = [column.to_pylist() for column in table.columns]
    return map(ImageMeasures._make, zip(*columns, strict=True))
