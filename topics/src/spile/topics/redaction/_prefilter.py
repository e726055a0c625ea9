"""
The quick look: whether anything in JSON or in a text may be a secret.

Every expression here matches all that the exact detectors of its kind match, and more: in the
decoded text as well as in the bytes of its JSON. A test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec
from pydantic_core import SchemaValidator, core_schema

from spile.topics.redaction._cards import HINT as CARDS
from spile.topics.redaction._idioms import HINTS as IDIOMS
from spile.topics.redaction._names import SensitiveNames, hints
from spile.topics.redaction._tokens import HINTS as TOKENS

Look = Callable[[bytes | str], bool]

BASE64_OF_ASCII: Final = (
    "(?:[A-Za-f][A-HQ-Xg-nw-z0-3][ABEFIJMNQRUVYZcdghklopstwx014589][A-Za-z0-9+/_-]){4}"
)
"""Base64 of 12 bytes below 128, standard or URL-safe. Source: RFC 4648, tables 1 and 2."""

_SPLIT_DIGITS: Final = r'"[0-9]{2,10}","(?u:(?:[^"\\]|\\.)*":")?[0-9]{2,10}"'
_ADDRESS: Final = r"@(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2}|://(?u:[^/@\" ]+)@"


def look(expressions: Iterable[str]) -> Look:
    """
    Return a function that says whether one of the expressions matches somewhere.

    They are for Rust's regex crate, which takes about 2 ns a byte whatever they are, and which
    pydantic brings along: quicker here than Python's `re` (34 ns), RE2, Hyperscan and
    Aho-Corasick as Python packages. UTF-8 only: anything else counts as no match.
    """
    pattern = f"(?-u:{'|'.join(expressions)})"
    return SchemaValidator(core_schema.str_schema(pattern=pattern)).isinstance_python


class Prefilter:
    """
    Quick looks, each for UTF-8 JSON or for a text.

    Args:
        names: Names that announce secrets.
        paths: Configured paths, as segments.

    Attributes:
        quick: Whether there may be a secret at all.
        names: Whether a name that announces a secret may be in it.
        tokens: Whether a token may begin in it.
        cards: Whether a card number may be in it.
        encoded: Whether Base64 may be in it.
    """

    __slots__ = ("cards", "encoded", "names", "quick", "tokens")

    def __init__(self, names: SensitiveNames, paths: Iterable[tuple[str, ...]] = ()) -> None:
        named = f"(?i:{'|'.join(hints(names.sequences))}|basic(?u:[^a-z]))"
        others = (named, *TOKENS, *IDIOMS, *map(_placed, paths), _ADDRESS, CARDS, _SPLIT_DIGITS)
        self.quick = look((*others, BASE64_OF_ASCII))
        self.names = look((named,))
        self.tokens = look(TOKENS)
        self.cards = look((CARDS,))
        self.encoded = look((BASE64_OF_ASCII,))


def _placed(path: tuple[str, ...]) -> str:
    """Return what JSON with something at a path matches: the last name of the path, quoted."""
    literal = [name for name in path if name != "*"]
    if not literal:
        return '"'
    text = msgspec.json.encode(literal[-1]).decode()
    escaped = "".join(c if c.isalnum() or c in '_"' else f"\\x{{{ord(c):x}}}" for c in text)
    return escaped if text.isascii() else f"(?u:{escaped})"
