"""The demo: electroluminescence images of solar cells, from an installed package.

2,624 cells cut from images of 44 solar modules, each rated by one expert as functional or
defective, and sure or not. The package names no modules, but cells stand in module order
and modules of one type are equal in size, so the ten runs of one cell type, cut into
equal parts, give them back: **a reconstruction, not published ids**; in the two long runs
a boundary may be off by a few cells. Without it cells of one module would be on both
sides of a split, which flatters every figure.

Source: Deitsch et al., "Automatic classification of defective photovoltaic module cells
in electroluminescence images" (2019); package ``elpv-dataset``, CC BY-NC-SA 4.0.
"""

import importlib.util
from itertools import groupby, pairwise
from pathlib import Path

from fgpipe.errors import DataError, UnavailableError
from fgpipe.images.sources.gathering import gather
from fgpipe.images.sources.source import Source, SourceImage

LABELS = {
    0: ("functional_sure", "functional"),
    1: ("functional_unsure", "functional"),
    2: ("defective_unsure", "defective"),
    3: ("defective_sure", "defective"),
}
"""Label and parent by defect probability, in thirds."""

N_MODULES_IN_RUN = (1, 5, 3, 6, 12, 9, 1, 3, 1, 3)
"""Modules in each run of one cell type."""

MIN_CELLS, MAX_CELLS = 48, 72
"""Smallest and largest module."""

LICENCE = "CC BY-NC-SA 4.0 (non-commercial; also what is trained on it)"


def elpv(data: Path | None = None) -> Source:
    """The images of the package ``elpv-dataset``.

    Args:
        data: Its folder ``data``; the installed one's by default.

    Raises:
        UnavailableError: If the package is not installed.
        DataError: If it does not hold what is known of it.
    """
    data = data or installed()
    return gather(
        "elpv",
        images_of(data),
        within=data,
        licence=LICENCE,
        note="groups are solar modules, reconstructed from the order of the cells",
    )


def installed() -> Path:
    """The folder ``data`` of the installed package.

    Raises:
        UnavailableError: If it is not installed.
    """
    spec = importlib.util.find_spec("elpv_dataset")
    if spec is None or spec.origin is None:
        raise UnavailableError(
            "the package elpv-dataset is not installed; `pip install 'fgpipe[demo]'` brings it"
        )
    return Path(spec.origin).parent / "data"


def find(path: Path) -> Path | None:
    """Where its ``labels.csv``, which separates by spaces, is at or in a path."""
    for place in (path, path / "data", path / "elpv_dataset" / "data"):
        try:
            with (place / "labels.csv").open(encoding="utf-8") as file:
                first = file.readline(200).split()
        except (OSError, UnicodeDecodeError):
            continue
        if len(first) == 3 and first[2] in ("mono", "poly"):
            return place
    return None


def images_of(data: Path) -> tuple[SourceImage, ...]:
    """The images that ``labels.csv`` in the package's folder names.

    Args:
        data: The folder with ``labels.csv`` and ``images/``.

    Raises:
        DataError: If the table is not as expected, or its runs do not cut into modules.
    """
    try:
        rows = [line.split() for line in (data / "labels.csv").read_text().splitlines()]
        entries = [(path, round(float(chance) * 3), type_) for path, chance, type_ in rows]
        modules = reconstruct_modules([type_ for *_, type_ in entries])
        return tuple(
            SourceImage(
                file=data / path,
                path=path,
                label=LABELS[thirds][0],
                parent=LABELS[thirds][1],
                group=f"module{module:02d}",
                attributes={"cell_type": type_},
            )
            for (path, thirds, type_), module in zip(entries, modules, strict=True)
        )
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{data / 'labels.csv'} is not that of elpv-dataset 1.0.0.post1 ({error}); "
            "`pip install --force-reinstall 'fgpipe[demo]'` mends it"
        ) from None


def reconstruct_modules(cell_types: list[str]) -> list[int]:
    """The module of each cell, from 1, by cutting runs of one type into equal parts.

    Args:
        cell_types: Type of each cell, in the package's order.

    Raises:
        ValueError: If the runs are not ten, or a part has a size that no module has.
    """
    runs = [len(list(run)) for _, run in groupby(cell_types)]
    modules: list[int] = []
    module = 0
    for n_cells, n_modules in zip(runs, N_MODULES_IN_RUN, strict=True):
        cuts = [i * n_cells // n_modules for i in range(n_modules + 1)]
        for start, end in pairwise(cuts):
            if not MIN_CELLS <= end - start <= MAX_CELLS:
                raise ValueError(f"a run of {n_cells} cells is not {n_modules} modules")
            module += 1
            modules += [module] * (end - start)
    return modules
