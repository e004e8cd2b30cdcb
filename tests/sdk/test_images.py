"""OpenAI's client makes images."""

from __future__ import annotations

import base64

import pytest
from openai import BadRequestError, OpenAI

ECHO = "simulated/echo"
PNG = b"\x89PNG\r\n\x1a\n"

pytestmark = pytest.mark.timeout(240)


def test_images_come_as_base64(client: OpenAI) -> None:
    made = client.images.generate(model=ECHO, prompt="A sunset", n=2, size="1024x1024", response_format="b64_json")
    assert made.data is not None
    assert [base64.b64decode(image.b64_json or "")[:8] for image in made.data] == [PNG, PNG]


def test_an_image_comes_as_an_address(client: OpenAI) -> None:
    made = client.images.generate(model=ECHO, prompt="A sunset", response_format="url")
    assert made.data is not None
    assert (made.data[0].url or "").startswith("data:image/png;base64,")


def test_a_wrong_number_is_named(client: OpenAI) -> None:
    with pytest.raises(BadRequestError) as refused:
        client.images.generate(model=ECHO, prompt="A sunset", n=99)
    assert refused.value.param == "n"


def test_images_are_not_streamed(client: OpenAI) -> None:
    with pytest.raises(BadRequestError) as refused:
        client.images.generate(model=ECHO, prompt="A sunset", stream=True)
    assert refused.value.param == "stream"
