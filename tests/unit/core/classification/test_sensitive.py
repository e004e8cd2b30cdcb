"""What is found to be sensitive, what is not, and that no text makes looking for it slow."""

from __future__ import annotations

import asyncio
import time

import pytest

from penstock.core.classification.sensitive import OVERLAP, PIECE, Sensitive
from penstock.schema.classification_section import ALWAYS, SensitiveSection

KEY = "sk-proj-" + "Ab1" * 12
FOUND = {
    "mail anna.berg+news@mail.example.de today": "email",
    "Ansprechpartnerin: jürgen.möller@städte.de": "email",
    "pay with 4111 1111 1111 1111": "card",
    "card 5555-5555-5555-4444.": "card",
    "3782 822463 10005 is amex": "card",
    "DE89 3704 0044 0532 0130 00": "iban",
    "de89370400440532013000 geht auch": "iban",
    "BE68 5390 0754 7034 from me too": "iban",
    "my ssn 536-22-8917": "ssn",
    "Social Security number: 536228917": "ssn",
    "+49 151 2345 6789": "phone",
    "(415) 555-0172": "phone",
    "06 12 34 56 78": "phone",
    "请致电13912345678": "phone",
    "call me at 8675309": "phone",
    f"export OPENAI_API_KEY={KEY}": "secret",
    "AKIAIOSFODNN7EXAMPLE": "secret",
    "-----BEGIN RSA PRIVATE KEY-----": "secret",
    "postgres://app:hunter22@db/main": "secret",
    'password = "correct-horse-9"': "secret",
    "Mein Passwort lautet Sommer2024!": "secret",
    "密码是abc12345": "secret",
}
NOT_FOUND = [
    "how do I change my password?",
    "password: str = field(repr=False)",
    "token = get_token()",
    "The @app.route decorator and @media print",
    "write to user@example.com in the docs",
    "git clone git@github.com:acme/site.git",
    "4111 1111 1111 1112 fails Luhn's sum",
    "0000 0000 0000 0000",
    "2024-05-01 12:30:45, build 20240501123045",
    "pi is 3.14159265358979323846",
    "10.20.30.40 and 192.168.0.1:8080",
    "ISBN 978-3-16-148410-0",
    "666-12-3456 is no SSN",
    "I have 3 cats, 12 plants and 1,000,000 ideas",
    "commit 9fceb02d0ae598e95dc970b74767f19372d61af8",
]


def looked(text: str, section: SensitiveSection | None = None) -> tuple[str, ...]:
    return asyncio.run(Sensitive(section or SensitiveSection()).found([text]))


@pytest.mark.parametrize(("text", "kind"), [item for item in FOUND.items() if item[1]])
def test_it_is_found(text: str, kind: str) -> None:
    assert kind in looked(text)


@pytest.mark.parametrize("text", NOT_FOUND)
def test_it_is_not_found(text: str) -> None:
    assert looked(text) == ()


@pytest.mark.parametrize("at", [0, PIECE - OVERLAP, PIECE - 10, PIECE, PIECE + 3, 3 * PIECE - 5])
@pytest.mark.parametrize("text", [text for text, kind in FOUND.items() if kind in ("card", "iban", "email", "secret")])
def test_it_is_found_wherever_it_stands_in_a_long_text(text: str, at: int) -> None:
    assert looked("a" * max(at - 1, 0) + "\n" + text + "\n" + "b" * PIECE)


def test_what_the_configuration_leaves_out_is_not_looked_for() -> None:
    text = "anna.berg@web.de and 4111 1111 1111 1111"
    assert looked(text, SensitiveSection(kinds=["card"])) == ("card",)
    assert looked(text, SensitiveSection(kinds=[])) == ()


def test_medical_and_legal_words_count_where_that_is_wanted() -> None:
    text = "The patient was diagnosed with diabetes and sued; see the lawsuit."
    assert looked(text) == ()
    assert looked(text, SensitiveSection(kinds=[*ALWAYS, "medical", "legal"])) == ("medical", "legal")


def test_an_operators_own_words_and_patterns_count() -> None:
    section = SensitiveSection(keywords=["Project Heron"], patterns={"case_number": r"\bCASE-\d{4,8}\b"})
    assert looked("about project heron", section) == ("keyword",)
    assert looked("herons are birds", section) == ()
    assert looked("see CASE-20931", section) == ("case_number",)


UNITS = (
    *("a@", "@a.a.a", "eyJ-", "password is ", "phone 12 ", "+1 ", "1 ", "4111 ", "sk", "://a:b", "-----BEGIN A", " "),
    *("\n", "_", "ssn ", "(555) ", "证明", "0", "00 1", "DE89 3704 "),
)


@pytest.mark.alone
@pytest.mark.parametrize("unit", UNITS)
def test_no_megabyte_takes_longer_than_its_length_explains(unit: str) -> None:
    """A pattern that goes back and forth would take hours here; and others have their turn every few milliseconds."""
    times = {}
    for size in (1 << 18, 1 << 20):
        text = unit * (size // len(unit))
        times[size] = min(_seconds(text) for _ in range(2))
    assert times[1 << 20] < 5
    assert times[1 << 20] < 4 * times[1 << 18] * 3 + 0.05


def _seconds(text: str) -> float:
    began = time.perf_counter()
    looked(text)
    return time.perf_counter() - began


async def test_others_have_their_turn_while_a_long_text_is_looked_through() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await Sensitive(SensitiveSection()).found(["word " * 200_000])
    task.cancel()
    assert turns >= 1_000_000 // PIECE
