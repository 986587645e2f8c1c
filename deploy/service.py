# ruff: noqa: INP001 - a Bento's entry file, no package
"""The endpoint: fgpipe's routes under ``/v1``, BentoML's own beside them.

``POST /v1/predict`` and ``GET /v1/bundle`` are :mod:`fgpipe.serving.http`; ``/livez``,
``/readyz`` and ``/metrics`` are BentoML's. This file runs inside a Bento, where
``bundle_tag`` lies beside it and names the stored bundle to serve. The bundle's probe is
asked before the first request: a machine that does not compute what was evaluated does
not start.
"""

import sys
from pathlib import Path

from fgpipe.settings import QUIET, prepare_environment

prepare_environment()
# albumentations imports torch where there is one: 470 MB and 2 s for nothing. The Bento's
# own environment has none; where training's is used instead, it is hidden.
sys.modules.setdefault("torch", None)  # type: ignore[arg-type] # what Python documents

import bentoml  # noqa: E402 - reads the environment when it is imported
from starlette.applications import Starlette  # noqa: E402

from fgpipe.serving.answers import card_of  # noqa: E402
from fgpipe.serving.bundle import check_probe, open_bundle  # noqa: E402
from fgpipe.serving.http import create_app  # noqa: E402

routes = Starlette()


@bentoml.asgi_app(routes, path="/v1")
@bentoml.service(
    name="recogniser",
    workers=1,
    envs=[{"name": name, "value": value} for name, value in QUIET.items()],
)
class Recogniser:
    """Tells what an image shows."""

    bundle = bentoml.models.BentoModel((Path(__file__).parent / "bundle_tag").read_text())

    def __init__(self) -> None:
        # Importing it takes seconds, which a build need not pay.
        from fgpipe.serving.predictor import Predictor

        folder = Path(self.bundle.path)
        predictor = Predictor.load(folder)
        check_probe(predictor, folder)
        app = create_app(
            predictor, bundle=card_of(open_bundle(folder), uses_box=predictor.uses_box)
        )
        self._batcher = app.state.batcher
        routes.mount("/", app)

    @bentoml.on_shutdown  # type: ignore[untyped-decorator] # BentoML leaves it so
    def close(self) -> None:
        """Answer what waits and end the thread that runs the network."""
        self._batcher.close()
