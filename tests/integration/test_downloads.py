"""torchvision's own downloaders, against a server on this machine that has the sets."""

import functools
import hashlib
import http.server
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fgpipe.errors import UnavailableError
from fgpipe.images.sources import download
from fgpipe.images.sources.registry import fetch_source
from tests.support import dataset_layouts as layouts

pytestmark = pytest.mark.integration


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None: ...


@pytest.fixture
def published(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address that its files are at."""
    folder = tmp_path / "published"
    folder.mkdir()
    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FGPIPE_ONLINE", "1")


def pack(path: Path, *folders: Path) -> str:
    """A tar archive of folders; the MD5 of its bytes."""
    with tarfile.open(path, "w:gz") as file:
        for folder in folders:
            file.add(folder, folder.name)
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_pets_come_by_torchvision_once(
    tmp_path: Path, published: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision import datasets

    folder, address = published
    made = layouts.pets(tmp_path / "made")
    resources = [
        (f"{address}/{name}.tar.gz", pack(folder / f"{name}.tar.gz", made / name))
        for name in ("images", "annotations")
    ]
    monkeypatch.setattr(datasets.OxfordIIITPet, "_RESOURCES", resources)

    first = fetch_source("pets", downloads=tmp_path / "downloads", work=tmp_path)
    for path in folder.iterdir():
        path.unlink()
    again = fetch_source("pets", downloads=tmp_path / "downloads", work=tmp_path)

    assert {(image.label, image.split) for image in first.images} == {
        (label, split)
        for label in ("Abyssinian", "american_bulldog")
        for split in ("train", "test")
    }
    assert again == first


@pytest.mark.parametrize(
    ("kind", "name", "make", "inside"),
    [
        ("cifar10", "CIFAR10", layouts.cifar10, "cifar-10-batches-bin"),
        ("cifar100", "CIFAR100", layouts.cifar100, "cifar-100-binary"),
    ],
)
def test_cifar_comes_in_its_binary_form(
    tmp_path: Path,
    published: tuple[Path, str],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    name: str,
    make: Callable[[Path], Path],
    inside: str,
) -> None:
    from torchvision import datasets

    folder, address = published
    archive = f"{kind}-binary.tar.gz"
    monkeypatch.setitem(
        download.CIFAR_MD5, name, pack(folder / archive, make(tmp_path / "made" / inside))
    )
    monkeypatch.setattr(getattr(datasets, name), "url", f"{address}/{kind}-python.tar.gz")

    source = fetch_source(kind, downloads=tmp_path / "downloads", work=tmp_path / "work")

    assert {image.split for image in source.images} == {"train", "test"}
    assert all(image.file.is_file() for image in source.images)


@pytest.mark.parametrize("kind", ["cifar10", "pets"])
def test_other_bytes_than_published_are_refused(
    tmp_path: Path, published: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    from torchvision import datasets

    folder, address = published
    (folder / "x-binary.tar.gz").write_bytes(b"something else")
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{address}/x-python.tar.gz")
    resources = [(f"{address}/x-binary.tar.gz", "0" * 32)]
    monkeypatch.setattr(datasets.OxfordIIITPet, "_RESOURCES", resources)

    with pytest.raises(UnavailableError, match=rf"{kind} cannot be downloaded .*corrupted"):
        fetch_source(kind, downloads=tmp_path / "downloads", work=tmp_path / "work")


def test_a_server_that_does_not_have_it_is_named_with_the_way_out(
    tmp_path: Path, published: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision import datasets

    monkeypatch.setattr(datasets.FGVCAircraft, "_URL", f"{published[1]}/aircraft.tar.gz")

    with pytest.raises(UnavailableError) as caught:
        fetch_source("aircraft", downloads=tmp_path / "downloads", work=tmp_path / "work")

    assert "404" in str(caught.value)
    assert "`fgpipe data import FOLDER --as aircraft`" in str(caught.value)
