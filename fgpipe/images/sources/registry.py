"""Every kind of source: what it looks like, how it is known, what opens it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fgpipe.errors import DataError, InputError
from fgpipe.images.sources import (
    aircraft,
    cars,
    cifar,
    cub,
    elpv,
    flowers,
    food,
    hugging_face,
    inaturalist,
    pets,
)
from fgpipe.images.sources.archive import SUFFIXES as ARCHIVE_SUFFIXES
from fgpipe.images.sources.archive import is_archive, unpack
from fgpipe.images.sources.download import fetched, get_cifar, get_torchvision
from fgpipe.images.sources.folder import class_folders
from fgpipe.images.sources.source import Source
from fgpipe.images.sources.table import SUFFIXES as TABLE_SUFFIXES
from fgpipe.images.sources.table import columns_of, table_images

UNPACKED_NAME = "unpacked"
"""Folder in the working folder that archives are unpacked to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceKind:
    """One kind of source."""

    name: str
    """What ``--as`` calls it."""
    what: str
    """What it is, in a line."""
    layout: str
    """What must be on the disk."""
    licence: str | None = None
    """What its images may be used for, if that is known of all of its kind."""
    find: Callable[[Path], Path | None]
    """The place in (or at) a path where it is; None if it is not of this kind."""
    open: Callable[[Path, Path], Source]
    """Its images, from that place; the other folder may be written into."""
    fetch: Callable[[Path], Path] | None = None
    """Brings it into a folder, and says where; None where nothing can."""


def open_source(path: Path, *, kind: str | None, work: Path) -> Source:
    """The images of whatever lies at a path.

    Args:
        path: A folder, a table or an archive.
        kind: What it is, where that is not to be found out.
        work: A folder that may be written into; what is made there must outlive the source.

    Raises:
        InputError: If no kind is called so.
        DataError: If it is of no known kind or of several, or cannot be used.
    """
    chosen = None if kind is None else named_kind(kind)
    try:
        if not path.exists():
            raise DataError(f"{path} does not exist")
        if is_archive(path):
            return _open_archive(path, work, chosen)
        return _open(path, work, chosen)
    except OSError as error:
        raise DataError(f"{path} cannot be read, or unpacked to {work} ({error})") from None


def _open(path: Path, work: Path, chosen: SourceKind | None) -> Source:
    if chosen is not None:
        place = chosen.find(path)
        if place is None:
            raise DataError(f"{path} is no {chosen.name}; that is {chosen.layout}")
        return chosen.open(place, work)
    found = _detect(path)
    if len(found) > 1:
        names = ", ".join(each.name for each, _ in found)
        raise DataError(f"{path} could be {names}; say which with `--as KIND`")
    chosen, place = found[0]
    return chosen.open(place, work)


def named_kind(name: str) -> SourceKind:
    """A kind of source by its name.

    Raises:
        InputError: If there is none.
    """
    if name not in SOURCES:
        raise InputError(
            f"no source is called {name!r}; there is {', '.join(sorted(SOURCES))} "
            "(`fgpipe data sources` says what each is)"
        )
    return SOURCES[name]


def fetch_source(name: str, *, downloads: Path, work: Path) -> Source:
    """The images of a source that fgpipe can get by itself.

    Args:
        name: Its name.
        downloads: Where downloads are kept.
        work: A folder that may be written into; what is made there must outlive the source.

    Raises:
        InputError: If no kind is called so.
        UnavailableError: If it cannot be got.
        DataError: If what was got cannot be used.
    """
    kind = named_kind(name)
    if kind.fetch is None:
        able = ", ".join(sorted(each.name for each in SOURCES.values() if each.fetch))
        raise InputError(
            f"{name} cannot be fetched, {able} can; get the files and "
            f"`fgpipe data import PATH --as {name}`"
        )
    folder = kind.fetch(downloads / name)
    place = kind.find(folder)
    if place is None:
        raise DataError(f"{folder} is no {name}; that is {kind.layout}; remove it, fetch again")
    return kind.open(place, work)


def _detect(path: Path) -> list[tuple[SourceKind, Path]]:
    found = [
        (kind, place)
        for kind in SOURCES.values()
        if kind.name not in ("folder", "archive") and (place := kind.find(path)) is not None
    ]
    if not found and path.is_dir():  # the one kind that nothing marks
        found = [(SOURCES["folder"], path)]
    if not found:
        kinds = "\n".join(f"  {kind.name}: {kind.layout}" for kind in SOURCES.values())
        raise DataError(
            f"{path} is nothing that is known; looked for:\n{kinds}\n"
            "give it one of these forms, or say which it is with `--as KIND`"
        )
    return found


def _marked(
    *markers: str, inside: Sequence[str] = (), lacks: str | None = None
) -> Callable[[Path], Path | None]:
    """Finds a folder that holds some files, at a path or in a folder below it."""

    def find(path: Path) -> Path | None:
        for place in (path, *(path / name for name in inside)):
            there = all((place / marker).exists() for marker in markers)
            if there and (lacks is None or not (place / lacks).exists()):
                return place
        return None

    return find


def _folder(path: Path) -> Path | None:
    return path if path.is_dir() else None


def _table(path: Path) -> Path | None:
    """A table, or the only one in a folder that names paths and labels."""
    if path.is_file():
        return path if path.suffix.lower() in TABLE_SUFFIXES else None
    if not path.is_dir():
        return None
    tables = [each for each in sorted(path.iterdir()) if each.suffix.lower() in TABLE_SUFFIXES]
    fit = [each for each in tables if each.name[0] != "." and _names_images(each)]
    if len(fit) > 1:
        names = ", ".join(each.name for each in fit)
        raise DataError(f"{path} holds several tables, {names}; name one of them")
    return fit[0] if fit else None


def _names_images(path: Path) -> bool:
    try:
        return {"path", "label"} <= set(columns_of(path))
    except DataError:
        return False


def _archive(path: Path) -> Path | None:
    return path if is_archive(path) else None


def _open_archive(path: Path, work: Path, chosen: SourceKind | None) -> Source:
    """What an archive holds; messages name places in it as below the archive itself."""
    if chosen is not None and chosen.name == "archive":
        chosen = None
    unpacked = work / UNPACKED_NAME
    try:
        folder = unpack(path, to=unpacked)
        table = _table(folder) if chosen is None or chosen.name == "table" else None
        if table is not None:
            source = table_images(table, contained=True)
        else:
            source = _open(folder, work, chosen)
    except DataError as error:
        raise DataError(str(error).replace(str(unpacked), str(path))) from None
    return replace(source, name=str(path))


def _inaturalist_2021(path: Path) -> Path | None:
    return path if path.is_dir() and inaturalist.has_class_folders(path) else None


def _inaturalist(path: Path) -> Path | None:
    return path if path.is_dir() and inaturalist.has_annotations(path) else None


def _hugging_face(path: Path) -> Path | None:
    return path if path.is_dir() and hugging_face.shards_of(path) else None


def _fetch(kind: str, get: Callable[[Path], None]) -> Callable[[Path], Path]:
    return lambda folder: fetched(kind, folder, get=get)


_KINDS = (
    SourceKind(
        name="folder",
        what="a folder for each class",
        layout="FOLDER/<class>/**/image, or FOLDER/train|val|test/<class>/**/image",
        find=_folder,
        open=lambda place, _: class_folders(place),
    ),
    SourceKind(
        name="table",
        what="a table of images",
        layout="a CSV, TSV or Parquet file with the columns path and label "
        "(and group, split, parent, box, attributes)",
        find=_table,
        open=lambda place, _: table_images(place),
    ),
    SourceKind(
        name="archive",
        what="any of the others, packed",
        layout=f"a file called *{' *'.join(ARCHIVE_SUFFIXES)}",
        find=_archive,
        open=lambda place, work: _open_archive(place, work, None),
    ),
    SourceKind(
        name="hugging_face",
        what="a Hugging Face datasets folder in Parquet form",
        layout="[data/]train-00000-of-00001.parquet, or [default/]train/0000.parquet, with the "
        "columns image and label (and README.md)",
        find=_hugging_face,
        open=hugging_face.hugging_face,
    ),
    SourceKind(
        name="elpv",
        what="the demo: solar cells, by defect",
        layout="the package elpv-dataset, or its folder data with labels.csv and images/",
        licence=elpv.LICENCE,
        find=elpv.find,
        open=lambda place, _: elpv.elpv(place),
        fetch=lambda _: elpv.installed(),
    ),
    SourceKind(
        name="cub",
        what="CUB-200-2011: 200 species of birds",
        layout="images.txt, image_class_labels.txt, classes.txt, train_test_split.txt, "
        "bounding_boxes.txt, images/",
        licence=cub.CUB_LICENCE,
        find=_marked(
            "images.txt", "image_class_labels.txt", inside=["CUB_200_2011"], lacks="hierarchy.txt"
        ),
        open=lambda place, _: cub.cub(place),
    ),
    SourceKind(
        name="nabirds",
        what="NABirds: 555 kinds of North American birds",
        layout="as cub, with hierarchy.txt",
        licence=cub.NABIRDS_LICENCE,
        find=_marked("images.txt", "image_class_labels.txt", "hierarchy.txt", inside=["nabirds"]),
        open=lambda place, _: cub.nabirds(place),
    ),
    SourceKind(
        name="aircraft",
        what="FGVC-Aircraft: 100 variants of aircraft",
        layout="data/variants.txt, data/images_variant_train.txt ..., data/images/",
        licence=aircraft.LICENCE,
        find=_marked(
            "variants.txt",
            "images",
            inside=["data", "fgvc-aircraft-2013b/data", "fgvc-aircraft-2013b"],
        ),
        open=lambda place, _: aircraft.aircraft(place),
        fetch=_fetch("aircraft", get_torchvision("FGVCAircraft")),
    ),
    SourceKind(
        name="cars",
        what="Stanford Cars: 196 models of cars",
        layout="devkit/cars_meta.mat, devkit/cars_train_annos.mat, cars_train/ "
        "(cars_test_annos_withlabels.mat, cars_test/)",
        licence=cars.LICENCE,
        find=_marked("devkit/cars_meta.mat", inside=["stanford_cars"]),
        open=lambda place, _: cars.cars(place),
    ),
    SourceKind(
        name="flowers",
        what="Oxford Flowers-102",
        layout="imagelabels.mat, setid.mat, jpg/",
        licence=flowers.LICENCE,
        find=_marked("imagelabels.mat", inside=["flowers-102"]),
        open=lambda place, _: flowers.flowers(place),
        fetch=_fetch("flowers", get_torchvision("Flowers102")),
    ),
    SourceKind(
        name="pets",
        what="Oxford-IIIT Pet: 37 breeds of cats and dogs",
        layout="annotations/trainval.txt, annotations/test.txt, images/",
        licence=pets.LICENCE,
        find=_marked("annotations/trainval.txt", inside=["oxford-iiit-pet"]),
        open=lambda place, _: pets.pets(place),
        fetch=_fetch("pets", get_torchvision("OxfordIIITPet")),
    ),
    SourceKind(
        name="food",
        what="Food-101: 101 dishes",
        layout="meta/train.json, meta/test.json, images/",
        licence=food.LICENCE,
        find=_marked("meta/train.json", inside=["food-101"]),
        open=lambda place, _: food.food(place),
        fetch=_fetch("food", get_torchvision("Food101")),
    ),
    SourceKind(
        name="cifar10",
        what="CIFAR-10: 10 classes at 32 x 32 px",
        layout="batches.meta.txt, data_batch_1.bin ..., test_batch.bin (binary form)",
        licence=cifar.LICENCE,
        find=cifar.find_10,
        open=cifar.cifar10,
        fetch=_fetch("cifar10", get_cifar("CIFAR10")),
    ),
    SourceKind(
        name="cifar100",
        what="CIFAR-100: 100 classes at 32 x 32 px",
        layout="fine_label_names.txt, coarse_label_names.txt, train.bin, test.bin (binary form)",
        licence=cifar.LICENCE,
        find=cifar.find_100,
        open=cifar.cifar100,
        fetch=_fetch("cifar100", get_cifar("CIFAR100")),
    ),
    SourceKind(
        name="inaturalist2021",
        what="iNaturalist 2021, by folders",
        layout=f"[train|train_mini|val, or these with 2021_]/NNNNN_{'_'.join(inaturalist.RANKS)}/",
        licence=inaturalist.LICENCE,
        find=_inaturalist_2021,
        open=lambda place, _: inaturalist.by_folders(place),
    ),
    SourceKind(
        name="inaturalist",
        what="iNaturalist 2017 to 2019, by JSON files",
        layout="train20NN.json, val20NN.json, and the folders they name images in",
        licence=inaturalist.LICENCE,
        find=_inaturalist,
        open=lambda place, _: inaturalist.by_annotations(place),
    ),
)

SOURCES = {kind.name: kind for kind in _KINDS}
"""Every kind, by name."""
