"""Archives: zip and tar, unpacked so that nothing they hold can do harm.

Only images, tables and annotation files are unpacked. A member that is a link or a device,
or whose name leads out, is no accident: the archive is refused.
"""

import bz2
import gzip
import io
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from fgpipe.errors import DataError
from fgpipe.images.content import MAX_BYTES
from fgpipe.images.files import EXTENSIONS
from fgpipe.images.sources.table import SUFFIXES as TABLE_SUFFIXES

SUFFIXES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz")
"""How an archive's name ends, in lower case."""

UNPACKED = EXTENSIONS | {*TABLE_SUFFIXES, ".txt", ".json", ".mat", ".bin", ".md"}
"""What is unpacked: images, tables, and what published sets are annotated with."""

DOCUMENTS = ("readme", "license", "licence")
"""How names begin of files that a set's folder may have beside it."""

MAX_MEMBERS = 3_000_000
"""Most members: the largest set known here, iNaturalist 2021, has 2.7 million."""

MAX_UNPACKED_BYTES = 500_000_000_000
"""Most bytes in all: iNaturalist 2021 has 224 GB of training images."""

MAX_RATIO = 100
"""Most bytes unpacked for a byte of archive: images hardly shrink, text by 10; a bomb of
zeros gives 1,000. Looked at from :data:`RATIO_FROM_BYTES` on, as drawings may be flat."""

RATIO_FROM_BYTES = 100_000_000

MAX_AT_ONCE = 16 << 20
"""Most bytes that a tar archive's own headers may have: ``tarfile`` reads a long name whole,
however long it says it is."""

_CHUNK_BYTES = 1 << 20
_OPENERS: dict[bytes, Callable[[Path], io.BufferedIOBase]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
"""How the bytes of a packed tar archive begin, and what unpacks it."""
_ENCRYPTED = 0x1
_UTF8 = 0x800


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    kind: str
    """``file``, ``folder``, or what else it is."""
    file: zipfile.ZipInfo | tarfile.TarInfo
    n_bytes: int


_BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    gzip.BadGzipFile,
    EOFError,
    ValueError,  # a name that is no UTF-8, a number that is none
    RecursionError,  # headers of headers
)
"""What damage inside an archive makes the standard library raise."""


def is_archive(path: Path) -> bool:
    """Whether a file is an archive by its name."""
    return path.name.lower().endswith(SUFFIXES) and path.is_file()


def unpack(path: Path, *, to: Path) -> Path:
    """Unpack an archive's images, tables and annotations.

    Args:
        path: The archive.
        to: The folder to unpack into, which is made.

    Returns:
        The folder its content is in; folders that hold one folder alone, or with a
        document, are stepped through.

    Raises:
        DataError: If it is broken, encrypted or a bomb, or holds a link, a device, or a name
            that leads out.
    """
    to.mkdir(parents=True)
    try:
        if path.name.lower().endswith(".zip"):
            _unpack_zip(path, to)
        else:
            _unpack_tar(path, to)
    except NotImplementedError as error:  # a kind of RuntimeError
        raise DataError(f"{path}: {error}; pack it as plain zip or tar.gz") from None
    except _BROKEN as error:
        raise DataError(f"{path} is broken or cut short ({error}); get it again") from None
    except OSError as error:
        what = "is broken or cut short" if error.errno is None else "cannot be unpacked"
        raise DataError(f"{path} {what} ({error}); get it again") from None
    return _innermost(to, path)


def _innermost(folder: Path, path: Path) -> Path:
    if all(map(_is_document, folder.iterdir())):
        kinds = " ".join(sorted(UNPACKED))
        raise DataError(
            f"{path} holds no file that is an image or says of which class ({kinds}); "
            "of CIFAR the binary form is read, not the one for Python"
        )
    while True:
        inner = [entry for entry in folder.iterdir() if not _is_document(entry)]
        if len(inner) != 1 or not inner[0].is_dir():
            return folder
        if not any(entry.is_dir() for entry in inner[0].iterdir()) and not _has_table(inner[0]):
            return folder
        folder = inner[0]


def _has_table(folder: Path) -> bool:
    return any(
        entry.suffix.lower() not in EXTENSIONS and not _is_document(entry)
        for entry in folder.iterdir()
    )


def _is_document(path: Path) -> bool:
    is_named_so = path.name.lower().startswith(DOCUMENTS)
    return is_named_so and path.suffix.lower() in (".md", ".txt") and path.is_file()


def _unpack_zip(path: Path, folder: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        limits = _Limits(path)
        for member in _zip_members(archive):
            target = limits.target(member, folder)
            if target is None:
                continue
            assert isinstance(member.file, zipfile.ZipInfo)
            if member.file.flag_bits & _ENCRYPTED:
                raise DataError(f"{path} is encrypted; unpack it and import the folder")
            with archive.open(member.file) as file:
                limits.copy(file, target)


def _zip_members(archive: zipfile.ZipFile) -> Iterator[_Member]:
    for member in archive.infolist():
        name = member.filename
        if not member.flag_bits & _UTF8:  # written as UTF-8 by many who do not say so
            try:
                name = name.encode("cp437").decode("utf-8")
            except UnicodeError:
                name = member.filename
        name = name.replace("\\", "/")  # as some write it on Windows
        mode = stat.S_IFMT(member.external_attr >> 16)
        kind = "folder" if name.endswith("/") else "file"
        if mode and not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            kind = "link" if stat.S_ISLNK(mode) else "device"
        yield _Member(name, kind, member, member.file_size)


def _unpack_tar(path: Path, folder: Path) -> None:
    limits = _Limits(path)
    with _opened(path) as file, tarfile.open(fileobj=_Guarded(file, limits), mode="r:") as archive:
        for member in archive:
            kind = "file" if member.isreg() else "folder" if member.isdir() else "link"
            kind = "device" if member.isdev() else kind
            target = limits.target(_Member(member.name, kind, member, member.size), folder)
            if target is None:
                continue
            content = archive.extractfile(member)
            assert content is not None, "a file in a tar archive has content"
            limits.copy(content, target)
            if target.stat().st_size != member.size:
                raise EOFError(f"{member.name} is not whole")
        assert archive.fileobj is not None
        if archive.fileobj.tell() < archive.offset + tarfile.BLOCKSIZE:
            raise EOFError("its end is missing")


def _opened(path: Path) -> io.BufferedIOBase:
    with path.open("rb") as file:
        start = file.read(6)
    for magic, opener in _OPENERS.items():
        if start.startswith(magic):
            return opener(path)
    return path.open("rb")


class _Limits:
    """Counts what comes out of one archive, and decides what may."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.n_packed_bytes = path.stat().st_size
        self.n_members = 0
        self.n_bytes = 0

    def target(self, member: _Member, folder: Path) -> Path | None:
        """Where a member goes; None if it is not unpacked."""
        self.n_members += 1
        if self.n_members > MAX_MEMBERS:
            raise DataError(f"{self.path} has more than {MAX_MEMBERS:,} members; import a folder")
        parts = PurePosixPath(member.name).parts
        if (
            member.name.startswith("/")
            or ".." in parts
            or "\\" in member.name
            or "\0" in member.name
            or member.name[1:2] == ":"
        ):
            raise DataError(f"{self.path}: {member.name!r} leads out of the archive; refused")
        if member.kind not in ("file", "folder"):
            raise DataError(f"{self.path}: {member.name!r} is a {member.kind}; refused")
        if member.kind == "folder" or any(part.startswith((".", "__MACOSX")) for part in parts):
            return None
        if PurePosixPath(member.name).suffix.lower() not in UNPACKED:
            return None
        if member.n_bytes > MAX_BYTES:
            raise DataError(
                f"{self.path}: {member.name!r} has {member.n_bytes:,} bytes; "
                f"at most {MAX_BYTES:,} are unpacked"
            )
        target = folder.joinpath(*parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            raise DataError(f"{self.path} holds {member.name!r} twice; pack it anew")
        return target

    def copy(self, file: IO[bytes], target: Path) -> None:
        """Unpack one file, however long it says it is."""
        with target.open("xb") as out:
            while chunk := file.read(_CHUNK_BYTES):
                self.n_bytes += len(chunk)
                self.check(self.n_bytes)
                if shutil.disk_usage(target.parent).free < len(chunk):
                    raise DataError(f"{self.path}: no space left to unpack it at {target.parent}")
                out.write(chunk)

    def check(self, n_bytes: int) -> None:
        """Refuse the archive if this many bytes out of it are too many."""
        too_dense = n_bytes > max(RATIO_FROM_BYTES, MAX_RATIO * self.n_packed_bytes)
        if too_dense or n_bytes > MAX_UNPACKED_BYTES:
            raise DataError(
                f"{self.path} unpacks to {n_bytes:,} bytes or more from "
                f"{self.n_packed_bytes:,}; that is a bomb, or no archive of images"
            )


class _Guarded(io.BufferedIOBase):
    """The bytes of a tar archive; those that are only skipped count as well."""

    def __init__(self, file: io.BufferedIOBase, limits: _Limits) -> None:
        self.file = file
        self.limits = limits

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None, "tarfile says how much it reads"
        if not 0 <= size <= MAX_AT_ONCE:
            raise DataError(
                f"{self.limits.path} has a header of {size:,} bytes, more than {MAX_AT_ONCE:,}; "
                "that is a bomb, or no archive of images"
            )
        self.limits.check(self.file.tell() + size)
        return self.file.read(size)

    def seek(self, position: int, whence: int = io.SEEK_SET, /) -> int:
        assert whence == io.SEEK_SET, "tarfile counts from the start"
        self.limits.check(position)
        return self.file.seek(position)

    def tell(self) -> int:
        return self.file.tell()
