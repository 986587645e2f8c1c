"""The endpoint's routes, for any ASGI server; ``deploy/service.py`` mounts them at ``/v1``.

=======================  =========================================================
``POST /predict``        an image in, what it shows out
``GET /bundle``          which model serves: classes, parents, precision, hash
=======================  =========================================================

Whatever bytes come, the answer is a 4xx with a reason, never a 5xx: 413 for a body that
is too large, 415 for one that is no image by its type, 422 for one that does not decode or
whose box is none or outside it. 503 means that all places are taken. Decoding and
inference run in threads.
"""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Protocol

import numpy as np
from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, HTTPException, Query, Request
from jaxtyping import Float32, UInt8

from fgpipe.errors import DataError, UnavailableError
from fgpipe.images.boxes import box_region
from fgpipe.images.files import read_image
from fgpipe.images.labels_file import Box
from fgpipe.serving.answers import BundleCard, Problem, Recognition, recognition
from fgpipe.serving.batcher import MicroBatcher
from fgpipe.serving.upload import Upload, read_upload

if TYPE_CHECKING:
    from fgpipe.serving.predictor import Prediction

MAX_ALTERNATIVES = 1000
"""Most further classes that one answer names."""


class Recogniser(Protocol):
    """What the routes need of ``fgpipe.serving.predictor.Predictor``."""

    def preprocess(
        self, image: UInt8[np.ndarray, "height width 3"], box: Box | None = None
    ) -> UInt8[np.ndarray, "size size 3"]:
        """Bring an image to the network's size."""
        ...

    def logits(
        self, batch: UInt8[np.ndarray, "batch size size 3"]
    ) -> Float32[np.ndarray, "batch classes"]:
        """Run the network."""
        ...

    def predictions(self, logits: Float32[np.ndarray, "batch classes"]) -> "list[Prediction]":
        """The calibrated answer for each row."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one request and all of them may cost."""

    max_bytes: int = 20 * 2**20
    """Most bytes of a body."""
    max_pixels: int = 50_000_000
    """Largest width times height: a small file can hold a huge image."""
    timeout_s: float = 30.0
    """Most seconds for a body to arrive."""
    max_places: int = 64
    """Most requests at a time; bounds memory to this many bodies."""
    n_decoders: int = os.cpu_count() or 1
    """Images decoded at a time; bounds memory to this many images of ``max_pixels``."""


def create_app(
    predictor: Recogniser, *, bundle: BundleCard, limits: Limits | None = None
) -> FastAPI:
    """The routes over one model.

    The thread that runs the network starts with the first image and ends with the app's
    lifespan; a host that does not run the lifespan of what it mounts calls
    ``app.state.batcher.close()``.

    Args:
        predictor: Runs the network.
        bundle: What the model says about itself.
        limits: What a request may cost.
    """
    limits = limits or Limits()
    batcher = MicroBatcher(predictor.logits, max_places=limits.max_places)
    decoders = CapacityLimiter(limits.n_decoders)

    def decode(upload: Upload) -> UInt8[np.ndarray, "size size 3"]:
        image = read_image(upload.content, max_pixels=limits.max_pixels)
        if upload.box is not None:
            # Whether or not this model cuts boxes out: the next one may.
            box_region(upload.box, shape=image.shape, margin=0)
        return predictor.preprocess(image, upload.box)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await to_thread.run_sync(batcher.close)

    app = FastAPI(
        title=bundle.name,
        version=bundle.sha256[:12],
        lifespan=lifespan,
        docs_url=None,  # the pages load scripts from elsewhere; openapi.json remains
        redoc_url=None,
    )
    app.state.batcher = batcher

    @app.post("/predict", openapi_extra=_BODY, responses=_problems((408, 413, 415, 422, 503)))
    async def predict(
        request: Request,
        alternatives: Annotated[int, Query(ge=0, le=MAX_ALTERNATIVES)] = 5,
    ) -> Recognition:
        """Tell what an image shows.

        The image is a form's file (`image` or `file`) or the whole body. A form may have a
        field `box` (`left top width height`, in pixels of the upright image), which is used
        where the model was trained on what boxes hold (`uses_box` of `/bundle`); without it
        the whole image is.
        """
        try:
            with batcher.place():
                upload = await read_upload(
                    request, max_bytes=limits.max_bytes, timeout_s=limits.timeout_s
                )
                pixels = await to_thread.run_sync(decode, upload, limiter=decoders)
                logits = await batcher.row(pixels)
        except DataError as error:
            raise HTTPException(422, str(error)) from None
        except UnavailableError as error:
            raise HTTPException(503, str(error), headers={"Retry-After": "1"}) from None
        prediction = predictor.predictions(logits[np.newaxis])[0]
        return recognition(prediction, card=bundle, n_alternatives=alternatives)

    @app.get("/bundle")
    async def bundle_card() -> BundleCard:
        """Tell which model serves."""
        return bundle

    return app


_FILE = {"type": "string", "format": "binary"}

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"image": _FILE, "box": {"type": "string"}},
                }
            },
            "image/*": {"schema": _FILE},
            "application/octet-stream": {"schema": _FILE},
        },
    }
}


def _problems(codes: Sequence[int]) -> dict[int | str, dict[str, object]]:
    return {code: {"model": Problem} for code in codes}
