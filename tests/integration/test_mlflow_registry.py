import os
import subprocess
import sys
from pathlib import Path

import pytest

from fgpipe.adapters import mlflow_store as store
from fgpipe.adapters.mlflow_registry import MlflowRegistry
from fgpipe.errors import NotReadyError, UnavailableError
from fgpipe.ports import ModelVersion
from fgpipe.records import Baseline
from tests.support.packaged import write_packaged

pytestmark = pytest.mark.integration

PAYLOAD = Path("data/08_package/payload")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a store, made once: the first touch takes seconds."""
    root = tmp_path_factory.mktemp("home")
    store.connect(root)
    return root


@pytest.fixture
def registry(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MlflowRegistry:
    """A registered model of this test's own."""
    monkeypatch.setenv("FGPIPE_MODEL_NAME", tmp_path.name)
    return MlflowRegistry(home)


def register(registry: MlflowRegistry, root: Path, *, weights: str = "first") -> ModelVersion:
    bundle = write_packaged(root, weights=weights)
    return registry.register(
        root / PAYLOAD,
        bundle_sha256=bundle.bundle_sha256,
        train_sha256=bundle.train_sha256,
        tags={"data_hash": "d.dir", "train_hash": "t.dir", "git_commit": "c0ffee"},
    )


def baseline(version: ModelVersion) -> Baseline:
    return Baseline(
        version=version.version,
        bundle_sha256=version.bundle_sha256,
        train_sha256=version.train_sha256,
    )


def test_four_processes_may_meet_a_store_for_the_first_time_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from fgpipe.adapters import mlflow_store as store;"
        "client = store.connect(Path(sys.argv[1]));"
        "print(store.experiment_id(client, root=Path(sys.argv[1])))"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)]

    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    answers = [process.communicate(timeout=120) for process in processes]

    assert [process.returncode for process in processes] == [0] * 4, answers
    assert [noise for _, noise in answers] == [""] * 4
    assert len({said for said, _ in answers}) == 1
    assert (tmp_path / "mlflow.db").exists()


def test_a_store_that_cannot_be_reached_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none/mlflow.db")
    (tmp_path / "none").write_text("a file where a folder must be")

    with pytest.raises(UnavailableError, match=r"the MLflow store sqlite:///.*/none/mlflow\.db"):
        store.connect(tmp_path)


def test_without_a_model_there_is_neither_champion_nor_version(registry: MlflowRegistry) -> None:
    assert registry.champion() is None
    assert registry.find("b" * 64) is None


def test_a_registered_bundle_is_found_with_its_origin(
    registry: MlflowRegistry, home: Path, tmp_path: Path
) -> None:
    version = register(registry, tmp_path)

    entry = store.connect(home).get_model_version(tmp_path.name, "1")
    assert registry.find(version.bundle_sha256) == version
    assert version.version == 1
    assert version.bento_tag is None
    assert entry.tags == {
        store.DATA_HASH: "d.dir",
        store.TRAIN_HASH: "t.dir",
        store.GIT_COMMIT: "c0ffee",
        store.BUNDLE_SHA256: version.bundle_sha256,
        store.TRAIN_SHA256: version.train_sha256,
    }


def test_a_version_belongs_to_the_run_that_trained_it_which_keeps_its_own_tags(
    registry: MlflowRegistry, home: Path, tmp_path: Path
) -> None:
    client = store.connect(home)
    train_sha256 = write_packaged(tmp_path).train_sha256
    run = client.create_run(
        store.experiment_id(client, root=home),
        tags={store.TRAIN_SHA256: train_sha256, store.GIT_COMMIT: "0ld"},
    )

    version = register(registry, tmp_path)

    entry = client.get_model_version(tmp_path.name, str(version.version))
    tags = client.get_run(run.info.run_id).data.tags
    assert entry.run_id == run.info.run_id
    assert tags[store.GIT_COMMIT] == "0ld"
    assert tags[store.TRAIN_HASH] == "t.dir"
    assert store.RESTORED not in tags
    assert client.list_artifacts(run.info.run_id, "bundle")


def test_where_no_run_trained_it_one_is_made_and_marked(
    registry: MlflowRegistry, home: Path, tmp_path: Path
) -> None:
    version = register(registry, tmp_path)

    client = store.connect(home)
    run = client.get_run(client.get_model_version(tmp_path.name, str(version.version)).run_id)
    assert run.data.tags[store.RESTORED] == "true"
    assert run.data.tags[store.TRAIN_SHA256] == version.train_sha256
    assert run.info.status == "FINISHED"


def test_aliases_say_what_serves_and_what_served_before(
    registry: MlflowRegistry, home: Path, tmp_path: Path
) -> None:
    first = register(registry, tmp_path, weights="first")
    second = register(registry, tmp_path, weights="second")

    registry.promote(first.version)
    registry.promote(second.version)
    registry.promote(second.version)

    aliases = store.connect(home).get_registered_model(tmp_path.name).aliases
    assert registry.champion() == second
    assert {name: int(version) for name, version in aliases.items()} == {
        "champion": 2,
        "previous": 1,
    }


def test_the_bento_of_a_version_is_noted(registry: MlflowRegistry, tmp_path: Path) -> None:
    version = register(registry, tmp_path)

    registry.set_bento_tag(version.version, "tiny:1234")

    found = registry.find(version.bundle_sha256)
    assert found is not None
    assert found.bento_tag == "tiny:1234"


def test_two_bundles_of_one_training_are_fetched_each_as_it_was(
    registry: MlflowRegistry, home: Path, tmp_path: Path
) -> None:
    first = register(registry, tmp_path, weights="first")
    second = register(registry, tmp_path, weights="second")

    folders = [registry.fetch_bundle(baseline(version)) for version in (first, second)]
    again = registry.fetch_bundle(baseline(first))

    assert [(folder / "model.onnx").read_text() for folder in folders] == ["first", "second"]
    assert again == folders[0]
    assert sorted(path.name for path in folders[0].iterdir()) == ["bundle.json", "model.onnx"]
    assert not list((home / ".fgpipe" / "bundles").glob(".fetch-*"))


def test_a_kept_bundle_that_was_damaged_is_fetched_anew(
    registry: MlflowRegistry, tmp_path: Path
) -> None:
    version = register(registry, tmp_path)
    folder = registry.fetch_bundle(baseline(version))
    (folder / "model.onnx").write_text("damaged")

    again = registry.fetch_bundle(baseline(version))

    assert (again / "model.onnx").read_text() == "first"


def test_a_bundle_whose_bytes_changed_in_the_store_is_refused(
    registry: MlflowRegistry, home: Path, tmp_path: Path
) -> None:
    version = register(registry, tmp_path, weights="changed in the store")
    (stored,) = [
        path
        for path in (home / "mlartifacts").rglob("model.onnx")
        if path.read_text() == "changed in the store"
    ]
    stored.write_text("others")

    with pytest.raises(NotReadyError, match=r"files .* have changed"):
        registry.fetch_bundle(baseline(version))

    assert not (home / ".fgpipe" / "bundles" / version.bundle_sha256).exists()


def test_a_bundle_that_the_registry_does_not_have_is_named(registry: MlflowRegistry) -> None:
    wanted = Baseline(version=7, bundle_sha256="f" * 64, train_sha256="t")

    with pytest.raises(
        NotReadyError, match=r"no version .* with bundle ffffffffffff \(version 7\)"
    ):
        registry.fetch_bundle(wanted)


def test_connecting_leaves_the_environment_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    store.connect(tmp_path / "one")
    store.connect(tmp_path / "other")

    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert (tmp_path / "other" / "mlflow.db").exists()


def test_versions_that_saw_an_image_are_found_whatever_is_kept_here(
    registry: MlflowRegistry, tmp_path: Path
) -> None:
    for number, rows in enumerate((["a,g,train"], ["b,g,train", "c,h,train"], ["a,g,train"])):
        seen = tmp_path / str(number) / PAYLOAD / "seen.csv"
        seen.parent.mkdir(parents=True)
        bundle = write_packaged(tmp_path / str(number), weights=str(number))
        seen.write_text("\n".join(["sha256,group,split", *rows]) + "\n")
        registry.register(
            seen.parent,
            bundle_sha256=bundle.bundle_sha256,
            train_sha256=bundle.train_sha256,
            tags={},
        )
    registry.promote(3)

    found = registry.trained_on({"a", "c", "x"})

    assert [(each.version, each.n_images, each.aliases) for each in found] == [
        (1, 1, ()),
        (2, 1, ()),
        (3, 1, ("champion",)),
    ]
    assert [each.version for each in registry.trained_on({"c"})] == [2]
    assert registry.trained_on({"x"}) == ()


def test_asking_who_saw_an_image_makes_no_store(tmp_path: Path) -> None:
    assert MlflowRegistry(tmp_path).trained_on({"a"}) == ()
    assert list(tmp_path.iterdir()) == []
