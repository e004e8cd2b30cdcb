"""Templates as the proxy's document has them, over HTTP on both stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.contract.conftest import CONFIG, Serve
from tests.e2e.server import Server, wait_for

SECTION = """\
templates:
  enabled: true
  directory: "templates"
  cache_size: 50
  auto_reload: true
"""
KEY = {"authorization": "Bearer test-key-123"}

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def filling(serve: Serve) -> Server:
    """A gateway with the document's section, and a template beside its configuration."""
    server = serve(CONFIG + SECTION)
    directory = server.folder / "templates"
    directory.mkdir()
    (directory / "greet.j2").write_text("Greet {{ name }}{% for t in topics %}, {{ t }}{% endfor %}.")
    return server


def ask(server: Server, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    body = {"model": "echo", "template": "greet", "template_variables": {"name": "Ada", "topics": ["tea"]}, **fields}
    return httpx.post(f"{server.url}/v1/chat/completions", headers=KEY | (headers or {}), json=body, verify=False)


def said(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    text: str = answer.json()["choices"][0]["message"]["content"]
    return text


@pytest.mark.row("P12")
def test_a_template_is_filled_and_read_again_when_its_file_changes(filling: Server) -> None:
    assert "Greet Ada, tea." in said(ask(filling))
    (filling.folder / "templates" / "greet.j2").write_text("Dear {{ name }}!")
    wait_for(lambda: "Dear Ada!" in said(ask(filling)), "the changed template")
    stream = ask(filling, stream=True)
    assert stream.text.endswith("data: [DONE]\n\n")
    job = ask(filling, headers={"prefer": "respond-async, wait=60"})
    assert "Dear Ada!" in said(job)


@pytest.mark.row("P12")
def test_an_undefined_variable_is_a_400_that_names_it(filling: Server) -> None:
    answer = ask(filling, template_variables={"name": "Ada"})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == "template_variables"
    assert "'topics'" in error["message"]


@pytest.mark.row("P12")
def test_a_template_reaches_nothing_outside(filling: Server) -> None:
    Path(filling.folder / "templates" / "spy.j2").write_text("{{ ''.__class__.__mro__[1].__subclasses__() }}")
    assert ask(filling, template="spy").json()["error"]["code"] == "template_broken"
    for name in ("../config.yaml", "/etc/passwd", "greet/../../config.yaml"):
        assert ask(filling, template=name).status_code == 400
