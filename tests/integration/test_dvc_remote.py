"""Data go to a remote and come back elsewhere with the same hash; what fails is told once."""

import os
import pty
import shutil
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
import yaml

from fgpipe.adapters.dvc_remote import NO_REMOTE, DvcRemote
from fgpipe.adapters.dvc_runner import DvcRunner, initialise
from fgpipe.errors import FgpipeError, InputError, NotReadyError, UnavailableError
from tests.support.intake import content
from tests.support.sftp_server import SftpServer
from tests.support.tiny_project import commit, git

pytestmark = pytest.mark.integration

KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    """A repository with data added and a stage run."""
    return Path(shutil.copytree(template, tmp_path / "project"))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("template")
    (root / "data" / "raw" / "images").mkdir(parents=True)
    for number in range(5):
        (root / "data" / "raw" / "images" / f"{number}.png").write_bytes(bytes([number]) * 100)
    (root / "data" / "raw" / "labels.csv").write_text("path,label\n")
    stage = {"cmd": "wc -c < data/raw/labels.csv > data/out", "deps": ["data/raw"]}
    (root / "dvc.yaml").write_text(
        yaml.safe_dump({"stages": {"s": stage | {"outs": ["data/out"]}}})
    )
    git("init", "--quiet", root=root)
    initialise(root)
    DvcRunner(root).add(Path("data/raw"))
    DvcRunner(root).reproduce("")
    commit(root, "start")
    return root


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an S3 server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=tmp_path_factory.mktemp("s3"), **quiet) as server:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
        server.terminate()


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture
def bucket(s3: str, tmp_path: Path, credentials: None) -> str:
    """A bucket of this test's own."""
    name = tmp_path.name.replace("_", "-")[-60:].strip("-")
    boto3.client("s3", endpoint_url=s3).create_bucket(Bucket=name)
    return name


def pushed_and_pulled_elsewhere(project: Path, tmp_path: Path) -> Path:
    """A second clone, with nothing but what the remote has."""
    before = content(project / "data")
    DvcRemote(project).push()
    commit(project, "remote")
    shutil.rmtree(project / ".dvc" / "cache")
    git("clone", "--quiet", str(project), str(tmp_path / "clone"), root=tmp_path)

    DvcRemote(tmp_path / "clone").pull()

    assert content(tmp_path / "clone" / "data") == before
    return tmp_path / "clone"


def test_a_folder_is_a_remote(project: Path, tmp_path: Path) -> None:
    remote = DvcRemote(project)
    said = remote.describe()
    remote.set(str(tmp_path / "share"))

    clone = pushed_and_pulled_elsewhere(project, tmp_path)

    assert said == NO_REMOTE
    assert remote.describe() == f"the remote is {tmp_path / 'share'}"
    assert remote.push() == f"{tmp_path / 'share'}: Everything is up to date."
    assert DvcRunner(clone).is_up_to_date()
    assert DvcRunner(clone).add(Path("data/raw")) == DvcRunner(project).add(Path("data/raw"))


def test_a_bucket_on_an_s3_server_is_a_remote(
    project: Path, tmp_path: Path, s3: str, bucket: str
) -> None:
    remote = DvcRemote(project)
    remote.set(f"s3://{bucket}/team", endpoint_url=s3)

    clone = pushed_and_pulled_elsewhere(project, tmp_path)

    assert remote.describe() == f"the remote is s3://{bucket}/team at {s3}"
    stored = boto3.client("s3", endpoint_url=s3).list_objects_v2(Bucket=bucket)
    assert stored["KeyCount"] >= 8
    assert all(item["Key"].startswith("team/") for item in stored["Contents"])
    assert DvcRunner(clone).add(Path("data/raw")) == DvcRunner(project).add(Path("data/raw"))
    assert "testing" not in (project / ".dvc" / "config").read_text()


def test_an_ssh_server_is_a_remote(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SftpServer(tmp_path / "server") as server:
        monkeypatch.setenv("HOME", str(server.client_home))
        DvcRemote(project).set(f"ssh://team@127.0.0.1:{server.port}/share")

        pushed_and_pulled_elsewhere(project, tmp_path)

    assert list((tmp_path / "server" / "files" / "share").iterdir())


def test_another_remote_takes_the_place_of_the_former(project: Path, tmp_path: Path) -> None:
    remote = DvcRemote(project)
    remote.set("s3://bucket/a", endpoint_url="http://127.0.0.1:9")

    remote.set(str(tmp_path / "share"))

    assert "endpointurl" not in (project / ".dvc" / "config").read_text()
    assert remote.describe() == f"the remote is {tmp_path / 'share'}"


def test_a_relative_path_is_noted_absolute_for_clones_elsewhere(
    project: Path, tmp_path: Path
) -> None:
    DvcRemote(project).set("../share")

    assert f"url = {tmp_path / 'share'}" in (project / ".dvc" / "config").read_text()


WRONG = {
    "a file": ("dvc.yaml", None, "is no folder"),
    "the project": (".", None, "is in the project"),
    "a folder of the project": ("data/raw", None, "is in the project"),
    "nothing": (" ", None, "is no folder"),
    "an unknown kind": ("ftp://host/x", None, "give a folder's path, ssh://... or s3://..."),
    "a password": ("ssh://me:secret@host/x", None, "has a password in it"),
    "a key": ("s3://key:secret@bucket/x", None, "has a password in it"),
    "no bucket": ("s3:///x", None, "names no bucket"),
    "no host": ("ssh:///x", None, "names no host"),
    "a missing plugin": ("gs://bucket/x", None, "`pip install dvc-gs` brings it"),
    "endpoint of a folder": ("../share", "http://x", "goes with s3://"),
    "endpoint without scheme": ("s3://bucket/x", "host:9000", "must begin with http"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_a_remote_is_refused_and_noted_nowhere(
    project: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.chdir(project)
    url, endpoint_url, says = WRONG[case]
    before = (project / ".dvc" / "config").read_bytes()

    with pytest.raises(InputError) as caught:
        DvcRemote(project).set(url, endpoint_url=endpoint_url)

    assert says in str(caught.value)
    assert "secret" not in str(caught.value)
    assert (project / ".dvc" / "config").read_bytes() == before


def test_a_missing_extra_is_named_with_its_command(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fgpipe.adapters.dvc_remote.find_spec", lambda name: None)

    with pytest.raises(UnavailableError, match=r"`pip install 'fgpipe\[s3\]'` brings it"):
        DvcRemote(project).set("s3://bucket/x")


def no_remote(project: Path, bucket: str, s3: str, patch: pytest.MonkeyPatch) -> None:
    del project, bucket, s3, patch


def no_server(project: Path, bucket: str, s3: str, patch: pytest.MonkeyPatch) -> None:
    DvcRemote(project).set(f"s3://{bucket}/x", endpoint_url="http://127.0.0.1:9")


def no_ssh_server(project: Path, bucket: str, s3: str, patch: pytest.MonkeyPatch) -> None:
    DvcRemote(project).set("ssh://127.0.0.1:9/x")


def no_credentials(project: Path, bucket: str, s3: str, patch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        patch.delenv(name)
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    patch.setenv("HOME", str(project))
    DvcRemote(project).set(f"s3://{bucket}/x", endpoint_url=s3)


def no_bucket(project: Path, bucket: str, s3: str, patch: pytest.MonkeyPatch) -> None:
    DvcRemote(project).set("s3://there-is-none/x", endpoint_url=s3)


def no_permission(project: Path, bucket: str, s3: str, patch: pytest.MonkeyPatch) -> None:
    (project.parent / "share").write_text("a file in the way")
    DvcRemote(project).set(str(project.parent / "share" / "below"))


FAILURES: list[tuple[Callable[..., None], type[FgpipeError], str]] = [
    (no_remote, NotReadyError, "`fgpipe data remote URL` sets one"),
    (no_server, UnavailableError, "Could not connect to the endpoint"),
    (no_ssh_server, UnavailableError, "cannot be reached"),
    (no_credentials, UnavailableError, "asks for credentials"),
    (no_bucket, UnavailableError, "does not exist; make it first"),
    (no_permission, FgpipeError, "share/below"),
]


@pytest.mark.parametrize(
    ("break_", "kind", "says"), FAILURES, ids=[failure[0].__name__ for failure in FAILURES]
)
def test_a_push_that_fails_says_why_in_one_message(
    project: Path,
    s3: str,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    break_: Callable[..., None],
    kind: type[FgpipeError],
    says: str,
) -> None:
    break_(project, bucket, s3, monkeypatch)

    with pytest.raises(kind) as caught:
        DvcRemote(project).push()

    assert says in str(caught.value)
    assert "dvc.org" not in str(caught.value)
    assert "".join(capfd.readouterr()) == ""


def test_what_was_never_pushed_is_named(project: Path, tmp_path: Path) -> None:
    DvcRemote(project).set(str(tmp_path / "share"))
    (tmp_path / "share").mkdir()
    commit(project, "remote")
    git("clone", "--quiet", str(project), str(tmp_path / "clone"), root=tmp_path)

    with pytest.raises(NotReadyError, match=r"lacks .*data/raw.*`fgpipe data push`"):
        DvcRemote(tmp_path / "clone").pull()


def test_what_no_stage_has_made_yet_is_not_missed(project: Path, tmp_path: Path) -> None:
    (project / "dvc.lock").unlink()
    DvcRemote(project).set(str(tmp_path / "share"))
    DvcRemote(project).push()
    commit(project, "remote")
    git("clone", "--quiet", str(project), str(tmp_path / "clone"), root=tmp_path)

    said = DvcRemote(tmp_path / "clone").pull()

    assert content(tmp_path / "clone" / "data" / "raw") == content(project / "data" / "raw")
    assert "7 files fetched" in said
    shutil.rmtree(tmp_path / "share")
    shutil.rmtree(tmp_path / "clone" / ".dvc" / "cache")
    shutil.rmtree(tmp_path / "clone" / "data" / "raw")
    with pytest.raises(NotReadyError, match=r"lacks data/raw; "):
        DvcRemote(tmp_path / "clone").pull()


def test_what_is_neither_here_nor_there_is_not_said_to_be_pushed(
    project: Path, tmp_path: Path
) -> None:
    digest = DvcRunner(project).add(Path("data/raw"))
    shutil.rmtree(project / ".dvc" / "cache")
    DvcRemote(project).set(str(tmp_path / "share"))

    with pytest.raises(NotReadyError, match=f"neither here nor at .*{digest}"):
        DvcRemote(project).push()


def test_changes_that_are_no_version_are_not_pulled_over(project: Path, tmp_path: Path) -> None:
    DvcRemote(project).set(str(tmp_path / "share"))
    DvcRemote(project).push()
    (project / "data" / "raw" / "labels.csv").unlink()
    (project / "data" / "raw" / "labels.csv").write_text("mine\n")

    with pytest.raises(NotReadyError, match="`dvc add data/raw` makes those"):
        DvcRemote(project).pull()

    assert (project / "data" / "raw" / "labels.csv").read_text() == "mine\n"


def test_progress_is_drawn_on_a_terminal_and_messages_are_kept_apart(
    project: Path, tmp_path: Path
) -> None:
    DvcRemote(project).set(str(tmp_path / "share"))
    for number in range(300):
        (project / "data" / "raw" / "images" / f"more {number}.png").write_text(str(number))
    drawn = {}
    for command in ("add data/raw", "push", "config --list"):
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (30, 100))
        arguments = [str(tmp_path / "log"), *command.split()]
        with subprocess.Popen(
            [sys.executable, "-m", "fgpipe.adapters.dvc_quietly", *arguments],
            cwd=project,
            stdout=theirs,
            stderr=theirs,
        ) as dvc:
            os.close(theirs)
            said = b""
            while chunk := _read(ours):
                said += chunk
        os.close(ours)
        drawn[command] = said.decode()
        assert dvc.returncode == 0

    assert "%" in drawn["add data/raw"]
    assert "%" in drawn["push"]
    assert "files pushed" not in drawn["push"]
    assert drawn["config --list"] == ""


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # how a terminal says that nobody writes to it any more
        return b""
