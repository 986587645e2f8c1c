"""Promote what the gate passed, in an order that a crash cannot leave half-served.

::

    register -> build -> prove -> note the Bento -> move the alias -> pin deploy/champion.json

The alias is what makes a champion, so it moves when everything it stands for is there. A
crash before leaves the former champion serving; the same command again takes up what
is done already and finishes the rest.
"""

from dataclasses import dataclass
from pathlib import Path

from fgpipe.errors import ConfigError, NotReadyError
from fgpipe.operations.provenance import provenance
from fgpipe.pipeline import BASELINE, load_record, stage_named
from fgpipe.ports import ModelVersion, Registry, ServiceBuilder
from fgpipe.records import PROMOTABLE, Baseline, Bundle, Champion, GateDecision, TrainedModel
from fgpipe.serving.bundle import open_bundle
from fgpipe.settings import model_name

PIN = Path("deploy") / "champion.json"
"""What serves, relative to the project."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """What promoting came to."""

    champion: Champion
    """What serves."""
    already: bool
    """Whether it was champion before, so that nothing changed."""


def promote(
    *, root: Path, registry: Registry, builder: ServiceBuilder, despite_hold: str | None = None
) -> Promotion:
    """Make the packaged model champion, if the gate passed that very model.

    Args:
        root: The project.
        registry: Says what is champion.
        builder: Makes and proves the service.
        despite_hold: Why a model is promoted that the gate could not compare with the
            champion; the registry keeps it. Nothing promotes one that it rejected.

    Raises:
        ConfigError: If that is empty.
        NotReadyError: If the gate did not pass it, or its verdict is about another model.
        ParityError: If the service does not answer as evaluation did.
        PipelineError: If the service does not start.
    """
    if despite_hold is not None and not despite_hold.strip():
        raise ConfigError('--despite-hold is empty; say why: --despite-hold "two classes more"')
    bundle, decision = _promotable(root, on_hold=despite_hold is not None)
    payload = _payload(root, bundle)
    version = registry.find(bundle.bundle_sha256) or registry.register(
        payload,
        bundle_sha256=bundle.bundle_sha256,
        train_sha256=bundle.train_sha256,
        tags={
            **provenance(root),
            "protocol": load_record(TrainedModel, root=root).protocol,
            "verdict": decision.verdict,
            "evaluation_sha256": decision.evaluation_sha256,
            **({"despite_hold": despite_hold} if despite_hold else {}),
        },
    )
    tag = builder.build(payload, bundle_sha256=bundle.bundle_sha256, name=bundle.name)
    serving = registry.champion()
    already = serving is not None and serving.version == version.version
    if version.bento_tag != tag:
        builder.prove(tag)
        registry.set_bento_tag(version.version, tag)
        already = False
    if not already:
        registry.promote(version.version)
    champion = _champion(version, bento_tag=tag)
    return Promotion(champion=champion, already=not _pin(root, champion) and already)


def refresh_baseline(*, root: Path, registry: Registry) -> Baseline | None:
    """Pin the registry's champion as the model to beat, between train and evaluate.

    Where the trained model is the champion itself the pin stays as it is, or promoting a
    model would invalidate the verdict it was promoted on.

    Args:
        root: The project, its train stage up to date.
        registry: Says what is champion.

    Returns:
        What ``data/baseline.json`` holds.
    """
    champion = registry.champion()
    path = root / BASELINE
    if champion is not None and path.exists() and _train_sha256(root) == champion.train_sha256:
        return Baseline.load(path)
    baseline = None if champion is None else baseline_of(champion)
    Baseline.save(baseline, path)
    return baseline


def baseline_of(version: ModelVersion | Champion) -> Baseline:
    """A version as something to compare with or to fetch."""
    return Baseline(
        version=version.version,
        bundle_sha256=version.bundle_sha256,
        train_sha256=version.train_sha256,
    )


def _promotable(root: Path, *, on_hold: bool) -> tuple[Bundle, GateDecision]:
    """What may be promoted; ``on_hold``: also where nobody could compare it."""
    decision = load_record(GateDecision, root=root)
    trained = load_record(TrainedModel, root=root)
    bundle = load_record(Bundle, root=root)
    train_sha256 = trained.sha256()
    for what, named in (("gate's verdict", decision), ("package", bundle)):
        if named.train_sha256 != train_sha256:
            raise NotReadyError(
                f"the {what} is about model {named.train_sha256[:12]}, the trained one is "
                f"{train_sha256[:12]}; `dvc repro` brings every stage up to date"
            )
    if trained.protocol not in PROMOTABLE:
        raise NotReadyError(
            f"the model was trained under protocol {trained.protocol!r}, which is for "
            f"comparisons only; set manifest.protocol to {' or '.join(PROMOTABLE)} in params.yaml "
            "and `dvc repro`"
        )
    if not decision.passed and not (on_hold and decision.verdict == "hold"):
        reasons = "".join(f"\n  {check.reason}" for check in decision.checks if not check.passed)
        ways_out = {
            "rejected": "improve data or params.yaml and run `dvc repro`; the gate's own "
            "thresholds are in params.yaml too",
            "hold": f"look at {stage_named('evaluate').folder}/payload/report.html; "
            '`fgpipe promote --despite-hold "WHY"` makes it champion all the same',
        }
        raise NotReadyError(
            f"the gate has not passed this model ({decision.verdict}):"
            f"{reasons}\n{ways_out[decision.verdict]}"
        )
    return bundle, decision


def _payload(root: Path, bundle: Bundle) -> Path:
    payload = root / stage_named("package").folder / "payload"
    found = open_bundle(payload).bundle_sha256
    if found != bundle.bundle_sha256:
        raise NotReadyError(
            f"{payload} holds bundle {found[:12]}, its record says {bundle.bundle_sha256[:12]}; "
            "`dvc repro package` makes it again"
        )
    return payload


def _train_sha256(root: Path) -> str | None:
    try:
        return load_record(TrainedModel, root=root).sha256()
    except NotReadyError:
        return None


def _champion(version: ModelVersion, *, bento_tag: str) -> Champion:
    return Champion(
        model_name=model_name(),
        version=version.version,
        bundle_sha256=version.bundle_sha256,
        train_sha256=version.train_sha256,
        bento_tag=bento_tag,
    )


def _pin(root: Path, champion: Champion) -> bool:
    """Write ``deploy/champion.json`` unless it says so already; whether it was written."""
    path = root / PIN
    if path.exists() and path.read_text() == champion.to_json():
        return False
    champion.save(path)
    return True
