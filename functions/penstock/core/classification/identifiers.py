"""Whether digits are the number of a card, an account or a telephone: what its issuer has built in to tell."""

from __future__ import annotations

DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
LETTERS = {chr(ord("A") + number): str(10 + number) for number in range(26)}
ACCOUNTS = {
    **{"AT": 20, "BE": 16, "BG": 22, "CH": 21, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "EE": 20, "ES": 24, "FI": 18},
    **{"FR": 27, "GB": 22, "GR": 27, "HR": 21, "HU": 28, "IE": 22, "IS": 26, "IT": 27, "LI": 21, "LT": 20, "LU": 20},
    **{"LV": 21, "MT": 31, "NL": 18, "NO": 15, "PL": 28, "PT": 25, "RO": 24, "RS": 22, "SE": 24, "SI": 19, "SK": 24},
    **{"AE": 23, "BR": 29, "IL": 23, "KZ": 20, "MA": 28, "MC": 27, "QA": 29, "SA": 24, "TN": 24, "TR": 26, "UA": 29},
}
"""Characters of an account's number, by its country."""
TELEPHONE = range(7, 16)
"""Digits of one (E.164 allows 15)."""


def digits_in(text: str) -> list[int]:
    """The digits of a text, of any script."""
    return [int(character) for character in text if character.isdecimal()]


def is_card(text: str) -> bool:
    """Whether an issuer of cards could have given this number out: its first digits, its length and Luhn's sum."""
    digits = digits_in(text)
    first = digits[0] * 1000 + digits[1] * 100 + digits[2] * 10 + digits[3]
    issued = (
        digits[0] in (4, 6)
        or 5100 <= first < 5600
        or 2221 <= first <= 2720
        or first // 100 in (34, 35, 36, 37, 38, 39)
        or first // 10 in range(300, 306)
    )
    if not issued or len(set(digits)) < 2:
        return False
    odd, even = digits[-1::-2], digits[-2::-2]
    return (sum(odd) + sum(DOUBLED[digit] for digit in even)) % 10 == 0


def is_iban(text: str) -> bool:
    """Whether the check digits of an account's number are right (ISO 13616)."""
    account = "".join(filter(str.isalnum, text)).upper()
    account = account[: ACCOUNTS.get(account[:2], len(account))]  # words may follow that look like more of it
    if not 15 <= len(account) <= 34 or not account.isascii():
        return False
    turned = account[4:] + account[:4]
    return int("".join(LETTERS.get(character, character) for character in turned)) % 97 == 1


def is_phone(text: str) -> bool:
    """Whether there are as many digits as a telephone's number has, and not all of them the same."""
    digits = digits_in(text)
    return len(digits) in TELEPHONE and len(set(digits)) > 2
