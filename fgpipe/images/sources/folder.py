"""A folder of class folders: ``FOLDER/<label>/**/image``."""

from pathlib import Path

from fgpipe.errors import DataError
from fgpipe.images.files import EXTENSIONS, list_images
from fgpipe.images.sources.source import Source, SourceImage


def class_folders(folder: Path) -> Source:
    """The images of a folder that has one folder a class, named by it.

    Hidden files and folders, and files whose extension is not an image's, are passed over.

    Args:
        folder: The folder of class folders.

    Raises:
        DataError: If it does not exist, has fewer than two class folders, has one without
            images, or has images beside its class folders.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; name one that holds a folder for each class")
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    labels = [entry.name for entry in entries if entry.is_dir()]
    loose = [entry.name for entry in entries if entry.suffix.lower() in EXTENSIONS]
    if not labels:
        raise DataError(f"{folder} holds no class folders; put images in {folder}/<class>/")
    if loose:
        raise DataError(
            f"{folder} holds images outside its class folders, {loose[0]} first "
            f"({len(loose)} in all); move each into the folder of its class"
        )
    if len(labels) == 1:
        raise DataError(
            f"{folder} holds one class only, {labels[0]}; a classifier needs at least two"
        )
    images = []
    for label in labels:
        files = list_images(folder / label)
        if not files:
            raise DataError(
                f"{folder / label} holds no images ({' '.join(sorted(EXTENSIONS))}); "
                "add some, or remove the folder"
            )
        images += [
            SourceImage(
                file=file, path=f"images/{file.relative_to(folder).as_posix()}", label=label
            )
            for file in files
        ]
    return Source(name=str(folder), images=tuple(sorted(images, key=lambda image: image.path)))
