"""A mistake in the configuration is one line that says where it is and what to do, and nothing starts."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock import settings
from penstock.bootstrap import build
from penstock.cli import main
from tests.e2e.server import ROOT, penstock

PROVIDER = "providers:\n  - name: x\n    type: openai\n"
NAMES = "names of 1 to 200 of the characters A-Z a-z 0-9 . _ : / @ + -, beginning with a letter or digit"
ADDRESS = "must be an address such as http://127.0.0.1:30000/v1, without user name and query"
KINDS = (
    "anthropic, bedrock, blackbox, custom, deepseek, grok, groq, infinilm, mistral, ollama, openai, openrouter, sglang,"
    " simulated, together, vllm, xai"
)

MISTAKES = {
    # unknown keys, with a suggestion where one is near
    "serverr: {}\n": "1: serverr: nothing reads this key; did you mean 'server'?",
    "zz: 1\n": "1: zz: nothing reads this key",
    "1: 2\n": "1: 1: nothing reads this key",
    "server:\n  prot: 8000\n": "2: server.prot: nothing reads this key; did you mean 'port'?",
    PROVIDER
    + "    base_ulr: http://x/v1\n": "4: providers.0.base_ulr: nothing reads this key; did you mean 'base_url'?",
    PROVIDER + "    models:\n      - name: a\n        upstrem: b\n": (
        "6: providers.0.models.0.upstrem: nothing reads this key; did you mean 'upstream'?"
    ),
    # what is missing
    "providers:\n  - name: x\n": "2: providers.0.type: is required",
    "providers:\n  - nam: x\n    type: openai\n": "2: providers.0.nam: nothing reads this key; did you mean 'name'?",
    PROVIDER + "    models: [{name: a}]\n": "4: providers.0.models.0: upstream: must be given, unless there is a path",
    "providers:\n  - name: x\n    type: infinilm\n": (
        "2: providers.0.base_url: type 'infinilm' has no usual address: give one"
    ),
    PROVIDER + "    api_key_env: NOPE_KEY\n": (
        "4: providers.0.api_key_env: the environment variable NOPE_KEY is not set: set it, or write 'enabled: false'"
    ),
    # wrong types
    "providers: 5\n": "1: providers: must be a list",
    "providers:\n  - 5\n": "2: providers.0: must be a mapping",
    "server: 8000\n": "1: server: must be a mapping",
    "server:\n  port: abc\n": "2: server.port: must be a whole number",
    "server:\n  port: '8000'\n": "2: server.port: must be a whole number",
    "server:\n  host: 5\n": "2: server.host: must be a string: put it in quotes",
    "auth:\n  api_keys: key\n": "2: auth.api_keys: must be a list",
    "auth:\n  api_keys:\n    - good\n    - 12345\n": "4: auth.api_keys.1: must be a string: put it in quotes",
    PROVIDER + "    models: tiny\n": "4: providers.0.models: must be a list",
    PROVIDER + "    models: [5]\n": "4: providers.0.models.0: must be a string or a mapping: put it in quotes",
    PROVIDER + "    timeout: '5'\n": "4: providers.0.timeout: must be a number",
    PROVIDER + "    timeout: .inf\n": "4: providers.0.timeout: must be more than 0 and at most 3600 seconds",
    PROVIDER + "    enabled: perhaps\n": "4: providers.0.enabled: must be true or false",
    PROVIDER + "    custom_headers: {X-Team: 5}\n": (
        "4: providers.0.custom_headers.X-Team: must be a string: put it in quotes"
    ),
    "request:\n  attempts: 1.5\n": "2: request.attempts: must be a whole number",
    # out of bounds
    "server:\n  port: 70000\n": "2: server.port: must be from 1 to 65535",
    "request:\n  attempts: 0\n": "2: request.attempts: must be from 1 to 20",
    "request:\n  ping_interval: 16\n": "2: request.ping_interval: must be more than 0 and at most 15 seconds",
    "auth:\n  mode: key\n": "2: auth.mode: must be 'keys' or 'none'",
    "logging:\n  level: debug\n": "2: logging.level: must be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'",
    "auth:\n  api_keys: ['']\n": "2: auth.api_keys: must be keys of visible ASCII characters",
    "auth:\n  api_key_header: 'X Key'\n": "2: auth.api_key_header: must be a header's name: letters, digits and -",
    PROVIDER + "    timeout: 0\n": "4: providers.0.timeout: must be more than 0 and at most 3600 seconds",
    PROVIDER + "    models: [bad name]\n": f"4: providers.0.models: must be {NAMES}",
    PROVIDER
    + "    models: [a, {name: a, upstream: b}]\n": "4: providers.0.models: must be a list that has each name once",
    PROVIDER + "    custom_headers: {X Team: a}\n": (
        "4: providers.0.custom_headers: must be named by letters, digits and -"
    ),
    PROVIDER + '    custom_headers: {X-Team: "a\\nb"}\n': "4: providers.0.custom_headers: must be of one line each",
    PROVIDER + "    options: {ttft: 1}\n": "4: providers.0.options: type 'openai' has no options",
    "providers:\n  - name: x\n    type: opena\n": f"3: providers.0.type: 'opena' is not known; there are {KINDS}",
    "prices:\n  - {model: tiny, inptu: 1}\n": "2: prices.0.inptu: nothing reads this key; did you mean 'input'?",
    "prices: {tiny: 1}\n": "1: prices: must be a list",
    "prices:\n  - {input: 1}\n  - model: tiny\n    input: '1'\n": "4: prices.1.input: must be a number",
    "prices:\n  - model: tiny\n    output: -1\n": "3: prices.0.output: must be from 0 to 1000 dollars",
    "prices:\n  - model: tiny\n    image: .nan\n": "3: prices.0.image: must be from 0 to 1000 dollars",
    "prices:\n  - model: tiny\n": "2: prices.0.input: must be given, or another price; 0 is free",
    # addresses
    PROVIDER + "    base_url: htp://x/v1\n": f"4: providers.0.base_url: {ADDRESS}",
    PROVIDER + "    base_url: x:8000\n": f"4: providers.0.base_url: {ADDRESS}",
    PROVIDER + "    base_url: http://\n": f"4: providers.0.base_url: {ADDRESS}",
    PROVIDER + "    base_url: http://x:99999/v1\n": f"4: providers.0.base_url: {ADDRESS}",
    PROVIDER + "    base_url: http://x:port/v1\n": f"4: providers.0.base_url: {ADDRESS}",
    PROVIDER + "    base_url: http://[::1/v1\n": f"4: providers.0.base_url: {ADDRESS}",
    PROVIDER + "    base_url: http://a:b@x/v1\n": f"4: providers.0.base_url: {ADDRESS}",
    PROVIDER + "    base_url: http://x..y/v1\n": f"4: providers.0.base_url: {ADDRESS}",
    PROVIDER + "    base_url: 'http://x/v 1'\n": f"4: providers.0.base_url: {ADDRESS}",
    # twice
    "auth:\n  mode: none\n  mode: keys\n": "3: mode: is given twice",
    "auth: {}\nserver: {}\nauth: {}\n": "3: auth: is given twice",
    PROVIDER + "  - name: x\n    type: groq\n": "4: providers.1.name: 'x' is the name of two providers",
    "providers:\n  - name: workers\n    type: groq\n": "2: providers.0.name: 'workers' is the name of all GPU workers",
    # no YAML, or not of this kind
    "- a\n": "1: must hold sections such as 'providers:'",
    "just text\n": "1: must hold sections such as 'providers:'",
    "a: b: c\n": "1: is not YAML: mapping values are not allowed here",
    "auth:\n\tmode: none\n": (
        "2: is not YAML: found character '\\t' that cannot start any token (a tab: indent with spaces)"
    ),
    "auth: [\n": "2: is not YAML: expected the node content, but found '<stream end>'",
    "a: 1\n---\nb: 2\n": "2: is not YAML: but found another document",
    "a: !!python/object/apply:os.system [ls]\n": (
        "1: is not YAML: could not determine a constructor for the tag"
        " 'tag:yaml.org,2002:python/object/apply:os.system'"
    ),
    "? [a]\n: b\n": "1: is not YAML: found unhashable key",
    "a: 1\nb: \x01\n": "2: is not YAML: it holds the control character 0x1",
    "server:\n  host: &h [*h]\n": "2: holds an alias of itself",
}


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty folder, an environment without settings, and the log as it was afterwards."""
    monkeypatch.chdir(tmp_path)
    for name in ("PENSTOCK_CONFIG", "PENSTOCK_STATE_URL", "PENSTOCK_PORT", "NOPE_KEY"):
        monkeypatch.delenv(name, raising=False)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line with which a command refuses to start."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    told = capsys.readouterr()
    assert ended.value.code == 2
    assert told.out == ""
    assert told.err.count("\n") == 1, told.err
    return told.err.rstrip("\n")


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_one_line_with_its_place(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("config.yaml").write_text(text, encoding="utf-8")
    assert complaint(capsys, "doctor", "--config", "config.yaml") == f"penstock: config.yaml:{MISTAKES[text]}"


def test_a_file_that_cannot_be_read_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("folder.yaml").mkdir()
    Path("wide.yaml").write_bytes("auth: {}".encode("utf-16"))
    Path("deep.yaml").write_text("auth: " + "[" * 1000)
    missing = "penstock: none.yaml: there is no such file; config.example.yaml is one to start from"
    assert complaint(capsys, "serve", "--config", "none.yaml") == missing
    assert (
        complaint(capsys, "serve", "--config", "folder.yaml") == "penstock: folder.yaml: cannot be read: Is a directory"
    )
    assert (
        complaint(capsys, "serve", "--config", "wide.yaml")
        == "penstock: wide.yaml: cannot be read: it is not UTF-8 text"
    )
    assert (
        complaint(capsys, "serve", "--config", "deep.yaml")
        == "penstock: deep.yaml: is not YAML: it is nested too deeply"
    )


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("PENSTOCK_PORT", "abc", "PENSTOCK_PORT: 'abc' is no number from 1 to 65535"),
        ("PENSTOCK_PORT", "0", "PENSTOCK_PORT: '0' is no number from 1 to 65535"),
        ("PENSTOCK_CONFIG", "none.yaml", "none.yaml: there is no such file; config.example.yaml is one to start from"),
        ("MODEL_BACKEND", "vllm", "MODEL_BACKEND: must be one of ollama, transformers"),
        ("MAX_NEW_TOKENS", "5.5", "MAX_NEW_TOKENS: '5.5' is no whole number"),
        ("TEMPERATURE", "nan", "TEMPERATURE: must be from 0 to 2"),
        ("TASK_TIME_LIMIT", "0", "TASK_TIME_LIMIT: must be from 1 to 86400 seconds"),
        (
            "PENSTOCK_STATE_URL",
            "mysql://x/y",
            "PENSTOCK_STATE_URL: 'mysql://x/y' names no store: write sqlite:///path.db or dynamodb://prefix",
        ),
        (
            "PENSTOCK_STATE_URL",
            "state.db",
            "PENSTOCK_STATE_URL: 'state.db' names no store: write sqlite:///path.db or dynamodb://prefix",
        ),
        (
            "PENSTOCK_STATE_URL",
            "sqlite:///",
            "PENSTOCK_STATE_URL: 'sqlite:///' names no file: write sqlite:///relative/path.db or"
            " sqlite:////absolute/path.db",
        ),
    ],
)
def test_a_wrong_variable_is_named(
    variable: str, value: str, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, value)
    assert complaint(capsys, "serve") == f"penstock: {line}"


def test_the_line_is_the_same_in_a_process_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("server:\n  prot: 8000\n", encoding="utf-8")
    ended = penstock("serve", "--config", "config.yaml", folder=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr == "penstock: config.yaml:2: server.prot: nothing reads this key; did you mean 'port'?\n"
    assert ended.stdout == ""


def test_what_is_empty_says_nothing(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("# all of it is a comment\nserver:\nproviders:\n", encoding="utf-8")
    assert settings.load({}, config=str(config)).document == settings.load({}).document


def test_anchors_and_dates_are_no_surprise(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "providers:\n  - &one {name: 2026-01-01, type: openai, timeout: 5}\n  - {<<: *one, name: two}\n",
        encoding="utf-8",
    )
    providers = settings.load({}, config=str(config)).document.providers
    assert providers is not None
    assert [(provider.name, provider.timeout) for provider in providers] == [("2026-01-01", 5.0), ("two", 5.0)]


def test_a_provider_that_is_off_needs_no_credential(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(PROVIDER + "    api_key_env: NOPE_KEY\n    enabled: false\n", encoding="utf-8")
    assert settings.load({}, config=str(config)).credentials == {}


def test_the_example_loads_as_it_stands_and_shows_every_key() -> None:
    example = ROOT / "config.example.yaml"
    told = settings.load({}, config=str(example))
    build(told)
    text = example.read_text(encoding="utf-8")
    for key in keys(type(told.document)):
        assert f"{key}:" in text, f"config.example.yaml does not show {key!r}"


def keys(section: type) -> Iterator[str]:
    """Every key that the settings read, of this section and of those in it."""
    from dataclasses import fields
    from typing import get_type_hints

    from penstock.config import _section_in

    hints = get_type_hints(section)
    for field in fields(section):
        yield field.name
        if inner := _section_in(hints[field.name]):
            yield from keys(inner)
