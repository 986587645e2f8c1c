"""MLflow's model registry as the authority on what is champion.

A version is a bundle: its files are artifacts of the training run that made the model,
and its tags tie it to the data, the training output and the code. Aliases say what
serves (``champion``) and what served before it (``previous``).
"""

import shutil
from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from fgpipe import settings
from fgpipe.adapters import mlflow_store as store
from fgpipe.errors import InputError, NotReadyError
from fgpipe.ports import ModelVersion, SeenBy
from fgpipe.records import Baseline
from fgpipe.serving.bundle import open_bundle
from fgpipe.serving.seen import SEEN_FILE, Seen

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion as Entry

CHAMPION = "champion"
"""Alias of the version that serves."""
PREVIOUS = "previous"
"""Alias of the version that served before."""


class MlflowRegistry:
    """The registered model that ``FGPIPE_MODEL_NAME`` names; fulfils ``ports.Registry``."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._name = settings.model_name()

    @cached_property
    def _client(self) -> "MlflowClient":
        return store.connect(self._root)

    def champion(self) -> ModelVersion | None:
        """The version with alias ``champion``, if any."""
        models = self._client.search_registered_models(f"name = '{self._name}'")
        version = models[0].aliases.get(CHAMPION) if models else None
        if version is None:
            return None
        return _as_port(self._client.get_model_version(self._name, str(version)))

    def find(self, bundle_sha256: str) -> ModelVersion | None:
        """The newest version of that bundle, if any."""
        entries = self._client.search_model_versions(
            f"name = '{self._name}' and tags.`{store.BUNDLE_SHA256}` = '{bundle_sha256}'"
        )
        return max(map(_as_port, entries), key=lambda entry: entry.version, default=None)

    def register(
        self, bundle: Path, *, bundle_sha256: str, train_sha256: str, tags: Mapping[str, str]
    ) -> ModelVersion:
        """Upload a bundle as a version, tied to its training run.

        The version is created last, so that one that can be found is whole. Two bundles
        of one training (another description, another temperature) lie side by side in
        its run.

        Args:
            bundle: The folder.
            bundle_sha256: Its hash.
            train_sha256: The training record's hash, which finds the run; where the
                store has none (after a pull), one is made, marked ``restored``.
            tags: What else it comes from, without the prefix ``fgpipe.``; the run keeps
                what it says itself.
        """
        if not self._client.search_registered_models(f"name = '{self._name}'"):
            self._client.create_registered_model(self._name)
        origin = {f"fgpipe.{name}": value for name, value in tags.items()}
        origin |= {store.BUNDLE_SHA256: bundle_sha256, store.TRAIN_SHA256: train_sha256}
        run_id = store.run_of(
            self._client, train_sha256=train_sha256, root=self._root
        ) or store.restored_run(self._client, tags=origin, root=self._root)
        folder = f"bundle/{bundle_sha256[:12]}"
        self._client.log_artifacts(run_id, str(bundle), folder)
        said = self._client.get_run(run_id).data.tags
        for name in origin.keys() - said.keys():
            self._client.set_tag(run_id, name, origin[name])
        source = f"runs:/{run_id}/{folder}"
        return _as_port(self._client.create_model_version(self._name, source, run_id, tags=origin))

    def set_bento_tag(self, version: int, bento_tag: str) -> None:
        """Note which Bento a version was built into."""
        self._client.set_model_version_tag(self._name, str(version), store.BENTO_TAG, bento_tag)

    def promote(self, version: int) -> None:
        """Move alias ``champion`` to a version; the former champion becomes ``previous``."""
        former = self.champion()
        if former is not None and former.version == version:
            return
        if former is not None:
            self._client.set_registered_model_alias(self._name, PREVIOUS, str(former.version))
        self._client.set_registered_model_alias(self._name, CHAMPION, str(version))

    def fetch_bundle(self, baseline: Baseline) -> Path:
        """A folder with that version's bundle, its hash checked; fetched once and kept.

        Raises:
            NotReadyError: If the registry has no such version, or its bytes are others.
        """
        kept = settings.state(self._root) / "bundles" / baseline.bundle_sha256
        if kept.is_dir() and _is_bundle(kept, baseline.bundle_sha256):
            return kept
        source = self._source(baseline)
        kept.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=kept.parent, prefix=".fetch-") as folder:
            fetched = self._download(source, Path(folder))
            if not _is_bundle(fetched, baseline.bundle_sha256):
                raise NotReadyError(
                    f"version {baseline.version} of {self._name} in the registry is not the "
                    f"bundle {baseline.bundle_sha256[:12]} that it says it is: its files at "
                    f"{source} have changed; restore them or promote another version"
                )
            shutil.rmtree(kept, ignore_errors=True)
            fetched.rename(kept)
        return kept

    def trained_on(self, sha256s: Collection[str]) -> tuple[SeenBy, ...]:
        """Every version that has, or may have, seen one of these images, oldest first.

        Of a version's bundle only the list of images is fetched. A store that is not there
        yet is not made.
        """
        if store.is_local(self._root) and not store.database(self._root).exists():
            return ()
        models = self._client.search_registered_models(f"name = '{self._name}'")
        aliases = models[0].aliases if models else {}
        found = []
        for entry in self._client.search_model_versions(f"name = '{self._name}'"):
            seen = self._seen(entry)
            n_images = None if seen is None else len(seen.hashes.intersection(sha256s))
            if n_images != 0:
                names = sorted(
                    name for name, to in aliases.items() if str(to) == str(entry.version)
                )
                version = int(entry.version)
                found.append(SeenBy(version=version, aliases=tuple(names), n_images=n_images))
        return tuple(sorted(found, key=lambda each: each.version))

    def _seen(self, entry: "Entry") -> Seen | None:
        """What a version has seen, if that can be had."""
        sha256 = entry.tags.get(store.BUNDLE_SHA256, "")
        kept = settings.state(self._root) / "bundles" / sha256
        if sha256 and kept.is_dir() and _is_bundle(kept, sha256):
            return Seen.load(kept / SEEN_FILE)
        with TemporaryDirectory(prefix="fgpipe-seen-") as folder:
            try:
                return Seen.load(self._download(f"{entry.source}/{SEEN_FILE}", Path(folder)))
            except NotReadyError:
                return None

    def _source(self, baseline: Baseline) -> str:
        entry = self.find(baseline.bundle_sha256)
        if entry is None:
            raise NotReadyError(
                f"the registry {settings.tracking_uri(self._root)} has no version of "
                f"{self._name} with bundle {baseline.bundle_sha256[:12]} (version "
                f"{baseline.version}); point MLFLOW_TRACKING_URI at the one that has it"
            )
        return str(self._client.get_model_version(self._name, str(entry.version)).source)

    def _download(self, source: str, folder: Path) -> Path:
        from mlflow import MlflowException, artifacts

        try:
            return Path(artifacts.download_artifacts(artifact_uri=source, dst_path=str(folder)))
        except (MlflowException, OSError) as error:
            raise NotReadyError(
                f"the bundle at {source} cannot be fetched from the registry: {error}"
            ) from None


def _as_port(entry: "Entry") -> ModelVersion:
    return ModelVersion(
        version=int(entry.version),
        bundle_sha256=entry.tags.get(store.BUNDLE_SHA256, ""),
        train_sha256=entry.tags.get(store.TRAIN_SHA256, ""),
        bento_tag=entry.tags.get(store.BENTO_TAG),
    )


def _is_bundle(folder: Path, bundle_sha256: str) -> bool:
    try:
        return open_bundle(folder).bundle_sha256 == bundle_sha256
    except (InputError, OSError):
        return False
