import json
from pathlib import Path
from typing import Any, Literal

import pytest

from fgpipe.errors import ConfigError, NotReadyError, ParityError
from fgpipe.operations.promote import PIN, promote, refresh_baseline
from fgpipe.pipeline import BASELINE, stage_named
from fgpipe.records import Baseline, Champion, Protocol
from tests.adapters.registry import FakeRegistry
from tests.adapters.service_builder import FakeServiceBuilder
from tests.support.packaged import trained, write_packaged

STEPS = ["find", "register", "build", "champion", "prove", "set_bento_tag", "promote"]


class PowerCutError(Exception):
    """The process is gone."""


class Failing:
    """An adapter whose process dies at one call, before or after it took effect."""

    def __init__(self, inner: object, *, at: str, after: bool) -> None:
        self._inner = inner
        self._at = at
        self._after = after

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if name != self._at:
            return method

        def fail(*args: object, **kwargs: object) -> None:
            if self._after:
                method(*args, **kwargs)
            raise PowerCutError(name)

        return fail


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
def builder() -> FakeServiceBuilder:
    return FakeServiceBuilder()


def test_a_model_that_passed_becomes_champion_and_is_pinned(
    tmp_path: Path, registry: FakeRegistry, builder: FakeServiceBuilder
) -> None:
    bundle = write_packaged(tmp_path)

    promotion = promote(root=tmp_path, registry=registry, builder=builder)

    tag = f"tiny:{bundle.bundle_sha256[:8]}-1"
    assert not promotion.already
    assert registry.champion().bundle_sha256 == bundle.bundle_sha256
    assert registry.champion().bento_tag == tag
    assert builder.proved == [tag]
    assert Champion.load(tmp_path / PIN) == promotion.champion
    assert promotion.champion.bento_tag == tag
    assert promotion.champion.train_sha256 == trained().sha256()


def test_a_version_says_where_it_comes_from(
    tmp_path: Path, registry: FakeRegistry, builder: FakeServiceBuilder
) -> None:
    write_packaged(tmp_path)
    (tmp_path / "data" / "raw.dvc").write_text("outs:\n- md5: d41d8.dir\n  path: raw\n")

    promote(root=tmp_path, registry=registry, builder=builder)

    assert registry.tags[1]["data_hash"] == "d41d8.dir"
    assert registry.tags[1]["protocol"] == "stable"
    assert registry.tags[1]["verdict"] == "passed"
    assert registry.tags[1]["evaluation_sha256"] == "e" * 64


def test_promoting_the_champion_changes_nothing_and_proves_nothing(
    tmp_path: Path, registry: FakeRegistry, builder: FakeServiceBuilder
) -> None:
    write_packaged(tmp_path)
    first = promote(root=tmp_path, registry=registry, builder=builder)
    written = (tmp_path / PIN).stat().st_mtime_ns

    second = promote(root=tmp_path, registry=registry, builder=builder)

    assert second.already
    assert second.champion == first.champion
    assert len(builder.proved) == 1
    assert list(registry.versions) == [1]
    assert (tmp_path / PIN).stat().st_mtime_ns == written


def test_the_former_champion_becomes_previous(
    tmp_path: Path, registry: FakeRegistry, builder: FakeServiceBuilder
) -> None:
    write_packaged(tmp_path, weights="first")
    promote(root=tmp_path, registry=registry, builder=builder)
    write_packaged(tmp_path, weights="second")

    promotion = promote(root=tmp_path, registry=registry, builder=builder)

    assert registry.aliases == {"champion": 2, "previous": 1}
    assert promotion.champion.version == 2


def test_a_service_whose_code_changed_is_proved_and_pinned_without_a_new_version(
    tmp_path: Path, registry: FakeRegistry, builder: FakeServiceBuilder
) -> None:
    write_packaged(tmp_path)
    promote(root=tmp_path, registry=registry, builder=builder)
    builder.code = "2"

    promotion = promote(root=tmp_path, registry=registry, builder=builder)

    assert not promotion.already
    assert list(registry.versions) == [1]
    assert promotion.champion.bento_tag.endswith("-2")
    assert registry.champion().bento_tag == promotion.champion.bento_tag
    assert builder.proved[-1] == promotion.champion.bento_tag


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_a_crash_at_any_step_leaves_the_old_champion_or_the_new_one_and_is_repaired(
    tmp_path: Path, registry: FakeRegistry, builder: FakeServiceBuilder, step: str, when: str
) -> None:
    write_packaged(tmp_path, weights="first")
    old = promote(root=tmp_path, registry=registry, builder=builder).champion
    bundle = write_packaged(tmp_path, weights="second")

    with pytest.raises(PowerCutError):
        promote(
            root=tmp_path,
            registry=Failing(registry, at=step, after=when == "after"),
            builder=Failing(builder, at=step, after=when == "after"),
        )
    moved = (step, when) == ("promote", "after")
    crashed_champion = registry.champion()
    crashed_pin = Champion.load(tmp_path / PIN)
    repaired = promote(root=tmp_path, registry=registry, builder=builder)

    assert crashed_champion.version == (2 if moved else 1)
    assert crashed_pin == old
    assert repaired.champion.bundle_sha256 == bundle.bundle_sha256
    assert not repaired.already
    assert registry.aliases == {"champion": 2, "previous": 1}
    assert list(registry.versions) == [1, 2]
    assert Champion.load(tmp_path / PIN) == repaired.champion
    assert registry.champion().bento_tag == repaired.champion.bento_tag


def test_a_service_that_answers_otherwise_is_not_promoted(
    tmp_path: Path, registry: FakeRegistry, builder: FakeServiceBuilder
) -> None:
    write_packaged(tmp_path)
    builder.wrong_answers = True

    with pytest.raises(ParityError):
        promote(root=tmp_path, registry=registry, builder=builder)

    assert registry.champion() is None
    assert not (tmp_path / PIN).exists()


def test_what_the_gate_refused_is_not_promoted_and_the_reasons_are_given(
    tmp_path: Path, registry: FakeRegistry, builder: FakeServiceBuilder
) -> None:
    write_packaged(tmp_path, verdict="rejected")

    with pytest.raises(NotReadyError, match=r"top1 0\.500 is below min_top1 0\.600"):
        promote(root=tmp_path, registry=registry, builder=builder)

    assert registry.versions == {}
    assert builder.built == []


def test_a_model_on_hold_is_promoted_by_who_says_why(
    tmp_path: Path, registry: FakeRegistry, builder: FakeServiceBuilder
) -> None:
    bundle = write_packaged(tmp_path, verdict="hold")

    with pytest.raises(NotReadyError, match=r"--despite-hold"):
        promote(root=tmp_path, registry=registry, builder=builder)
    untouched = dict(registry.versions)
    promote(root=tmp_path, registry=registry, builder=builder, despite_hold="two classes more")

    assert untouched == {}
    assert registry.champion().bundle_sha256 == bundle.bundle_sha256
    assert registry.tags[1]["verdict"] == "hold"
    assert registry.tags[1]["despite_hold"] == "two classes more"


@pytest.mark.parametrize(
    ("verdict", "why", "error"),
    [("rejected", "why not", NotReadyError), ("hold", " ", ConfigError)],
)
def test_neither_a_rejected_model_nor_one_without_a_reason_is(
    tmp_path: Path,
    registry: FakeRegistry,
    builder: FakeServiceBuilder,
    verdict: Literal["rejected", "hold"],
    why: str,
    error: type[Exception],
) -> None:
    write_packaged(tmp_path, verdict=verdict)

    with pytest.raises(error):
        promote(root=tmp_path, registry=registry, builder=builder, despite_hold=why)

    assert registry.versions == {}


@pytest.mark.parametrize("protocol", ["random", "fold"])
def test_a_model_of_a_comparison_protocol_is_never_promoted(
    tmp_path: Path, registry: FakeRegistry, builder: FakeServiceBuilder, protocol: Protocol
) -> None:
    write_packaged(tmp_path, protocol=protocol)

    with pytest.raises(NotReadyError, match=r"manifest\.protocol"):
        promote(root=tmp_path, registry=registry, builder=builder)

    assert registry.versions == {}


@pytest.mark.parametrize("stage", ["gate", "package"])
def test_a_verdict_or_package_of_another_model_is_refused(
    tmp_path: Path, registry: FakeRegistry, builder: FakeServiceBuilder, stage: str
) -> None:
    write_packaged(tmp_path, weights="first")
    path = tmp_path / stage_named(stage).folder / "record.json"
    stale = path.read_text()
    write_packaged(tmp_path, weights="second")
    path.write_text(stale)

    with pytest.raises(NotReadyError, match="dvc repro"):
        promote(root=tmp_path, registry=registry, builder=builder)

    assert registry.versions == {}


def test_a_bundle_with_other_bytes_is_refused(
    tmp_path: Path, registry: FakeRegistry, builder: FakeServiceBuilder
) -> None:
    write_packaged(tmp_path)
    (tmp_path / stage_named("package").folder / "payload" / "model.onnx").write_text("other")

    with pytest.raises(NotReadyError, match=r"model\.onnx"):
        promote(root=tmp_path, registry=registry, builder=builder)

    assert registry.versions == {}


def test_with_no_verdict_the_message_names_what_makes_one(
    tmp_path: Path, registry: FakeRegistry, builder: FakeServiceBuilder
) -> None:
    with pytest.raises(NotReadyError, match="dvc repro"):
        promote(root=tmp_path, registry=registry, builder=builder)


def test_a_baseline_is_the_registrys_champion(
    tmp_path: Path, registry: FakeRegistry, builder: FakeServiceBuilder
) -> None:
    write_packaged(tmp_path, weights="first")
    promote(root=tmp_path, registry=registry, builder=builder)
    write_packaged(tmp_path, weights="second")

    baseline = refresh_baseline(root=tmp_path, registry=registry)

    assert baseline == Baseline.load(tmp_path / BASELINE)
    assert baseline.version == 1
    assert baseline.train_sha256 == trained(weights="first").sha256()


def test_promoting_does_not_change_what_the_verdict_was_about(
    tmp_path: Path, registry: FakeRegistry, builder: FakeServiceBuilder
) -> None:
    write_packaged(tmp_path)
    Baseline.save(None, tmp_path / BASELINE)
    promote(root=tmp_path, registry=registry, builder=builder)

    baseline = refresh_baseline(root=tmp_path, registry=registry)

    assert baseline is None
    assert json.loads((tmp_path / BASELINE).read_text()) is None


def test_without_a_champion_there_is_nothing_to_beat(
    tmp_path: Path, registry: FakeRegistry
) -> None:
    former = Baseline(version=3, bundle_sha256="b", train_sha256="t")
    Baseline.save(former, tmp_path / BASELINE)

    assert refresh_baseline(root=tmp_path, registry=registry) is None

    assert Baseline.load(tmp_path / BASELINE) is None
