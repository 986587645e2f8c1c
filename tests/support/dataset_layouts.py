"""Small sets in the layouts that publishers use: names and annotation formats are theirs."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tests.support.synthetic import LABELS, draw

_drawn: dict[tuple[int, str], bytes] = {}


def picture(number: int = 0, format_: str = "JPEG") -> bytes:
    """One of a dozen small images."""
    key = (number % 12, format_)
    if key not in _drawn:
        file = io.BytesIO()
        pixels = draw(LABELS[key[0] % 4], group=key[0], size_px=32)
        Image.fromarray(pixels).save(file, format_)
        _drawn[key] = file.getvalue()
    return _drawn[key]


def put(path: Path, number: int = 0) -> Path:
    """An image at a path, in the format its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture(number, "PNG" if path.suffix == ".png" else "JPEG"))
    return path


def text(path: Path, *lines: str) -> Path:
    """A text file of these lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def cub(folder: Path) -> Path:
    """CUB-200-2011."""
    names = [
        "001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg",
        "001.Black_footed_Albatross/Black_Footed_Albatross_0009_34.jpg",
        "002.Laysan_Albatross/Laysan_Albatross_0002_1027.jpg",
    ]
    text(folder / "images.txt", *(f"{i} {name}" for i, name in enumerate(names, 1)))
    text(folder / "image_class_labels.txt", "1 1", "2 1", "3 2")
    text(folder / "classes.txt", "1 001.Black_footed_Albatross", "2 002.Laysan_Albatross")
    text(folder / "train_test_split.txt", "1 0", "2 1", "3 1")
    boxes = ("1 60.0 27.0 325.0 304.0", "2 139.0 30.0 153.0 264.0", "3 14.0 112.0 388.0 186.0")
    text(folder / "bounding_boxes.txt", *boxes)
    for i, name in enumerate(names):
        put(folder / "images" / name, i)
    return folder


def nabirds(folder: Path) -> Path:
    """NABirds; two classes of one name, as it has."""
    ids = ("0000139e-21dc-4d0c-bfe1-4cae3c85c829", "0000d9fc-4e02-4c06-a0af-a55cfb16b12b")
    ids += ("00019306-9d83-4334-b255-a447742edce3",)
    names = [
        f"{class_}/{id_.replace('-', '')}.jpg" for class_, id_ in zip(CLASSES, ids, strict=True)
    ]
    text(folder / "images.txt", *map(" ".join, zip(ids, names, strict=True)))
    text(
        folder / "image_class_labels.txt",
        *map(" ".join, zip(ids, ("817", "860", "900"), strict=True)),
    )
    classes = (
        "0 Birds",
        "22 Perching Birds",
        "817 Oak Titmouse",
        "860 House Finch",
        "900 House Finch",
    )
    text(folder / "classes.txt", *classes)
    text(folder / "hierarchy.txt", "22 0", "817 22", "860 22", "900 22")
    text(folder / "train_test_split.txt", f"{ids[0]} 0", f"{ids[1]} 1", f"{ids[2]} 1")
    text(folder / "bounding_boxes.txt", *(f"{id_} 83 59 128 228" for id_ in ids))
    for i, name in enumerate(names):
        put(folder / "images" / name, i)
    return folder


CLASSES = ("0817", "0860", "0900")
"""Folders of NABirds."""


def aircraft(folder: Path) -> Path:
    """FGVC-Aircraft, below ``data``."""
    data = folder / "data"
    rows = {
        "train": [("1025794", "707-320", "Boeing 707", "Boeing")],
        "val": [("0056978", "A300B4", "A300", "Airbus")],
        "test": [("1514522", "707-320", "Boeing 707", "Boeing")],
    }
    text(data / "variants.txt", "707-320", "A300B4")
    for part, images in rows.items():
        for level, position in (("variant", 1), ("family", 2), ("manufacturer", 3)):
            lines = (f"{image[0]} {image[position]}" for image in images)
            text(data / f"images_{level}_{part}.txt", *lines)
    lines = ("1025794 3 144 998 431", "0056978 8 254 998 660", "1514522 44 170 970 520")
    text(data / "images_box.txt", *lines)
    for i, image in enumerate(row[0] for images in rows.values() for row in images):
        put(data / "images" / f"{image}.jpg", i)
    return folder


def cars(folder: Path, *, with_test: bool = True) -> Path:
    """Stanford Cars."""
    from scipy.io import savemat

    corners = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")
    type_ = np.dtype([(name, object) for name in (*corners, "class", "fname")])

    def annotations(*rows: tuple[int | str, ...]) -> dict[str, np.ndarray]:
        return {"annotations": np.array([list(rows)], dtype=type_)}

    devkit = folder / "devkit"
    devkit.mkdir(parents=True)
    names = np.empty((1, 2), dtype=object)
    names[0] = ["AM General Hummer SUV 2000", "Acura RL Sedan 2012"]
    savemat(devkit / "cars_meta.mat", {"class_names": names})
    train = annotations((39, 116, 569, 375, 1, "00001.jpg"), (36, 116, 868, 587, 2, "00002.jpg"))
    savemat(devkit / "cars_train_annos.mat", train)
    for name in ("00001", "00002"):
        put(folder / "cars_train" / f"{name}.jpg", int(name))
    if with_test:
        test = annotations((30, 52, 246, 147, 2, "00001.jpg"), (100, 19, 576, 203, 1, "00002.jpg"))
        savemat(folder / "cars_test_annos_withlabels.mat", test)
        for name in ("00001", "00002"):
            put(folder / "cars_test" / f"{name}.jpg", 2 + int(name))
    return folder


def flowers(folder: Path, *, labels: Sequence[int] = (77, 77, 1, 102, 1, 102)) -> Path:
    """Flowers-102."""
    from scipy.io import savemat

    folder.mkdir(parents=True)
    savemat(folder / "imagelabels.mat", {"labels": np.array([labels], dtype=np.uint8)})
    sets = {"trnid": [[1, 3]], "valid": [[2, 5]], "tstid": [[4, 6]]}
    savemat(folder / "setid.mat", {key: np.array(ids, np.uint16) for key, ids in sets.items()})
    for i in range(1, 7):
        put(folder / "jpg" / f"image_{i:05d}.jpg", i)
    return folder


def pets(folder: Path) -> Path:
    """Oxford-IIIT Pet."""
    annotations = folder / "annotations"
    text(annotations / "trainval.txt", "Abyssinian_100 1 1 1", "american_bulldog_100 2 2 1")
    text(annotations / "test.txt", "Abyssinian_201 1 1 1", "american_bulldog_203 2 2 1")
    names = ("Abyssinian_100", "american_bulldog_100", "Abyssinian_201", "american_bulldog_203")
    for i, name in enumerate(names):
        put(folder / "images" / f"{name}.jpg", i)
    return folder


def food(folder: Path) -> Path:
    """Food-101."""
    train = {"apple_pie": ["apple_pie/1005649"], "baby_back_ribs": ["baby_back_ribs/1005293"]}
    test = {"apple_pie": ["apple_pie/1011328"], "baby_back_ribs": ["baby_back_ribs/104095"]}
    for i, (part, names) in enumerate((("train", train), ("test", test))):
        text(folder / "meta" / f"{part}.json", json.dumps(names))
        for j, (name,) in enumerate(names.values()):
            put(folder / "images" / f"{name}.jpg", 2 * i + j)
    return folder


def planes(number: int) -> np.ndarray:
    """An image of CIFAR, channels last."""
    return draw(LABELS[number % 4], group=number, size_px=32)


def cifar10(folder: Path) -> Path:
    """CIFAR-10 in binary form, two images a file."""
    text(folder / "batches.meta.txt", "airplane", "automobile", "bird")
    names = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    for i, name in enumerate(names):
        records = (
            bytes([number % 3]) + planes(number).transpose(2, 0, 1).tobytes()
            for number in (2 * i, 2 * i + 1)
        )
        (folder / name).write_bytes(b"".join(records))
    return folder


def cifar100(folder: Path) -> Path:
    """CIFAR-100 in binary form, two images a file."""
    text(folder / "fine_label_names.txt", "apple", "aquarium_fish")
    text(folder / "coarse_label_names.txt", "fruit_and_vegetables", "fish")
    for i, name in enumerate(("train.bin", "test.bin")):
        records = (bytes([j, j]) + planes(2 * i + j).transpose(2, 0, 1).tobytes() for j in range(2))
        (folder / name).write_bytes(b"".join(records))
    return folder


INATURALIST_FOLDERS = (
    "00000_Animalia_Annelida_Clitellata_Haplotaxida_Lumbricidae_Lumbricus_terrestris",
    "00001_Animalia_Annelida_Polychaeta_Sabellida_Sabellidae_Sabella_spallanzanii",
)
"""Two classes of iNaturalist 2021."""


def inaturalist_2021(folder: Path) -> Path:
    """iNaturalist 2021."""
    for i, name in enumerate(INATURALIST_FOLDERS):
        put(folder / "train_mini" / name / "410e2cc5-e934-486e-ac56-67fbbe8e4c65.jpg", i)
        put(folder / "val" / name / "63bb5a2b-5a4e-4a3a-a7ad-9cd8d80e9e40.jpg", 2 + i)
    return folder


def inaturalist_2018(folder: Path, *, categories: bool = True) -> Path:
    """iNaturalist 2018."""
    kinds = [{"id": 0, "name": "8142", "supercategory": "Fungi"}]
    kinds += [{"id": 1, "name": "8143", "supercategory": "Aves"}]
    for i, part in enumerate(("train", "val")):
        names = [f"train_val2018/{kinds[j]['supercategory']}/{j}/{i}{j}de.jpg" for j in range(2)]
        content = {
            "images": [{"id": 10 * i + j, "file_name": names[j]} for j in range(2)],
            "annotations": [
                {"id": 10 * i + j, "image_id": 10 * i + j, "category_id": j} for j in range(2)
            ],
            "categories": kinds,
        }
        text(folder / f"{part}2018.json", json.dumps(content))
        for j, name in enumerate(names):
            put(folder / name, 2 * i + j)
    if categories:
        named = [
            {"id": 0, "name": "Amanita muscaria", "genus": "Amanita", "supercategory": "Fungi"},
            {"id": 1, "name": "Pica pica", "genus": "Pica", "supercategory": "Aves"},
        ]
        text(folder / "categories.json", json.dumps(named))
    return folder


def hugging_face(folder: Path, *, labels: Sequence[int | None] = (0, 1, 1)) -> Path:
    """A ``datasets`` folder of two splits."""
    import pyarrow as pa
    from pyarrow import parquet

    features = {
        "image": {"_type": "Image"},
        "label": {"names": ["angular_leaf_spot", "healthy"], "_type": "ClassLabel"},
    }
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema(
        [("image", image), ("label", pa.int64())],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    (folder / "data").mkdir(parents=True)
    for i, part in enumerate(("train", "validation")):
        rows = [
            {
                "image": {
                    "bytes": picture(3 * i + j, ("JPEG", "PNG")[j % 2]),
                    "path": f"{part}_{j}.jpg",
                },
                "label": label,
            }
            for j, label in enumerate(labels)
        ]
        table = pa.Table.from_pylist(rows, schema=schema)
        parquet.write_table(table, folder / "data" / f"{part}-00000-of-00001.parquet")
    return folder


def without_metadata(folder: Path) -> None:
    """Take what ``datasets`` writes into the schema from its Parquet files."""
    from pyarrow import parquet

    for path in folder.rglob("*.parquet"):
        parquet.write_table(parquet.read_table(path).replace_schema_metadata(None), path)


HUGGING_FACE_CARD = """---
license: mit
dataset_info:
{entry}  features:
  - name: image
    dtype: image
  - name: label
    dtype:
      class_label:
        names:
          '0': sick
          '1': well
configs:
- config_name: default
---
# Beans
"""
"""A card of such a folder, which names the classes; ``entry`` opens one of a list."""
