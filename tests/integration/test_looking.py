"""Label errors and pages on the real demo, with the real embeddings, against cleanlab."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from fgpipe.cli import cli
from fgpipe.images.known_images import KnownImage, known_images
from fgpipe.intake.label_errors import fold_of_groups, out_of_fold_probabilities, review_labels
from fgpipe.metrics.confident_learning import (
    confident_joint,
    estimated_joint,
    find_label_errors,
)
from fgpipe.nn.embedder import create_embedder
from tests.support.intake import import_demo
from tests.support.params import change_params

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the demo's images."""
    root = tmp_path_factory.mktemp("looking")
    import_demo(root / "data" / "raw")
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, root)
    return root


@pytest.fixture(scope="module")
def cells(root: Path) -> tuple[list[KnownImage], np.ndarray]:
    """The demo's images and their embeddings, kept where the commands look for them."""
    embedder = create_embedder(root / ".fgpipe" / "measures")
    assert embedder is not None
    images = known_images(root / "data" / "raw")
    rows = embedder.embed(
        root / "data" / "raw",
        [image.path for image in images],
        sha256s=[image.sha256 for image in images],
        description="test",
    )
    return images, rows


@pytest.fixture
def inside(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(root)
    monkeypatch.setenv("FGPIPE_HOME", str(root))
    return root


def flipped(
    images: list[KnownImage], *, seed: int = 0
) -> tuple[list[KnownImage], np.ndarray, np.ndarray]:
    """Functional or defective, 5 % of the labels flipped; labels and which."""
    rng = np.random.default_rng(seed)
    targets = np.array([int(image.label.startswith("functional")) for image in images])
    wrong = rng.random(len(images)) < 0.05
    given = np.where(wrong, 1 - targets, targets)
    relabelled = [
        KnownImage(
            path=image.path,
            label=("defective", "functional")[target],
            sha256=image.sha256,
            group=image.group,
        )
        for image, target in zip(images, given, strict=True)
    ]
    return relabelled, given, wrong


def test_planted_errors_among_real_cells_come_to_the_top(
    cells: tuple[list[KnownImage], np.ndarray],
) -> None:
    images, rows = cells
    relabelled, _, wrong = flipped(images)

    review = review_labels(relabelled, rows, n_top=len(images))

    planted = {image.path for image, is_wrong in zip(images, wrong, strict=True) if is_wrong}
    found = [suspect.image.path in planted for suspect in review.suspects]
    print(
        f"first 50: {sum(found[:50]) / 50:.2f}, first {len(planted)}: "
        f"{sum(found[: len(planted)]) / len(planted):.2f}, all {len(found)} suspects: precision "
        f"{sum(found) / len(found):.2f}, recall {sum(found) / len(planted):.2f}"
    )
    # By chance 0.05. The rater's own doubtful labels are among the suspects too.
    assert sum(found[:50]) / 50 > 0.4
    assert sum(found[: len(planted)]) / len(planted) > 0.35
    assert sum(found) / len(planted) > 0.6


def test_the_joint_and_the_suspects_are_cleanlabs(
    cells: tuple[list[KnownImage], np.ndarray],
) -> None:
    from cleanlab.count import compute_confident_joint
    from cleanlab.filter import find_label_issues

    images, rows = cells
    _, given, _ = flipped(images)
    folds = fold_of_groups([image.group for image in images], given, n_folds=5)
    probabilities = out_of_fold_probabilities(rows, given, folds=folds)

    counts = confident_joint(probabilities, given)
    found = find_label_errors(probabilities, given)

    assert np.array_equal(counts, compute_confident_joint(given, probabilities, calibrate=False))
    calibrated = compute_confident_joint(given, probabilities, calibrate=True)
    assert np.abs(estimated_joint(counts, given) - calibrated).max() < 1  # cleanlab rounds
    issues = find_label_issues(
        given, probabilities, return_indices_ranked_by="normalized_margin", n_jobs=1
    )
    assert len(set(issues.tolist()) ^ set(found.suspects.tolist())) <= 0.01 * len(issues)
    assert issues[:100].tolist() == found.suspects[:100].tolist()


def test_label_errors_writes_what_it_says(
    inside: Path, cells: tuple[list[KnownImage], np.ndarray]
) -> None:
    result = CliRunner().invoke(cli, ["data", "label-errors", "--top", "12"])

    assert result.exit_code == 0, result.output
    assert "the 12 most suspicious are in reports/label-errors/suspects.csv" in result.output
    assert "fgpipe data relabel reports/label-errors/suspects.csv" in result.output
    lines = (inside / "reports" / "label-errors" / "suspects.csv").read_text().splitlines()
    assert len(lines) == 13
    page = (inside / "reports" / "label-errors" / "report.html").read_text()
    assert page.count("<img ") == 12 * 9


def test_show_writes_a_page_a_class_and_leads_to_them(
    inside: Path, cells: tuple[list[KnownImage], np.ndarray]
) -> None:
    result = CliRunner().invoke(cli, ["data", "show", "--per-class", "5", "--to", "pages"])

    assert result.exit_code == 0, result.output
    assert "open pages/data.html in a browser" in result.output
    assert len(list((inside / "pages" / "data-classes").iterdir())) == 4
    page = (inside / "pages" / "data.html").read_text()
    assert "2,624 images of 4 classes in 44 groups" in page
    assert page.count('class="pair"') == 36


def test_show_makes_a_page_of_what_training_sees(
    inside: Path, cells: tuple[list[KnownImage], np.ndarray]
) -> None:
    change_params(
        inside,
        preprocess={"image_size_px": 64},
        train={"augment": "textures", "mix": "cutmix", "erasing": 0.3},
    )

    result = CliRunner().invoke(
        cli, ["data", "show", "--augmented", "--per-class", "2", "--to", "augmented"]
    )

    assert result.exit_code == 0, result.output
    page = (inside / "augmented" / "data-augmented.html").read_text()
    assert "12 of 2,624 images" in page
    assert page.count("<img ") > 12 * 9
    assert 'href="data-augmented.html"' in (inside / "augmented" / "data.html").read_text()
