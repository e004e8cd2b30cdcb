"""A secret prints as *** wherever a program prints things by itself."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback
from pathlib import Path

import pytest

from penstock import settings
from penstock.schema.secret import Secret

CANARY = "sk-canary-5f1e9b7c"

PRINTED = {
    "str": str,
    "repr": repr,
    "f-string": lambda secret: f"{secret}",
    "padded": lambda secret: f"{secret:>40}",
    "percent": lambda secret: "%s" % secret,  # noqa: UP031
    "in a list": lambda secret: str([secret]),
    "json": lambda secret: json.dumps({"key": secret}, default=str),
    "pickle": lambda secret: pickle.dumps(secret).decode("latin-1"),
    "copy": lambda secret: repr(copy.deepcopy({"key": secret})),
    "sha256": lambda secret: secret.sha256(),
}


@pytest.mark.parametrize("way", PRINTED)
def test_a_secret_is_never_printed(way: str) -> None:
    assert CANARY not in PRINTED[way](Secret(CANARY))


def test_only_reveal_gives_a_secret_away() -> None:
    assert Secret(CANARY).reveal() == CANARY
    assert not hasattr(Secret(CANARY), "__dict__")


def test_a_traceback_and_a_log_line_show_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret(CANARY)
    try:
        raise ValueError("bad key", secret)
    except ValueError as error:
        logging.getLogger("penstock").warning("the key %s was refused", secret, exc_info=error)
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert CANARY not in shown + caplog.text
    assert "***" in caplog.text


@pytest.mark.parametrize("variable", ["API_KEYS", "ROUTER_API_KEY", "ROUTER_ALLOWED_API_KEYS", "OPENAI_API_KEY"])
def test_settings_print_without_the_keys_in_them(variable: str, tmp_path: Path) -> None:
    told = settings.load({variable: CANARY}, state=f"sqlite:///{tmp_path}/state.db")
    assert CANARY not in repr(told)


def test_settings_print_without_the_keys_of_the_configuration(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f'auth: {{mode: keys, api_keys: ["{CANARY}"]}}\nproviders: []\n', encoding="utf-8")
    assert CANARY not in repr(settings.load({}, config=str(config)))
