"""The demo's labels and its reconstructed modules."""

from collections import Counter
from pathlib import Path

import pytest

from fgpipe.errors import DataError
from fgpipe.images.sources.elpv import images_of, reconstruct_modules

RUNS = (60, 300, 180, 360, 714, 530, 72, 180, 48, 180)
TYPES = ["mono" if run % 2 == 0 else "poly" for run, n in enumerate(RUNS) for _ in range(n)]


def test_the_ten_runs_give_44_modules_of_one_type_and_48_to_72_cells() -> None:
    modules = reconstruct_modules(TYPES)

    sizes = Counter(modules)
    assert list(sizes) == list(range(1, 45))
    assert 48 <= min(sizes.values()) <= max(sizes.values()) <= 72
    assert len(set(zip(modules, TYPES, strict=True))) == 44
    assert Counter(dict(zip(modules, TYPES, strict=True)).values()) == {"mono": 18, "poly": 26}


@pytest.mark.parametrize("types", [[*TYPES[:-1], "mono"], TYPES[30:], TYPES[:700], []])
def test_another_order_of_cells_is_not_cut_into_modules(types: list[str]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - either zip's or the size's
        reconstruct_modules(types)


def write_package(data: Path, lines: list[str]) -> Path:
    (data / "labels.csv").write_text("\n".join(lines) + "\n")
    return data


def test_probabilities_become_labels_and_parents(tmp_path: Path) -> None:
    chances = ["0.0", "0.3333333333333333", "0.6666666666666666", "1.0"]
    lines = [f"images/cell{i:04d}.png  {chances[i % 4]}   {type_}" for i, type_ in enumerate(TYPES)]

    images = images_of(write_package(tmp_path, lines))

    assert [(image.label, image.parent) for image in images[:4]] == [
        ("functional_sure", "functional"),
        ("functional_unsure", "functional"),
        ("defective_unsure", "defective"),
        ("defective_sure", "defective"),
    ]
    assert images[0].path == "images/cell0000.png"
    assert images[0].file == tmp_path / "images" / "cell0000.png"
    assert (images[59].group, images[60].group) == ("module01", "module02")
    assert images[60].attributes == {"cell_type": "poly"}


@pytest.mark.parametrize("line", ["images/a.png 0.5 mono", "images/a.png 1.0", "a b c", ""])
def test_a_package_with_another_table_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(DataError, match="not that of elpv-dataset"):
        images_of(write_package(tmp_path, [line]))
