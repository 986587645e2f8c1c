import asyncio
import io
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fgpipe.images.labels_file import Box
from fgpipe.serving.answers import BundleCard
from fgpipe.serving.http import Limits, create_app

CARD = BundleCard(
    name="tiny",
    sha256="5" * 64,
    labels=("amber", "blue", "green"),
    parents={"amber": "warm", "blue": "cold", "green": "cold"},
    precision="f32",
    uses_box=False,
)
BROWN = (102, 51, 0)


class Said:
    """A prediction as the predictor gives it."""

    def __init__(self, probabilities: np.ndarray) -> None:
        ranked = sorted(zip(CARD.labels, probabilities.tolist(), strict=True), key=lambda p: -p[1])
        self.label, self.probability = ranked[0]
        self.alternatives = tuple(ranked)
        warm = float(probabilities[0])
        self.parent = "warm" if warm > 1 - warm else "cold"
        self.parent_probability = max(warm, 1 - warm)


class Channels:
    """A predictor whose probabilities are an image's mean red, blue and green."""

    def __init__(self, *, held: threading.Event | None = None) -> None:
        self.held = held

    def preprocess(self, image: np.ndarray, box: Box | None = None) -> np.ndarray:
        if box is not None:
            image = image[box.top : box.top + box.height, box.left : box.left + box.width]
        return image.mean(axis=(0, 1), keepdims=True).astype(np.uint8)

    def logits(self, batch: np.ndarray) -> np.ndarray:
        if self.held:
            self.held.wait(10)
        return batch[:, 0, 0, [0, 2, 1]].astype(np.float32)

    def predictions(self, logits: np.ndarray) -> list[Said]:
        shares = (logits + 1e-9) / (logits + 1e-9).sum(axis=1, keepdims=True)
        return [Said(row) for row in shares]


def app(**limits: Any) -> FastAPI:
    return create_app(Channels(), bundle=CARD, limits=Limits(**limits))


def talk(server: FastAPI, script: Callable[[httpx.AsyncClient], Coroutine[Any, Any, Any]]) -> Any:
    """Run a script against the app in memory; what the app raises, the script raises."""

    async def run() -> Any:
        transport = httpx.ASGITransport(server)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await script(client)

    try:
        return asyncio.run(run())
    finally:
        server.state.batcher.close()


def send(server: FastAPI, **request: Any) -> httpx.Response:
    return talk(server, lambda client: client.post("/predict", **request))


def picture(
    format_: str = "PNG", *, size: tuple[int, int] = (40, 30), colour: Any = BROWN
) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, format=format_)
    return buffer.getvalue()


PNG = {"Content-Type": "image/png"}


@pytest.mark.parametrize(
    "request_",
    [
        {"files": {"image": picture()}},
        {"files": {"file": ("x.png", picture(), "image/png")}},
        {"content": picture(), "headers": PNG},
        {"content": picture(), "headers": {"Content-Type": "IMAGE/PNG; charset=binary"}},
        {"content": picture(), "headers": {"Content-Type": "application/octet-stream"}},
    ],
)
def test_an_image_is_taken_as_a_forms_file_or_as_the_body(request_: dict[str, Any]) -> None:
    answer = send(app(), **request_)

    assert answer.status_code == 200
    assert answer.json() == {
        "label": "amber",
        "probability": pytest.approx(2 / 3),
        "alternatives": [
            {"label": "green", "probability": pytest.approx(1 / 3)},
            {"label": "blue", "probability": pytest.approx(0, abs=1e-6)},
        ],
        "parent": "warm",
        "parent_probability": pytest.approx(2 / 3),
        "bundle": {"name": "tiny", "sha256": "5" * 64},
    }


def two_halves() -> bytes:
    """40 x 30 px, left amber, right blue."""
    image = Image.new("RGB", (40, 30), (250, 0, 0))
    image.paste((0, 0, 250), (20, 0, 40, 30))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ("0 0 10 10", ("amber", 1)),
        ("30 20 10 10", ("blue", 1)),
        ("25.4 0 500 500", ("blue", 1)),
        ("", ("amber", 0.5)),
        (None, ("amber", 0.5)),
    ],
)
def test_a_form_may_say_where_the_object_is(box: str | None, expected: tuple[str, float]) -> None:
    data = None if box is None else {"box": box}

    answer = send(app(), files={"image": two_halves()}, data=data)

    assert answer.status_code == 200
    assert answer.json()["label"] == expected[0]
    assert answer.json()["probability"] == pytest.approx(expected[1], abs=1e-6)


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ("1 2 3", "not `left top width height`"),
        ("a b c d", "not `left top width height`"),
        ("nan 0 1 1", "not `left top width height`"),
        ("1e400 0 1 1", "not `left top width height`"),
        ("0 0 0 5", "no area"),
        ("-1 0 5 5", "begins outside"),
        ("40 0 5 5", "outside the image, which is 40 x 30 px"),
        ("0 30 5 5", "outside the image, which is 40 x 30 px"),
        ("1e308 0 1 1", "larger than any image"),
        ("0 0 1.7e308 5", "larger than any image"),
        ("0 0 10 10" + 90 * " " + "99", "101 characters, not `left top width height`"),
        ("9" * 5000, "not `left top width height`"),
        ("9" * 5000 + " 1 1 1", "not `left top width height`"),
    ],
)
def test_a_box_that_is_none_or_not_in_the_image_is_refused_with_the_reason(
    box: str, reason: str
) -> None:
    answer = send(app(), files={"image": two_halves()}, data={"box": box})

    assert answer.status_code == 422
    assert reason in answer.json()["detail"]
    assert len(answer.json()["detail"]) < 300


def test_several_boxes_are_refused_and_none_is_chosen() -> None:
    boxes = ["0 0 10 10", "30 20 10 10"]

    answer = send(app(), files={"image": two_halves()}, data={"box": boxes})

    assert answer.status_code == 422
    assert answer.json()["detail"] == (
        "the form has 2 fields 'box'; send a request for each object"
    )


@pytest.mark.parametrize("content", [b"", b"\0\xff"])
def test_a_box_of_junk_bytes_is_refused(content: bytes) -> None:
    form = (
        b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
        + two_halves()
        + b'\r\n--b\r\nContent-Disposition: form-data; name="box"\r\n\r\n'
        + content
        + b"\xfe\r\n--b--\r\n"
    )

    answer = send(app(), content=form, headers={"Content-Type": "multipart/form-data; boundary=b"})

    assert answer.status_code == 422, answer.text


@pytest.mark.parametrize(("n", "expected"), [(0, []), (1, ["green"]), (9, ["green", "blue"])])
def test_as_many_alternatives_as_asked_the_most_probable_first(n: int, expected: list[str]) -> None:
    answer = send(app(), files={"image": picture()}, params={"alternatives": n})

    assert [entry["label"] for entry in answer.json()["alternatives"]] == expected


def test_it_tells_which_bundle_serves() -> None:
    answer = talk(app(), lambda client: client.get("/bundle"))

    assert BundleCard.model_validate(answer.json()) == CARD


@pytest.mark.parametrize(
    ("request_", "status", "reason"),
    [
        ({"content": b"junk", "headers": PNG}, 422, "not an image"),
        ({"content": b"", "headers": PNG}, 422, "is empty: send"),
        ({"content": picture()[:-30], "headers": PNG}, 422, "image"),
        (
            {"content": picture("ICO"), "headers": {"Content-Type": "image/x-icon"}},
            422,
            "not an image",
        ),
        ({"files": {"image": b""}}, 422, "is empty: send"),
        ({"files": {"photo": picture()}}, 422, "no file image or file"),
        ({"data": {"image": "http://127.0.0.1/x.png"}, "files": {"other": b"x"}}, 422, "is text"),
        ({"files": {"image": picture(), "file": picture()}}, 422, "broken"),
        ({"data": {"image": "x"}}, 415, "no image"),
        ({"json": {"image": "x"}}, 415, "no image"),
        ({"content": picture()}, 415, "no image"),
        (
            {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}},
            422,
            "form is broken",
        ),
        (
            {
                "content": b"--a\r\nX",
                "headers": {"Content-Type": "multipart/form-data; boundary=b"},
            },
            422,
            "form is broken",
        ),
        (
            {"content": picture(), "headers": PNG, "params": {"alternatives": "many"}},
            422,
            "integer",
        ),
    ],
)
def test_what_is_no_image_is_refused_with_the_reason(
    request_: dict[str, Any], status: int, reason: str
) -> None:
    answer = send(app(), **request_)

    assert answer.status_code == status
    assert reason in str(answer.json()["detail"])


def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_read() -> None:
    async def never() -> AsyncIterator[bytes]:
        raise AssertionError("read")
        yield b""

    headers = {**PNG, "Content-Length": "101"}

    answer = send(app(max_bytes=100), content=never(), headers=headers)

    assert answer.status_code == 413


@pytest.mark.parametrize("as_form", [False, True])
def test_a_body_that_does_not_say_how_large_it_is_is_cut_off(as_form: bool) -> None:  # noqa: FBT001 - a parameter of the test
    n_read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal n_read
        if as_form:
            yield b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
        while True:
            n_read += 1000
            yield b"x" * 1000

    kind = "multipart/form-data; boundary=b" if as_form else "image/png"

    answer = send(app(max_bytes=10_000), content=endless(), headers={"Content-Type": kind})

    assert answer.status_code == 413
    assert n_read <= 11_000


def test_an_image_with_too_many_pixels_is_refused() -> None:
    answer = send(app(max_pixels=1000), content=picture(size=(40, 26)), headers=PNG)

    assert answer.status_code == 422
    assert "more than 1,000 pixels" in answer.json()["detail"]


def test_a_body_that_does_not_arrive_is_given_up() -> None:
    async def stalled() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(10)

    answer = send(app(timeout_s=0.05), content=stalled(), headers=PNG)

    assert answer.status_code == 408


def test_when_all_places_are_taken_it_says_so_and_answers_again_later() -> None:
    released = threading.Event()
    server = create_app(
        Channels(held=released), bundle=CARD, limits=Limits(max_places=2, n_decoders=1)
    )

    async def script(client: httpx.AsyncClient) -> list[httpx.Response]:
        def post() -> asyncio.Task[httpx.Response]:
            return asyncio.create_task(client.post("/predict", content=picture(), headers=PNG))

        waiting = [post(), post()]
        await asyncio.sleep(0.05)
        refused = await post()
        released.set()
        served = await asyncio.gather(*waiting)
        return [refused, *served, await post()]

    answers = talk(server, script)

    assert [answer.status_code for answer in answers] == [503, 200, 200, 200]
    assert answers[0].headers["Retry-After"] == "1"
    assert "all 2 places are taken" in answers[0].json()["detail"]


def test_many_at_once_each_get_their_own_answer() -> None:
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250)] * 10

    async def script(client: httpx.AsyncClient) -> list[httpx.Response]:
        return await asyncio.gather(
            *(
                client.post("/predict", content=picture(colour=colour), headers=PNG)
                for colour in colours
            )
        )

    answers = talk(app(), script)

    assert [answer.json()["label"] for answer in answers] == ["amber", "green", "blue"] * 10


def test_the_documentation_names_every_way_to_send_and_every_refusal() -> None:
    operation = app().openapi()["paths"]["/predict"]["post"]

    assert set(operation["requestBody"]["content"]) == {
        "multipart/form-data",
        "image/*",
        "application/octet-stream",
    }
    assert {"200", "408", "413", "415", "422", "503"} <= set(operation["responses"])


@pytest.fixture(scope="module")
def server() -> Iterator[FastAPI]:
    made = app(max_bytes=100_000, max_pixels=10_000)
    yield made
    made.state.batcher.close()


FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")


@settings(deadline=None)
@given(
    format_=st.sampled_from(FORMATS),
    changes=st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=8),
    keep=st.integers(0, 2**12),
    tail=st.binary(max_size=8),
    as_form=st.booleans(),
)
def test_no_bytes_make_it_fail(
    server: FastAPI,
    format_: str,
    changes: list[tuple[int, int]],
    keep: int,
    tail: bytes,
    as_form: bool,  # noqa: FBT001 - hypothesis draws it
) -> None:
    content = bytearray(picture(format_))
    for position, value in changes:
        content[position % len(content)] = value
    sent = bytes(content[: max(keep, 1)] if keep % 3 == 0 else content) + tail
    request: dict[str, Any] = (
        {"files": {"image": sent}} if as_form else {"content": sent, "headers": PNG}
    )

    answer = send(server, **request)

    assert answer.status_code in {200, 422}, answer.text


@settings(deadline=None)
@given(body=st.binary(max_size=300), boundary=st.sampled_from(["b", "", '"', "\\x00", "b" * 80]))
def test_no_form_makes_it_fail(server: FastAPI, body: bytes, boundary: str) -> None:
    kind = f"multipart/form-data; boundary={boundary}"
    framed = b"--b\r\n" + body + b"\r\n--b--\r\n"

    answer = send(server, content=framed, headers={"Content-Type": kind})

    assert 400 <= answer.status_code < 500, answer.text
