"""Downloads of published sets, by torchvision's own code, where a network is allowed."""

import shutil
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from urllib.error import HTTPError

from fgpipe import settings
from fgpipe.errors import UnavailableError

CIFAR_MD5 = {
    "CIFAR10": "c32a1d4ab5d03f1284b67883e8d87530",
    "CIFAR100": "03b5dce01913d631647c71ecec9e9cb8",
}
"""Of the archives in binary form, as published beside them."""


def fetched(kind: str, folder: Path, *, get: Callable[[Path], None]) -> Path:
    """Download a set into a folder, unless it is there.

    Args:
        kind: What it is called.
        folder: Where it goes; what an attempt cut short has unpacked there is removed.
        get: Downloads and unpacks it.

    Returns:
        The folder.

    Raises:
        UnavailableError: If no network is allowed, or it or the set does not answer.
    """
    done = folder / ".complete"
    if done.exists():
        return folder
    if not settings.online():
        raise UnavailableError(
            f"{kind} is not here and no network is allowed; allow it with FGPIPE_ONLINE=1, or "
            f"get the files and `fgpipe data import FOLDER --as {kind}`"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for half in folder.iterdir():  # torchvision takes a folder that is there for a whole one
        if half.is_dir():
            shutil.rmtree(half)
    try:
        get(folder)
    except (OSError, RuntimeError, EOFError, tarfile.TarError, zlib.error) as error:
        if isinstance(error, HTTPError):
            error.close()  # it holds the connection
        raise UnavailableError(
            f"{kind} cannot be downloaded ({error}); get the files another way and "
            f"`fgpipe data import FOLDER --as {kind}`"
        ) from None
    done.touch()
    return folder


def get_torchvision(name: str, **options: str) -> Callable[[Path], None]:
    """What downloads one of torchvision's sets.

    Args:
        name: Its class there.
        options: That the class takes.
    """

    def get(folder: Path) -> None:
        from torchvision import datasets

        getattr(datasets, name)(str(folder), download=True, **options)

    return get


def get_cifar(name: str) -> Callable[[Path], None]:
    """What downloads one of the CIFAR sets in binary form, which torchvision does not read.

    Args:
        name: Its class in torchvision, which knows where it is.
    """

    def get(folder: Path) -> None:
        from torchvision import datasets
        from torchvision.datasets.utils import download_and_extract_archive

        url = getattr(datasets, name).url.replace("-python.", "-binary.")
        download_and_extract_archive(url, str(folder), md5=CIFAR_MD5[name])

    return get
