"""What a new user does wrong: one clear message, exit code 2, nothing half-written."""

import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from fgpipe.pipeline import run_stage
from fgpipe.records import file_sha256
from tests.support.params import change_params
from tests.support.ports import fake_ports
from tests.support.real_project import environment
from tests.support.synthetic import draw, write_class_folders

pytestmark = pytest.mark.e2e


def complain(*arguments: str, root: Path) -> str:
    """The one message of a command that must exit with 2."""
    done = subprocess.run(
        [sys.executable, "-m", "fgpipe", *arguments],
        cwd=root,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stderr.count("fgpipe: ") == 1, done.stderr
    return done.stderr


@pytest.fixture
def empty_project(project: Path) -> Path:
    """A project without images."""
    (project / "data" / "raw").rename(project.parent / "raw")
    (project / "dvc.yaml").touch()
    return project


def save(path: Path, label: str = "amber_disc", *, group: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw(label, group=group)).save(path)


def text_named_png(folder: Path) -> str:
    (folder / "amber_disc" / "notes.png").write_text("not an image")
    return "notes.png"


def truncated_jpeg(folder: Path) -> str:
    path = folder / "amber_disc" / "half.jpg"
    save(path, group=77)
    path.write_bytes(path.read_bytes()[:-600])
    return "half.jpg"


def empty_file(folder: Path) -> str:
    (folder / "amber_disc" / "nothing.png").touch()
    return "nothing.png"


@pytest.mark.parametrize("flaw", [text_named_png, truncated_jpeg, empty_file])
def test_a_class_of_images_that_are_none_is_named_and_nothing_is_imported(
    empty_project: Path, tmp_path: Path, flaw: Callable[[Path], str]
) -> None:
    folder = write_class_folders(tmp_path / "photos")
    shutil.rmtree(folder / "amber_disc")
    (folder / "amber_disc").mkdir()
    name = flaw(folder)

    message = complain("data", "import", str(folder), root=empty_project)

    assert name in message
    left = sorted(path.name for path in (empty_project / "data").iterdir())
    assert left == ["baseline.json", "expectations.yaml"]


def test_an_empty_folder_and_one_that_is_not_there(empty_project: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    assert "empty" in complain("data", "import", str(tmp_path / "empty"), root=empty_project)
    assert "nowhere" in complain("data", "import", str(tmp_path / "nowhere"), root=empty_project)
    assert not (empty_project / "data" / "raw").exists()


def test_one_class_only(empty_project: Path, tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / "photos" / "only" / f"{number}.png", group=number)

    message = complain("data", "import", str(tmp_path / "photos"), root=empty_project)

    assert "only" in message


def test_a_class_with_one_image_is_refused_by_the_suite(project: Path) -> None:
    (project / "dvc.yaml").touch()
    raw = project / "data" / "raw"
    save(raw / "images" / "single.png", group=99)
    write_labels(raw, extra="images/single.png,lonely,amber,individual99,day")
    add_to_groups(raw, raw / "images" / "single.png")
    run_stage("manifest", root=project, ports=fake_ports(project))

    message = complain("validate", root=project)

    assert "lonely" in message
    assert not (project / "data" / "02_validate" / "record.json").exists()
    assert "lonely" in (project / "data" / "02_validate" / "payload" / "report.html").read_text()


def write_labels(raw: Path, *, extra: str) -> None:
    path = raw / "labels.csv"
    path.write_text(path.read_text().rstrip("\n") + "\n" + extra + "\n")


def add_to_groups(raw: Path, image: Path) -> None:
    digest = file_sha256(image)
    path = raw / "groups.csv"
    path.write_text(path.read_text() + f"{digest},{digest},2,lonely,active\n")


def test_labels_that_name_a_missing_file(project: Path) -> None:
    (project / "dvc.yaml").touch()
    write_labels(
        project / "data" / "raw", extra="images/missing.png,amber_disc,amber,individual000,day"
    )

    assert "images/missing.png" in complain("manifest", root=project)
    assert not (project / "data" / "01_manifest" / "record.json").exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda text: text.replace("learning_rate:", "learnin_rate:"), "train.learnin_rate"),
        (lambda text: text.replace("image_size_px: 64", "image_size_px: big"), "image_size_px"),
        (lambda text: text.replace("gate:\n", "gates:\n"), "gate: missing"),
    ],
)
def test_a_mistake_in_params_is_named_with_its_path(
    project: Path, change: Callable[[str], str], named: str
) -> None:
    (project / "dvc.yaml").touch()
    path = project / "params.yaml"
    changed = change(path.read_text())
    assert changed != path.read_text()
    path.write_text(changed)

    assert named in complain("manifest", root=project)


def test_a_backbone_that_does_not_exist(project: Path) -> None:
    (project / "dvc.yaml").touch()
    for stage in ("manifest", "validate", "preprocess", "pretrain"):
        run_stage(stage, root=project, ports=fake_ports(project))
    change_params(project, train={"backbone": "efficientnet_lite99"})

    assert "timm has no model 'efficientnet_lite99'" in complain("train", root=project)


def test_serving_before_anything_was_promoted(project: Path) -> None:
    (project / "dvc.yaml").touch()

    assert "no model has been promoted yet" in complain("serve", root=project)


def test_a_port_in_use(project: Path) -> None:
    (project / "dvc.yaml").touch()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = str(listener.getsockname()[1])

        message = complain("ui", "--port", port, root=project)

    assert port in message


def test_a_project_in_a_folder_that_is_not_empty(project: Path, tmp_path: Path) -> None:
    (project / "dvc.yaml").touch()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()

    assert "is not empty" in complain("init", str(tmp_path / "taken"), root=project)
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["file"]
