"""A secret is given away by ``reveal`` alone."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import pickle
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.json import to_json
from penstock.schema.model import Deployment
from penstock.schema.secret import Secret

CANARY = "canary-7f3a9c"
SECRET = Secret(CANARY)

FORMS = {
    "str": str(SECRET),
    "repr": repr(SECRET),
    "format": f"{SECRET}",
    "wide format": f"{SECRET:>40}",
    "percent": "%s %r" % (SECRET, SECRET),  # noqa: UP031 - logging formats this way
    "in a list": str([SECRET]),
    "in a record": repr(Deployment("p/m", "m", "p", "openai", "m", "http://x", SECRET)),
    "in an error": str(ValueError(SECRET)),
    "of an attribute": str(vars(type(SECRET))),
}


@pytest.mark.parametrize("form", FORMS)
def test_it_does_not_print(form: str) -> None:
    assert CANARY not in FORMS[form]


def test_it_prints_as_stars() -> None:
    assert str(SECRET) == repr(SECRET) == f"{SECRET}" == "***"
    assert f"{SECRET:>5}" == "  ***"


def test_it_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("test").error("key %s of %r", SECRET, {"a": SECRET})
    assert CANARY not in caplog.text
    assert "***" in caplog.text


def test_it_is_not_in_a_traceback() -> None:
    with pytest.raises(ValueError, match=r"\*\*\*") as caught:
        raise ValueError(SECRET, [SECRET])
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_it_is_no_json() -> None:
    for write in (json.dumps, to_json):
        with pytest.raises(Exception, match=r"(?i)serializ"):
            write({"key": SECRET})


def test_it_does_not_survive_pickling_and_copying() -> None:
    assert CANARY.encode() not in pickle.dumps(SECRET)
    assert pickle.loads(pickle.dumps(SECRET)).reveal() == "***"
    assert copy.deepcopy(SECRET).reveal() != CANARY


def test_it_is_revealed_to_who_asks() -> None:
    assert SECRET.reveal() == CANARY


def test_equal_ones_are_equal_and_nothing_else_is() -> None:
    assert Secret("a") == Secret("a")
    assert hash(Secret("a")) == hash(Secret("a"))
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2


def test_an_empty_one_is_none() -> None:
    assert not Secret("")
    assert Secret(" ")


def test_its_hash_is_sha256_in_hexadecimal() -> None:
    assert Secret("abc").sha256() == hashlib.sha256(b"abc").hexdigest()


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=50))
def test_any_text_can_be_one(text: str) -> None:
    secret = Secret(text)
    assert secret.reveal() == text
    assert len(secret.sha256()) == 64
    assert secret == Secret(text)
