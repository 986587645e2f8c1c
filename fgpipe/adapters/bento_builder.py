"""BentoML as what makes a bundle into a service.

The bundle is a model in the project's own Bento store, the Bento is ``deploy/service.py``
with the modules it reaches and exact versions. BentoML keeps the store's place and loaded
services for as long as a process lives, so it is imported only in processes of its own:
this module run as a program builds, ``python -m bentoml`` serves.

::

    .fgpipe/bento/models/NAME/BUNDLE_SHA256[:12]     the bundle
    .fgpipe/bento/bentos/NAME/VERSION                code, versions and the model's name
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from filelock import FileLock

from fgpipe import settings
from fgpipe.adapters.bento_contents import Contents, collect
from fgpipe.adapters.service_process import (
    SHOWN_CHARACTERS,
    ask_probe,
    demand_port,
    free_port,
    running,
)
from fgpipe.errors import NotReadyError, PipelineError
from fgpipe.serving.bundle import check_probe, open_bundle

SERVICE = Path("deploy") / "service.py"

GAVE_UP = "Initializing service error"
"""What BentoML logs when a service cannot start; it then tries again for ever."""


class BentoBuilder:
    """Builds, proves and serves Bentos; fulfils ``ports.ServiceBuilder``.

    Args:
        root: The checkout whose ``deploy/service.py`` is built.
        start_timeout_s: Most seconds until a service that starts is ready.
    """

    def __init__(self, root: Path, *, start_timeout_s: float = 90) -> None:
        self._root = root
        self._start_timeout_s = start_timeout_s
        chosen = os.environ.get("BENTOML_HOME")
        self._home = Path(chosen) if chosen else settings.state(root) / "bento"

    def build(self, bundle: Path, *, bundle_sha256: str, name: str) -> str:
        """Build and give back its tag; a tag built before is given back as it is.

        The tag changes with the bundle, with any module that the service reaches and
        with any version it is pinned to.

        Args:
            bundle: The folder.
            bundle_sha256: Its hash.
            name: Name of the Bento and of the stored model.

        Raises:
            PipelineError: If BentoML cannot build it.
        """
        contents = collect(self._root / SERVICE)
        tag = f"{name}:{contents.version(bundle_sha256)}"
        self._home.mkdir(parents=True, exist_ok=True)
        with FileLock(self._home / "build.lock"):
            if not self._is_whole(tag, contents):
                self._discard(tag, model_tag=f"{name}:{bundle_sha256[:12]}")
                self._build(tag, contents, bundle=bundle, bundle_sha256=bundle_sha256)
        return tag

    def has(self, tag: str) -> bool:
        """Whether that tag is built, with a whole bundle."""
        try:
            open_bundle(self.bundle_of(tag))
        except NotReadyError:
            return False
        return True

    def bundle_of(self, tag: str) -> Path:
        """The folder with the bundle of a Bento.

        Raises:
            NotReadyError: If the store has no such Bento.
        """
        try:
            description = yaml.safe_load((self._bento(tag) / "bento.yaml").read_text())
            return self._model(description["models"][0]["tag"])
        except (OSError, yaml.YAMLError, LookupError, TypeError):
            raise NotReadyError(
                f"{tag} is not in the Bento store {self._home}; `fgpipe promote` builds it"
            ) from None

    def prove(self, tag: str) -> None:
        """Serve it on a free loopback port and ask it the bundle's probe.

        The bundle is asked in this process first, where a difference shows at once.

        Raises:
            NotReadyError: If the store has no such Bento.
            ParityError: If its answers are not the probe's.
            PipelineError: If it does not start.
        """
        from fgpipe.serving.predictor import Predictor

        bundle = self.bundle_of(tag)
        check_probe(Predictor.load(bundle), bundle)
        self._prove_served(tag, bundle)

    def serve(
        self,
        tag: str,
        *,
        port: int,
        host: str = "127.0.0.1",
        ready: Callable[[str], object] = lambda _: None,
    ) -> None:
        """Serve in the foreground, in the main thread, until interrupted or terminated.

        Args:
            tag: What to serve.
            port: Where to listen.
            host: Address to listen on; ``0.0.0.0`` lets other machines in.
            ready: Called with the URL when it answers.

        Raises:
            NotReadyError: If the store has no such Bento.
            UnavailableError: If the port is taken.
            PipelineError: If it does not start, or ends by itself.
        """
        open_bundle(self.bundle_of(tag))
        demand_port(port, host=host)
        url = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"  # noqa: S104 - the user's choice
        with (
            suppress(KeyboardInterrupt),
            _interrupted_when_terminated(),
            running(
                self._serve_command(tag, port=port, host=host),
                url=url,
                environment=self._environment(),
                folder=self._home,
                start_timeout_s=self._start_timeout_s,
                gave_up=GAVE_UP,
                quiet=False,
            ) as process,
        ):
            ready(url)
            code = process.wait()
            raise PipelineError(f"the service {tag} ended by itself with exit code {code}")

    def _prove_served(self, tag: str, bundle: Path) -> None:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        with running(
            self._serve_command(tag, port=port, host="127.0.0.1"),
            url=url,
            environment=self._environment(),
            folder=self._home,
            start_timeout_s=self._start_timeout_s,
            gave_up=GAVE_UP,
        ):
            ask_probe(url, bundle)

    def _build(self, tag: str, contents: Contents, *, bundle: Path, bundle_sha256: str) -> None:
        name, _, version = tag.partition(":")
        model_tag = f"{name}:{bundle_sha256[:12]}"
        labels = {"bundle_sha256": bundle_sha256}
        request = {
            "bundle": str(bundle.resolve()),
            "model_tag": model_tag,
            "labels": labels,
            "options": {
                "service": f"{SERVICE.stem}:Recogniser",
                "name": name,
                "version": version,
                "labels": labels,
                "models": [model_tag],
                "docker": {"python_version": contents.python_version},
                "python": {"packages": list(contents.requirements), "lock_packages": False},
            },
        }
        with TemporaryDirectory(dir=self._home, prefix=".build-") as folder:
            _write_context(Path(folder) / "context", contents, model_tag=model_tag)
            (Path(folder) / "request.json").write_text(json.dumps(request))
            answer = subprocess.run(
                [sys.executable, "-m", __name__, "request.json", "context"],
                env=self._environment(),
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
            )
        if answer.returncode != 0 or not self._is_whole(tag, contents):
            shown = (answer.stderr or answer.stdout)[-SHOWN_CHARACTERS:].strip()
            raise PipelineError(f"BentoML could not build {tag}; its output ends with:\n{shown}")

    def _is_whole(self, tag: str, contents: Contents) -> bool:
        """Whether a build of these contents ran to its end, whatever interrupted another."""
        src = self._bento(tag) / "src"
        return self.has(tag) and all(
            (src / name).is_file() and (src / name).read_bytes() == code
            for name, code in contents.sources.items()
        )

    def _discard(self, tag: str, *, model_tag: str) -> None:
        shutil.rmtree(self._bento(tag), ignore_errors=True)
        model = self._model(model_tag)
        try:
            open_bundle(model)
        except NotReadyError:
            shutil.rmtree(model, ignore_errors=True)

    def _bento(self, tag: str) -> Path:
        return self._home / "bentos" / tag.replace(":", "/")

    def _model(self, tag: str) -> Path:
        return self._home / "models" / tag.replace(":", "/")

    def _serve_command(self, tag: str, *, port: int, host: str) -> list[str]:
        command = [sys.executable, "-m", "bentoml", "serve", tag]
        return [*command, "--host", host, "--port", str(port)]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "BENTOML_HOME": str(self._home)}


def _write_context(folder: Path, contents: Contents, *, model_tag: str) -> None:
    """Lay a service's code out as BentoML builds it."""
    for name, code in contents.sources.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(code)
    (folder / "bundle_tag").write_text(model_tag)


@contextmanager
def _interrupted_when_terminated() -> Iterator[None]:
    """Let what a supervisor sends end the block as the keyboard does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def main(request_path: str, context: str) -> None:
    """Store a bundle and build a Bento, in a process where nothing else is loaded.

    Args:
        request_path: A JSON file with what :class:`BentoBuilder` asks for.
        context: The folder with the service's code.
    """
    import bentoml

    request = json.loads(Path(request_path).read_text())
    try:
        bentoml.models.get(request["model_tag"])
    except bentoml.exceptions.NotFound:
        with bentoml.models.create(request["model_tag"], labels=request["labels"]) as model:
            shutil.copytree(request["bundle"], model.path, dirs_exist_ok=True)
    bentoml.build(**request["options"], build_ctx=context)


if __name__ == "__main__":
    main(*sys.argv[1:])
