"""Near-duplicates: how many of those planted are found, and how long 100,000 images take.

    python -m tests.bench.near_duplicates recall [FOLDER of further photos]
    python -m tests.bench.near_duplicates scale [100000]

``recall`` plants one copy of each kind in turn: real photos (20 of ImageNet, tiles of two of
scikit-learn's, tiles of those in FOLDER), and each ninth solar cell, searched among them and
all 2,624 cells. ``scale`` takes the rows and pictures of all these, and makes as many more
as asked for out of them: rows with noise, pictures blended of two windows of photos; 2 % are
planted copies, whose files are really decoded and compared.
"""

import io
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import sklearn
from PIL import Image

from fgpipe.images.files import ImageMeasures, measure
from fgpipe.images.perceptual_hash import perceptual_hashes
from fgpipe.images.sources.elpv import elpv
from fgpipe.intake import near_search
from fgpipe.intake.near_search import near_pairs
from fgpipe.nn.embedder import Embedder, Looks, create_embedder

TILE_PX = 160

Change = Callable[[Image.Image, np.random.Generator], tuple[bytes, str]]


def png(image: Image.Image) -> tuple[bytes, str]:
    content = io.BytesIO()
    image.save(content, "PNG", compress_level=1)
    return content.getvalue(), ".png"


def encoded(image: Image.Image, random: np.random.Generator) -> tuple[bytes, str]:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=int(random.integers(50, 91)))
    return content.getvalue(), ".jpg"


def resized(image: Image.Image, random: np.random.Generator) -> tuple[bytes, str]:
    factor = random.uniform(0.5, 2)
    size = (round(image.width * factor), round(image.height * factor))
    return png(image.resize(size, Image.Resampling.BICUBIC))


def cut(image: Image.Image, random: np.random.Generator) -> Image.Image:
    width, height = round(0.9 * image.width), round(0.9 * image.height)
    x = int(random.integers(0, image.width - width + 1))
    y = int(random.integers(0, image.height - height + 1))
    return image.crop((x, y, x + width, y + height))


def flipped(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def brightened(image: Image.Image, random: np.random.Generator) -> Image.Image:
    factor = random.uniform(0.7, 1.3)
    return image.point(lambda value: min(255, round(value * factor)))


CHANGES: dict[str, Change] = {
    "jpeg": encoded,
    "resize": resized,
    "crop": lambda image, random: png(cut(image, random)),
    "flip": lambda image, _: png(flipped(image)),
    "brightness": lambda image, random: png(brightened(image, random)),
    "crop, jpeg": lambda image, random: encoded(cut(image, random), random),
    "flip, jpeg": lambda image, random: encoded(flipped(image), random),
}


def tiles(path: Path) -> list[Image.Image]:
    """At most a dozen from all over a photo, so that no large one outweighs the others."""
    with Image.open(path) as file:
        image = file.convert("RGB")
    corners = [
        (left, top)
        for top in range(0, image.height - TILE_PX + 1, TILE_PX)
        for left in range(0, image.width - TILE_PX + 1, TILE_PX)
    ]
    found = [image.crop((left, top, left + TILE_PX, top + TILE_PX)) for left, top in corners]
    # Sky is like any other sky.
    found = [tile for tile in found if np.asarray(tile.convert("L")).std() > 8]
    return found[:: max(1, -(-len(found) // 12))]


def write_originals(folder: Path, extra: Path | None) -> list[Path]:
    import foolbox

    found = sorted((Path(foolbox.__file__).parent / "data").glob("imagenet_*.jpg"))
    photos = sorted((Path(sklearn.__file__).parent / "datasets" / "images").glob("*.jpg"))
    if extra is not None:
        photos += sorted(path for path in extra.iterdir() if path.suffix in {".jpg", ".png"})
    for photo in photos:
        for number, tile in enumerate(tiles(photo)):
            found.append(folder / f"photo {photo.stem} {number}.png")
            found[-1].write_bytes(png(tile)[0])
    return found + [image.file for image in elpv().images]


def measured(paths: list[Path]) -> list[ImageMeasures]:
    return [measure(path) for path in paths]


def is_cell(path: Path) -> bool:
    return path.stem.startswith("cell")


def recall(extra: Path | None, cache: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        originals = write_originals(folder, extra)
        known = measured(originals)
        chosen = [i for i, path in enumerate(originals) if not is_cell(path)]
        chosen += [i for i, path in enumerate(originals) if is_cell(path)][::9]
        for with_weights in (True, False):
            print("with weights" if with_weights else "without weights")
            embedder = create_embedder(cache) if with_weights else None
            for kind, change in CHANGES.items():
                random = np.random.default_rng(0)
                planted = []
                for i in chosen:
                    with Image.open(originals[i]) as image:
                        content, suffix = change(image, random)
                    planted.append(folder / f"{kind} {i}{suffix}")
                    planted[-1].write_bytes(content)
                report(originals, known, chosen, planted, kind=kind, embedder=embedder)


def report(
    originals: list[Path],
    known: list[ImageMeasures],
    chosen: list[int],
    planted: list[Path],
    *,
    kind: str,
    embedder: Embedder | None,
) -> None:
    n = len(originals)
    start = time.perf_counter()
    pairs = near_pairs(
        Path("/"),
        paths=[str(path) for path in originals + planted],
        measures=known + measured(planted),
        n_known=n,
        embedder=embedder,
    )
    seconds = time.perf_counter() - start
    found = {(pair.i, pair.j) for pair in pairs}
    wanted = [(i, n + position) for position, i in enumerate(chosen)]
    of_cells = [pair in found for pair in wanted if is_cell(originals[pair[0]])]
    of_photos = [pair in found for pair in wanted if not is_cell(originals[pair[0]])]
    base = [*range(n), *chosen]
    wrong = [pair for pair in found if base[pair[0]] != base[pair[1]]]
    print(
        f"{kind:12} photos {np.mean(of_photos):.3f} of {len(of_photos)}, "
        f"cells {np.mean(of_cells):.3f} of {len(of_cells)}, "
        f"{len(wrong)} pairs of different originals, {seconds:.1f} s"
    )
    for i, j in wrong[:5]:
        print("   ", originals[i].name, "and", originals[base[j]].name)


class Clock:
    """Time since it was made; that of the processor tells on a machine that others use too."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def __str__(self) -> str:
        wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        return f"{wall:.1f} s ({cpu:.1f} s of a core)"


class Prepared:
    """Gives looks that are there already, as an embedder with a full cache does."""

    def __init__(self, looks: Looks) -> None:
        self.looks = looks

    def look(self, *_: object, **__: object) -> Looks:
        return self.looks


def scale(n: int, cache: Path) -> None:
    random = np.random.default_rng(0)
    embedder = create_embedder(cache)
    assert embedder is not None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        originals = write_originals(folder, None)
        n_planted = n // 50
        for number in range(n_planted):
            i = int(random.integers(len(originals)))
            with Image.open(originals[i]) as image:
                change = list(CHANGES.values())[number % len(CHANGES)]
                content, suffix = change(image, random)
            originals.append(folder / f"planted {number}{suffix}")
            originals[-1].write_bytes(content)
        paths = [str(path) for path in originals]
        measures = measured(originals)
        sha256s = [each.sha256 for each in measures]
        looks = embedder.look(Path("/"), paths, sha256s=sha256s, description="looking")
        made = made_up(looks, originals, n - len(paths), random)
        looks = Looks(*(np.concatenate(both) for both in zip(looks, made, strict=True)))
        hashes = perceptual_hashes(made.tiny)
        paths += [paths[i % len(measures)] for i in range(len(hashes))]
        measures += [
            measures[i % len(measures)]._replace(phash=f"{phash:016x}")
            for i, phash in enumerate(hashes.tolist())
        ]
        order = random.permutation(n)
        looks = Looks(looks.rows[order], looks.tiny[order])
        paths, measures = [paths[i] for i in order], [measures[i] for i in order]
        for n_known in (0, n - n // 100):
            print(f"{n:,} images, {n - n_known:,} of them new")
            timed_search(paths, measures, n_known=n_known, looks=looks)


def made_up(looks: Looks, originals: list[Path], n: int, random: np.random.Generator) -> Looks:
    """Rows with noise, as far from each other as real neighbours are; blended pictures."""
    photos = []
    for path in originals:
        if path.name.startswith(("photo", "imagenet")):
            with Image.open(path) as image:
                photos.append(np.asarray(image.convert("L")))
    rows = looks.rows[random.integers(len(looks.rows), size=n)]
    rows = rows + random.normal(0, 0.2 / rows.shape[1] ** 0.5, rows.shape).astype(np.float32)
    tiny = np.empty((n, 32, 32), dtype=np.uint8)
    for each in tiny:
        parts = []
        for photo in random.integers(len(photos), size=2):
            pixels = photos[photo]
            side = int(random.uniform(0.3, 0.9) * len(pixels))
            y, x = random.integers(0, len(pixels) - side, size=2)
            parts.append(cv2.resize(pixels[y : y + side, x : x + side], (32, 32), interpolation=3))
        each[:] = cv2.addWeighted(parts[0], 0.5, parts[1], 0.5, 0)
    return Looks(rows / np.linalg.norm(rows, axis=1, keepdims=True), tiny)


def timed_search(
    paths: list[str], measures: list[ImageMeasures], *, n_known: int, looks: Looks
) -> None:
    phases = ("candidates", "window_fits", "refined")
    before = {phase: getattr(near_search, phase) for phase in phases}

    def timed(phase: str) -> Callable[..., object]:
        def call(*args: object, **options: object) -> object:
            clock = Clock()
            result = before[phase](*args, **options)
            print(f"  {phase}: {len(result):,} in {clock}")
            return result

        return call

    for phase in phases:
        setattr(near_search, phase, timed(phase))
    clock = Clock()
    pairs = near_pairs(
        Path("/"), paths=paths, measures=measures, n_known=n_known, embedder=Prepared(looks)
    )
    print(f"  all: {len(pairs):,} confirmed in {clock}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"  peak memory of the process {peak:.2f} GiB, {os.cpu_count()} cores")
    for phase in phases:
        setattr(near_search, phase, before[phase])


if __name__ == "__main__":
    kept = Path(tempfile.gettempdir()) / "fgpipe-bench-embeddings"
    if sys.argv[1] == "recall":
        recall(Path(sys.argv[2]) if len(sys.argv) > 2 else None, kept)
    else:
        scale(int(sys.argv[2]) if len(sys.argv) > 2 else 100_000, kept)
