"""Find what serves: the pinned champion's Bento, made again where it is not there."""

from pathlib import Path

from fgpipe.errors import NotReadyError
from fgpipe.operations.promote import PIN, baseline_of
from fgpipe.pipeline import stage_named
from fgpipe.ports import Registry, ServiceBuilder
from fgpipe.records import Champion
from fgpipe.serving.bundle import open_bundle


def champion_service(*, root: Path, registry: Registry, builder: ServiceBuilder) -> str:
    """The tag of the Bento that ``deploy/champion.json`` pins, ready to be served.

    A fresh clone has the pin but no Bento: it is built from the bundle that ``dvc pull``
    brought, or else the registry's, and proved before it is given back. Its tag differs
    from the pinned one if the service's code has changed since.

    Args:
        root: The project.
        registry: Has the champion's bundle.
        builder: Has the Bento or builds it.

    Raises:
        NotReadyError: If no model has been promoted yet, or its bundle is nowhere.
    """
    if not (root / PIN).exists():
        raise NotReadyError(
            "no model has been promoted yet; `make run` trains one and promotes it if the gate "
            "passes, `fgpipe promote` promotes what has passed"
        )
    champion = Champion.load(root / PIN)
    if builder.has(champion.bento_tag):
        return champion.bento_tag
    bundle = _packaged(root, champion) or registry.fetch_bundle(baseline_of(champion))
    name = champion.bento_tag.partition(":")[0]
    tag = builder.build(bundle, bundle_sha256=champion.bundle_sha256, name=name)
    builder.prove(tag)
    return tag


def _packaged(root: Path, champion: Champion) -> Path | None:
    """The package stage's payload, if that is the champion's bundle."""
    payload = root / stage_named("package").folder / "payload"
    try:
        found = open_bundle(payload).bundle_sha256
    except NotReadyError:
        return None
    return payload if found == champion.bundle_sha256 else None
