"""Payment card numbers, told from other long numbers by length, issuer and check digit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

# ISO/IEC 7812-1 and the issuers' public ranges: Visa, Mastercard, Amex, Discover, Diners, JCB,
# UnionPay, Maestro.
_ISSUER: Final = re.compile(
    r"(?:4|5[0-8]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)|3[47]|6(?:011|4[4-9]|5|2|[37-9])|3(?:0[0-5]|[689])|35)"
)
_LENGTHS: Final = {"4": (16, 19), "5": (16, 16), "2": (16, 16), "3": (14, 16), "6": (16, 19)}
_SPELT: Final = re.compile(
    r"(?<![A-Za-z0-9.])(?:"
    r"\d{14,19}"
    r"|\d{4}([ -])\d{4}\1\d{4}\1\d{4}(?:\1\d{3})?"
    r"|\d{4}([ -])\d{6}\2\d{4,5}"
    r")(?![A-Za-z0-9])(?!\.\d)",
    re.ASCII,
)
_ONE_DIGIT: Final = 9


def is_card_number(digits: str) -> bool:
    """
    Say whether ASCII digits are a card number: an issuer's range and length, a right check digit.

    13-digit numbers are none: no issuer uses them any more, and milliseconds have 13 digits.
    """
    shortest, longest = _LENGTHS.get(digits[:1], (1, 0))
    if not shortest <= len(digits) <= longest or _ISSUER.match(digits) is None:
        return False
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) << (place & 1)
        total += value - _ONE_DIGIT if value > _ONE_DIGIT else value
    return total % 10 == 0


def card_spans(text: str) -> Iterator[tuple[int, int]]:
    """Yield where card numbers stand in a text: in one piece, or in the printed groups."""
    for found in _SPELT.finditer(text):
        digits = found.group().replace(" ", "").replace("-", "")
        if digits.isascii() and is_card_number(digits):
            yield found.span()


HINT: Final = (
    r"[0-9]{14}"
    r"|[0-9]{4}(?:[ -][0-9]{4}){3}(?u:[^A-Za-z0-9]|$)"
    r"|[0-9]{4}[ -][0-9]{6}[ -][0-9]{4}"
)
"""What any JSON with a card number in one text or number matches (Rust regex crate)."""
