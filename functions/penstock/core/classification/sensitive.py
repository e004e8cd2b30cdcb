"""Finds what shall not leave the house: addresses, numbers of cards and accounts, secrets, and an operator's own words.

Every pattern here is bounded: what it costs grows with a text's length alone, whatever the text.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from penstock.core.classification.identifiers import is_card, is_iban, is_phone
from penstock.core.classification.subjects import LEGAL, MEDICAL, subject
from penstock.schema.classification_section import SensitiveSection

PIECE, OVERLAP = 16_384, 2_048
"""Characters that are looked at before others have their turn, and those that the next piece has again: no fewer than
the longest thing that is looked for.
"""
Finds = Callable[[str], bool]

_EMAIL = re.compile(
    r"(?<=[\w%+-])@(?!example\.(?:com|org|net)\b)(?:[\w-]{1,63}\.){1,6}[^\W\d_]{2,24}(?![\w@])", re.IGNORECASE
)
_CARD = re.compile(r"(?<![\w.,-])\d(?:[ \-.\u00a0\u202f]?\d){12,18}(?![\w])")
_IBAN = re.compile(
    r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?:[ \-]?[A-Za-z0-9]{4}){2,7}(?:[ \-]?[A-Za-z0-9]{1,3})?(?![A-Za-z0-9])"
)
_SSN = re.compile(r"(?<![\d-])(?!000|666|9\d\d)\d{3}([- ])(?!00)\d{2}\1(?!0000)\d{4}(?![\d-])")
_CALLED_SSN = re.compile(r"(?:ssn|social security)[^\d\n]{1,30}\d{9}(?!\d)")
_TOKEN = re.compile(
    r"(?<![\w-])(?:sk-[\w-]{16,200}|(?:sk|rk|pk)_live_\w{10,100}|(?:AKIA|ASIA)[A-Z0-9]{16}|gh[pousr]_\w{30,100}"
    r"|github_pat_\w{20,100}|glpat-[\w-]{16,100}|xox[abeoprs]-[\w-]{10,100}|AIza[\w-]{30,100}|hf_\w{30,100}"
    r"|npm_\w{30,100}|SG\.[\w-]{16,64}\.[\w-]{16,100}|eyJ[\w-]{10,1900}+\.eyJ[\w-]{10,100})"
    r"|-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY"
    r"|://[^\s:/@]{1,64}:[^\s:/@]{3,128}@"
)
_TOKENS = (
    *("sk-", "_live_", "AKIA", "ASIA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xox", "AIza"),
    *("hf_", "npm_", "SG.", ".eyJ", "PRIVATE KEY", "://"),
)
_PASSWORDS = (
    *("password", "passwd", "passphrase", "passwort", "kennwort", "contraseña", "mot de passe", "senha", "пароль"),
    *("密码", "密碼", "パスワード", "비밀번호", "كلمة المرور", "पासवर्ड", "bearer", "key", "secret", "token"),
)
_PASSWORD = re.compile(
    rf"(?:{'|'.join(_PASSWORDS)})[\"'`]?[ \t]{{0,3}}(?::=|[=:—：是は]|-|is|ist|lautet|es|est|é|to)[ \t]{{0,3}}[\"'`]?"
    r"(?=[^\s\"'`]{0,63}[\d!#$%&*])[^\s\"'`<>(){}\[\]]{6,64}",
    re.IGNORECASE,
)
_ABROAD = re.compile(r"(?<![\w+])(?:\+|00(?=[1-9]))\d(?:[ ()./\-\u00a0]{0,2}\d){7,14}(?!\d)")
_AT_HOME = re.compile(
    r"(?<![\w.-])(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\w-])"  # North America
    r"|(?<![\d.])0[1-9](?:[ .]\d{2}){4}(?!\d)"  # France
    r"|(?<![\d.])0\d{2,5}[ /-]{1,3}\d{5,9}(?!\d)"  # Germany and its neighbours
    r"|(?<!\d)1[3-9]\d{9}(?!\d)"  # China
    r"|(?<![\d-])0\d{1,4}-\d{1,4}-\d{3,4}(?![\d-])"  # Japan, Korea
)
_CALLS = (
    *(
        "phone",
        "mobile",
        "cell",
        "call me",
        "call him",
        "call her",
        "call us",
        "whatsapp",
        "telefon",
        "handy",
        "téléphone",
    ),
    *(
        "portable",
        "teléfono",
        "móvil",
        "celular",
        "cellulare",
        "телефон",
        "电话",
        "手机",
        "電話",
        "携帯",
        "전화",
        "휴대폰",
    ),
    *("هاتف", "جوال", "फ़ोन", "फोन", "मोबाइल"),
)
_CALLED = re.compile(rf"(?:{'|'.join(_CALLS)})\D{{0,20}}\d(?:[ ()./-]{{0,2}}\d){{6,14}}(?!\d)", re.IGNORECASE)
_DIGIT = re.compile(r"\d")


def _email(text: str) -> bool:
    """An address of a person, or of anybody who is not ``git``."""
    found = _EMAIL.finditer(text) if "@" in text else ()
    return any(text[max(each.start() - 3, 0) : each.start()].lower() != "git" for each in found)


def _card(text: str) -> bool:
    return any(is_card(found.group()) for found in _CARD.finditer(text))


def _iban(text: str) -> bool:
    return any(is_iban(found.group()) for found in _IBAN.finditer(text))


def _ssn(text: str) -> bool:
    return _SSN.search(text) is not None or _CALLED_SSN.search(text.lower()) is not None


def _secret(text: str) -> bool:
    if any(sign in text for sign in _TOKENS) and _TOKEN.search(text):
        return True
    lowered = text.lower()
    return any(word in lowered for word in _PASSWORDS) and _PASSWORD.search(text) is not None


def _phone(text: str) -> bool:
    if any(is_phone(found.group()) for found in (*_ABROAD.finditer(text), *_AT_HOME.finditer(text))):
        return True
    lowered = text.lower()
    return any(word in lowered for word in _CALLS) and _CALLED.search(text) is not None


FINDERS: dict[str, Finds] = {
    "email": _email,
    "phone": _phone,
    "card": _card,
    "iban": _iban,
    "ssn": _ssn,
    "secret": _secret,
    "medical": subject(MEDICAL),
    "legal": subject(LEGAL),
}
NUMBERS = ("phone", "card", "iban", "ssn")
"""Kinds that are not looked for where there is no digit."""


class Sensitive:
    """Looks through texts for what the configuration calls sensitive."""

    def __init__(self, section: SensitiveSection) -> None:
        self._finders = [(kind, FINDERS[kind]) for kind in section.kinds if kind in FINDERS]
        if section.keywords:
            self._finders.append(("keyword", subject(section.keywords)))
        self._finders += [(name, _search(pattern)) for name, pattern in section.patterns.items()]
        self.images = "image" in section.kinds

    async def found(self, texts: Sequence[str]) -> tuple[str, ...]:
        """The kinds of sensitive things in these texts, in the configuration's order.

        Others have their turn between two pieces of a long one.
        """
        looking = dict(self._finders)
        for piece in _pieces(texts):
            digits = _DIGIT.search(piece) is not None
            for kind in [kind for kind, finds in looking.items() if (digits or kind not in NUMBERS) and finds(piece)]:
                del looking[kind]
            if len(piece) >= PIECE:
                await asyncio.sleep(0)
        return tuple(kind for kind, _ in self._finders if kind not in looking)


def _pieces(texts: Iterable[str]) -> Iterator[str]:
    """Short texts put together, each on its own line; long ones cut, with an overlap."""
    short: list[str] = []
    size = 0
    for text in texts:
        if len(text) > PIECE:
            yield from (text[at : at + PIECE + OVERLAP] for at in range(0, len(text), PIECE))
        else:
            short.append(text)
            size += len(text)
        if size > PIECE:
            yield "\n".join(short)
            short, size = [], 0
    if short:
        yield "\n".join(short)


def _search(pattern: str) -> Finds:
    compiled = re.compile(pattern)
    return lambda text: compiled.search(text) is not None
