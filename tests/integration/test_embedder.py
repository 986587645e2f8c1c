"""The embedder with its real weights."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from fgpipe.errors import DataError
from fgpipe.nn import embedder as module
from fgpipe.nn.embedder import BATCH, Embedder, create_embedder

pytestmark = pytest.mark.integration

PHOTO = Image.fromarray(load_sample_image("china.jpg"))


def sha256s(folder: Path, names: list[str]) -> list[str]:
    return [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names]


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    embedder = create_embedder(tmp_path_factory.mktemp("cache"))
    assert embedder is not None
    return embedder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for number in range(BATCH + 3):
        left, top = 10 * number, 5 * number
        PHOTO.crop((left, top, left + 200, top + 200)).save(folder / f"{number:02d}.png")
    whole = PHOTO.crop((0, 0, 200, 200))
    whole.convert("L").save(folder / "grey.jpg", quality=80)
    whole.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "mirrored.png")
    return folder


def test_rows_have_unit_length_and_copies_are_near(embedder: Embedder, folder: Path) -> None:
    names = sorted(path.name for path in folder.iterdir())

    looks = embedder.look(folder, names, sha256s=sha256s(folder, names), description="")

    np.testing.assert_allclose(np.linalg.norm(looks.rows, axis=1), 1, atol=1e-5)
    cosines = dict(zip(names, looks.rows @ looks.rows[0], strict=True))
    assert cosines["mirrored.png"] > 0.9
    assert cosines["34.png"] < cosines["01.png"]
    grey = Image.open(folder / "07.png").convert("L").resize((32, 32), Image.Resampling.BOX)
    difference = looks.tiny[7].astype(float) - np.asarray(grey)
    assert np.abs(difference).mean() < 2


def test_rows_are_those_of_torch(embedder: Embedder, folder: Path) -> None:
    exact = Embedder(None, precision="f32")
    import torch

    from fgpipe.nn.backbones import Backbone
    from fgpipe.nn.initial_weights import load_weights

    names = ["00.png", "20.png"]
    backbone = Backbone(module.BACKBONE).eval()
    load_weights(backbone, weights="packaged")
    images = [Image.open(folder / name).resize((160, 160), 2, reducing_gap=2.0) for name in names]
    pixels = torch.tensor(np.stack(images)).permute(0, 3, 1, 2) / 127.5 - 1
    slow = []
    with torch.no_grad():
        features = backbone.network.bn1(backbone.network.conv_stem(pixels))
        for stage, block in enumerate(backbone.network.blocks[:5]):
            features = block(features)
            if stage >= 3:
                mean = features.mean(dim=(2, 3))
                slow.append(mean / mean.norm(dim=1, keepdim=True) / 2**0.5)

    rows = exact.embed(folder, names, sha256s=sha256s(folder, names), description="")
    fast = embedder.embed(folder, names, sha256s=sha256s(folder, names), description="")

    np.testing.assert_allclose(rows, torch.cat(slow, dim=1).numpy(), atol=2e-4)
    assert (rows * fast).sum(axis=1) == pytest.approx(1, abs=0.03)


def test_what_is_kept_is_not_computed_again(tmp_path: Path, folder: Path) -> None:
    names = ["00.png", "01.png", "00.png"]
    hashes = sha256s(folder, names)
    first = Embedder(tmp_path, precision="f32").embed(folder, names, sha256s=hashes, description="")

    again = Embedder(tmp_path, precision="f32")
    rows = again.embed(tmp_path / "nowhere", names, sha256s=hashes, description="")

    assert (rows == first).all()
    assert (rows[0] == rows[2]).all()
    assert again._network is None


def test_rows_do_not_depend_on_their_company_or_the_cache(embedder: Embedder, folder: Path) -> None:
    names = sorted(path.name for path in folder.iterdir())
    hashes = sha256s(folder, names)
    together = embedder.embed(folder, names, sha256s=hashes, description="")

    alone = create_embedder(None)
    assert alone is not None
    rows = [
        alone.embed(folder, [name], sha256s=[sha256], description="")
        for name, sha256 in list(zip(names, hashes, strict=True))[::12]
    ]

    assert (np.concatenate(rows) == together[::12]).all()


def test_an_image_that_does_not_decode_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"nothing")

    with pytest.raises(DataError, match=r"broken\.png"):
        Embedder(None, precision="f32").embed(
            tmp_path, ["broken.png"], sha256s=["0" * 64], description=""
        )


def test_without_the_weights_there_is_no_embedder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACKAGE", "no_such_package")

    assert create_embedder(None) is None
