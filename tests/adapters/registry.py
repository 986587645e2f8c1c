"""The registry in memory."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from fgpipe.errors import NotReadyError
from fgpipe.ports import ModelVersion, SeenBy
from fgpipe.records import Baseline
from fgpipe.serving.seen import SEEN_FILE, Seen


class FakeRegistry:
    """Versions from 1, aliases, and the bundles' folders where they were registered from."""

    def __init__(self) -> None:
        self.versions: dict[int, ModelVersion] = {}
        self.aliases: dict[str, int] = {}
        self.bundles: dict[int, Path] = {}
        self.tags: dict[int, dict[str, str]] = {}

    def champion(self) -> ModelVersion | None:
        version = self.aliases.get("champion")
        return None if version is None else self.versions[version]

    def find(self, bundle_sha256: str) -> ModelVersion | None:
        found = [v for v in self.versions.values() if v.bundle_sha256 == bundle_sha256]
        return found[-1] if found else None

    def register(
        self, bundle: Path, *, bundle_sha256: str, train_sha256: str, tags: Mapping[str, str]
    ) -> ModelVersion:
        version = len(self.versions) + 1
        self.versions[version] = ModelVersion(
            version=version,
            bundle_sha256=bundle_sha256,
            train_sha256=train_sha256,
            bento_tag=None,
        )
        self.bundles[version] = bundle
        self.tags[version] = dict(tags)
        return self.versions[version]

    def set_bento_tag(self, version: int, bento_tag: str) -> None:
        self.versions[version] = replace(self.versions[version], bento_tag=bento_tag)

    def promote(self, version: int) -> None:
        former = self.aliases.get("champion")
        if former not in {None, version}:
            self.aliases["previous"] = former
        self.aliases["champion"] = version

    def trained_on(self, sha256s: Collection[str]) -> tuple[SeenBy, ...]:
        found = []
        for version, bundle in self.bundles.items():
            n_images: int | None = None
            if (bundle / SEEN_FILE).exists():
                n_images = len(Seen.load(bundle / SEEN_FILE).hashes.intersection(sha256s))
            aliases = sorted(name for name, to in self.aliases.items() if to == version)
            if n_images != 0:
                seen = SeenBy(version=version, aliases=tuple(aliases), n_images=n_images)
                found.append(seen)
        return tuple(found)

    def fetch_bundle(self, baseline: Baseline) -> Path:
        version = self.versions.get(baseline.version)
        if version is None or version.bundle_sha256 != baseline.bundle_sha256:
            message = f"the registry has no version {baseline.version} of that bundle"
            raise NotReadyError(message)
        return self.bundles[baseline.version]
