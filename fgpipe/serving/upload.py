"""The image in a request's body, read with limits.

An image comes as a form's file (field ``image`` or ``file``) or as the whole body. Bytes
are counted as they arrive, so that a body without end, or one that lies about its length,
is cut off at the limit. Text in the place of a file is refused: a service that fetches
an address for whoever asks can be made to read its own network.

A form may also say where in the image the object is: field ``box``, ``left top width
height`` in pixels of the upright image, as in ``labels.csv``.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from fastapi import HTTPException, Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect
from starlette.types import Message

from fgpipe.errors import DataError
from fgpipe.images.labels_file import Box

FIELDS = ("image", "file")
"""Names under which a form's file is looked for."""

MAX_BOX_CHARACTERS = 100
"""Longest text of a box that is read."""

EXAMPLES = (
    "send a form (curl -F image=@x.png) or the file with its type "
    "(curl --data-binary @x.png -H 'Content-Type: image/png')"
)


class Upload(NamedTuple):
    """What a request's body holds."""

    content: bytes
    """The image's file."""
    box: Box | None
    """Where in it the object is, if the form says so."""


async def read_upload(request: Request, *, max_bytes: int, timeout_s: float) -> Upload:
    """The image's bytes, and its box if the form has one.

    Args:
        request: A request whose body has not been read.
        max_bytes: Most bytes of the body.
        timeout_s: Most seconds until the body is complete.

    Raises:
        HTTPException: 408 if it takes too long, 413 if it is too large, 415 if it is
            neither form nor image, 422 if there is no image in it or its box is none.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    is_form = kind == "multipart/form-data"
    if not is_form and kind != "application/octet-stream" and not kind.startswith("image/"):
        raise HTTPException(415, f"content type {kind[:100]!r} is no image: {EXAMPLES}")
    limited = _limited(request, max_bytes=max_bytes)
    try:
        async with asyncio.timeout(timeout_s):
            upload = await _of_form(limited) if is_form else Upload(await limited.body(), None)
    except TimeoutError:
        raise HTTPException(408, f"the body did not arrive within {timeout_s:g} s") from None
    except ClientDisconnect:
        raise HTTPException(400, "the body ended early") from None
    if not upload.content:
        raise HTTPException(422, f"the image is empty: {EXAMPLES}")
    return upload


def _limited(request: Request, *, max_bytes: int) -> Request:
    """The same request, its body cut off at a number of bytes."""
    n_bytes = 0

    async def receive() -> Message:
        nonlocal n_bytes
        message = await request.receive()
        n_bytes += len(message.get("body", b""))
        if n_bytes > max_bytes:
            raise _too_large(max_bytes)
        return message

    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > max_bytes:
        raise _too_large(max_bytes)
    scope = {key: value for key, value in request.scope.items() if key != "app"}
    return Request(scope, receive)


def _too_large(max_bytes: int) -> HTTPException:
    return HTTPException(413, f"the body is larger than {max_bytes / 2**20:g} MiB")


async def _of_form(request: Request) -> Upload:
    try:
        async with request.form(max_files=1, max_fields=8) as form:
            for field in FIELDS:
                part = form.get(field)
                if isinstance(part, UploadFile):
                    return Upload(await part.read(), _box(form.getlist("box")))
                if part is not None:
                    raise HTTPException(422, f"field {field!r} is text, not a file: {EXAMPLES}")
            raise HTTPException(422, f"the form has no file {' or '.join(FIELDS)}: {EXAMPLES}")
    except MultiPartException as error:
        raise HTTPException(422, f"the form is broken: {error.message[:200]}") from None


def _box(fields: Sequence[UploadFile | str]) -> Box | None:
    if len(fields) > 1:
        raise HTTPException(
            422, f"the form has {len(fields)} fields 'box'; send a request for each object"
        )
    field = fields[0] if fields else ""
    if field == "":
        return None
    if isinstance(field, UploadFile):
        raise HTTPException(422, "field 'box' is a file, not text (left top width height)")
    if len(field) > MAX_BOX_CHARACTERS:
        raise HTTPException(
            422, f"field 'box' has {len(field)} characters, not `left top width height` in pixels"
        )
    try:
        return Box.parse(field)
    except DataError as error:
        raise HTTPException(422, str(error)) from None
