"""A folder of class folders: ``FOLDER/[train|val|test/]<label>/**/image``."""

from pathlib import Path

from fgpipe.errors import DataError
from fgpipe.images.files import EXTENSIONS, list_images
from fgpipe.images.sources.gathering import SPLIT_NAMES, gather
from fgpipe.images.sources.source import Source, SourceImage
from fgpipe.records import Split


def class_folders(folder: Path) -> Source:
    """The images of a folder that has one folder a class, named by it.

    Where every folder in it is called like a split (train, val, test ...), the class folders
    are below those, and say so. Hidden files and folders, what macOS adds to archives, and
    files whose extension is not an image's, are passed over.

    Args:
        folder: The folder of class folders.

    Raises:
        DataError: If it does not exist, has no class folders, has one without images, or has
            images, or both splits and other folders, beside its class folders.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; name one that holds a folder for each class")
    names = folder_names(folder)
    if names and all(name.lower() in SPLIT_NAMES for name in names):
        _refuse_loose(folder)
        images = [
            image
            for name in names
            for image in _of_one_split(folder, name, split=SPLIT_NAMES[name.lower()])
        ]
    else:
        _refuse_some_splits(folder, names)
        images = _of_one_split(folder, "", split=None)
    return gather(str(folder), images, seen=True)


def folder_names(folder: Path) -> list[str]:
    """Folders right below, but for hidden ones and what macOS adds to archives."""
    return sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.is_dir() and not entry.name.startswith((".", "__MACOSX"))
    )


def _refuse_some_splits(folder: Path, names: list[str]) -> None:
    """Splits beside other folders would become classes, of which each holds all classes."""
    splits = [name for name in names if name.lower() in SPLIT_NAMES]
    for split in splits:
        if folder_names(folder / split) and not _loose(folder / split):
            others = ", ".join(name for name in names if name not in splits)
            raise DataError(
                f"{folder / split} holds folders and is called like a split, but beside it there "
                f"is {others}; move that away, or call it like a split "
                f"({', '.join(SPLIT_NAMES)}); if {split} is a class, put its images right into it"
            )


def _loose(folder: Path) -> list[str]:
    """Images right below."""
    return sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.suffix.lower() in EXTENSIONS and not entry.name.startswith(".")
    )


def _refuse_loose(folder: Path) -> None:
    loose = _loose(folder)
    if loose:
        raise DataError(
            f"{folder} holds images outside its class folders, {loose[0]} first "
            f"({len(loose)} in all); move each into the folder of its class"
        )


def _of_one_split(folder: Path, name: str, *, split: Split | None) -> list[SourceImage]:
    place = folder / name if name else folder
    labels = folder_names(place)
    if not labels:
        raise DataError(f"{place} holds no class folders; put images in {place}/<class>/")
    _refuse_loose(place)
    images = []
    for label in labels:
        files = list_images(place / label)
        if not files:
            raise DataError(
                f"{place / label} holds no images ({' '.join(sorted(EXTENSIONS))}); "
                "add some, or remove the folder"
            )
        images += [
            SourceImage(
                file=file,
                path=f"images/{file.relative_to(folder).as_posix()}",
                label=label,
                split=split,
            )
            for file in files
        ]
    return images
