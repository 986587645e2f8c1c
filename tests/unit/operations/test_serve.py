import shutil
from pathlib import Path

import pytest

from fgpipe.errors import NotReadyError
from fgpipe.operations.promote import promote
from fgpipe.operations.serve import champion_service
from fgpipe.pipeline import stage_named
from tests.adapters.registry import FakeRegistry
from tests.adapters.service_builder import FakeServiceBuilder
from tests.support.packaged import write_packaged


def test_the_pinned_bento_is_served_as_it_is(tmp_path: Path) -> None:
    registry, builder = FakeRegistry(), FakeServiceBuilder()
    write_packaged(tmp_path)
    champion = promote(root=tmp_path, registry=registry, builder=builder).champion

    tag = champion_service(root=tmp_path, registry=registry, builder=builder)

    assert tag == champion.bento_tag
    assert builder.proved == [tag]


def test_before_anything_is_promoted_the_message_names_what_promotes(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match=r"no model has been promoted yet; `make run`"):
        champion_service(root=tmp_path, registry=FakeRegistry(), builder=FakeServiceBuilder())


def test_a_fresh_clone_builds_from_what_dvc_pulled_and_asks_no_registry(tmp_path: Path) -> None:
    write_packaged(tmp_path)
    champion = promote(
        root=tmp_path, registry=FakeRegistry(), builder=FakeServiceBuilder()
    ).champion
    fresh = FakeServiceBuilder()

    tag = champion_service(root=tmp_path, registry=FakeRegistry(), builder=fresh)

    assert tag == champion.bento_tag
    assert fresh.built == fresh.proved == [tag]


def test_a_fresh_clone_builds_from_the_registrys_bundle(tmp_path: Path) -> None:
    registry = FakeRegistry()
    write_packaged(tmp_path)
    promote(root=tmp_path, registry=registry, builder=FakeServiceBuilder())
    payload = tmp_path / stage_named("package").folder / "payload"
    kept = tmp_path / "kept"
    shutil.move(payload, kept)
    registry.bundles[1] = kept
    fresh = FakeServiceBuilder()

    tag = champion_service(root=tmp_path, registry=registry, builder=fresh)

    assert fresh.proved == [tag]


def test_a_champion_whose_bundle_is_nowhere_is_a_clear_error(tmp_path: Path) -> None:
    write_packaged(tmp_path)
    promote(root=tmp_path, registry=FakeRegistry(), builder=FakeServiceBuilder())
    write_packaged(tmp_path, weights="second")

    with pytest.raises(NotReadyError, match="registry has no version 1"):
        champion_service(root=tmp_path, registry=FakeRegistry(), builder=FakeServiceBuilder())
