"""A small fine-grained world drawn from a seed.

Four classes of creature differ in one small mark, its colour (the parent) and its shape;
body, place, light and noise are random. A group is one individual, seen several times;
its light is an attribute.
"""

import io
import tempfile
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from fgpipe.images.measure_cache import MeasureCache
from fgpipe.images.sources.source import Source, SourceImage
from fgpipe.intake.importing import import_source
from fgpipe.intake.reporting import ImportReport

LABELS = ("amber_disc", "amber_ring", "blue_disc", "blue_ring")
"""Class names: the parent's and the mark's shape."""

COLOURS = {"amber": (250, 180, 20), "blue": (30, 70, 250)}
"""Colour of the mark by parent."""

LIGHTS = {"day": 190, "night": 70}
"""Grey of the background by value of the attribute ``light``."""

Flaw = Literal["empty", "text", "truncated_jpeg", "truncated_png", "zeroed_jpeg", "flipped_png"]


def parent_of(label: str) -> str:
    """The coarser class of a label."""
    return label.split("_", maxsplit=1)[0]


def light_of(group: int) -> str:
    """The attribute's value for one individual."""
    return list(LIGHTS)[group % 2]


def draw(label: str, *, group: int, index: int = 0, size_px: int = 64, seed: int = 0) -> np.ndarray:
    """One image, RGB; of two labels with the rest equal, only the mark differs.

    Args:
        label: One of LABELS.
        group: The individual, which body and light depend on.
        index: Which of its images, which place and noise depend on.
        size_px: Height and width.
        seed: Of the whole world.
    """
    colour, shape = label.split("_")
    individual = np.random.default_rng([seed, group])
    body = individual.uniform(80, 170, 3)
    radii = individual.uniform(0.28, 0.36, 2)
    stripes, phase = individual.uniform(20, 60), individual.uniform(0, 6)
    scene = np.random.default_rng([seed, group, index, 1])
    centre = 0.5 + scene.uniform(-0.1, 0.1, 2)
    y, x = (np.mgrid[:size_px, :size_px] + 0.5) / size_px

    pixels = np.full((size_px, size_px, 3), float(LIGHTS[light_of(group)]))
    inside = ((y - centre[0]) / radii[0]) ** 2 + ((x - centre[1]) / radii[1]) ** 2 < 1
    texture = 20 * np.sin(stripes * (x + y) + phase)
    pixels[inside] = body + texture[inside, None]
    distance = np.hypot(y - centre[0], x - centre[1])
    pixels[distance < 0.15] = 235
    mark = distance < 0.12
    if shape == "ring":
        mark &= distance > 0.07
    pixels[mark] = COLOURS[colour]
    pixels += scene.normal(0, 10, pixels.shape)
    return pixels.round().clip(0, 255).astype(np.uint8)


def write_world(
    raw: Path,
    *,
    n_groups_per_label: int = 10,
    images_per_group: int = 3,
    size_px: int = 64,
    seed: int = 0,
    labels: tuple[str, ...] = LABELS,
) -> ImportReport:
    """Fill ``raw`` through the real intake."""
    with tempfile.TemporaryDirectory() as folder:
        images = []
        for position, label in enumerate(labels):
            for number in range(n_groups_per_label):
                group = position * n_groups_per_label + number
                for index in range(images_per_group):
                    path = f"images/{label}_{number:03d}_{index}.png"
                    file = Path(folder, path)
                    file.parent.mkdir(exist_ok=True)
                    pixels = draw(label, group=group, index=index, size_px=size_px, seed=seed)
                    Image.fromarray(pixels).save(file, compress_level=1)
                    images.append(
                        SourceImage(
                            file=file,
                            path=path,
                            label=label,
                            parent=parent_of(label),
                            group=f"individual{group:03d}",
                            attributes={"light": light_of(group)},
                        )
                    )
        return import_source(
            Source(name="synthetic", images=tuple(images)),
            raw=raw,
            cache=MeasureCache(None),
            embedder=None,
        )


def write_class_folders(folder: Path, *, n_images_per_label: int = 4, seed: int = 0) -> Path:
    """A folder of class folders with PNG and JPEG files, each of its own individual."""
    for position, label in enumerate(LABELS):
        (folder / label).mkdir(parents=True)
        for number in range(n_images_per_label):
            extension = ("png", "jpg")[number % 2]
            group = position * n_images_per_label + number
            Image.fromarray(draw(label, group=group, seed=seed)).save(
                folder / label / f"{number:03d}.{extension}"
            )
    return folder


def encoded(format_: str = "JPEG", *, size_px: int = 64, **options: object) -> bytes:
    """One whole image in some format."""
    file = io.BytesIO()
    Image.fromarray(draw(LABELS[0], group=0, size_px=size_px)).save(file, format_, **options)
    return file.getvalue()


def flawed(flaw: Flaw) -> bytes:
    """The content of a file that is no whole image."""
    jpeg, png = encoded("JPEG", size_px=160), encoded("PNG")
    middle = len(jpeg) // 2
    match flaw:
        case "empty":
            return b""
        case "text":
            return b"these are words, not pixels\n" * 20
        case "truncated_jpeg":
            return jpeg[: len(jpeg) * 2 // 3]
        case "truncated_png":
            return png[: len(png) * 2 // 3]
        case "zeroed_jpeg":
            return jpeg[:middle] + bytes(200) + jpeg[middle + 200 :]
        case "flipped_png":
            return png[:-30] + bytes([png[-30] ^ 1]) + png[-29:]
