"""Names that announce a secret: of fields, headers, variables, options."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final

from spile.topics.redaction._idioms import HIDDEN

DEFAULT_FIELDS: Final = (
    "access key",
    "api key",
    "auth key",
    "authorisation",
    "authorization",
    "bearer",
    "card number",
    "connection string",
    "cookie",
    "credential",
    "cvc",
    "cvv",
    "encryption key",
    "passcode",
    "passphrase",
    "passwd",
    "password",
    "private key",
    "pwd",
    "secret",
    "signing key",
    "token",
)
"""Names under which everything is replaced; spelling, case, plural and separators do not matter."""

WHOLE_NAMES: Final = frozenset({"auth", "pass"})
"""Names that count only alone, and only for texts that look like secrets."""

_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+")
_MIN_GLUED: Final = 5
_COUNTED: Final = "token"
# fmt: off
_COUNTS: Final = frozenset({
    "budget", "cache", "completion", "context", "count", "cost", "estimate", "id", "index",
    "input", "left", "length", "limit", "max", "maximum", "mean", "min", "minimum", "number",
    "output", "per", "price", "prompt", "rate", "reasoning", "remaining", "s", "size", "total",
    "usage", "used", "window",
})
# fmt: on
# fmt: off
_MEASURES: Final = frozenset({
    "age", "attempt", "count", "day", "duration", "enabled", "expire", "expiry", "hour", "len",
    "length", "lifetime", "limit", "max", "maximum", "min", "minimum", "minute", "required", "size",
    "total", "ttl",
})
_AMOUNTS: Final = _MEASURES | {"budget", "left", "remaining", "usage", "used"}
# fmt: on
_LOWER: Final = {ord(letter): letter.lower() for letter in string.ascii_uppercase}

Words = tuple[str, ...]


def _singular(word: str) -> str:
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


@lru_cache(maxsize=8192)
def words_of(name: str) -> Words:
    """Return the words of a name in lower case and singular: `X-API-Keys` is x, api, key."""
    seen = name if name.isascii() else HIDDEN.sub("", name)
    return tuple(_singular(word.lower()) for word in _WORD.findall(seen))


class SensitiveNames:
    """
    Tells whether a name announces a secret.

    Args:
        fields: Names to know besides `DEFAULT_FIELDS`.
    """

    def __init__(self, fields: Iterable[str] = ()) -> None:
        given = [words_of(field) for field in (*DEFAULT_FIELDS, *fields)]
        self.sequences: tuple[Words, ...] = tuple(dict.fromkeys(words for words in given if words))
        self._first = frozenset(words[0] for words in self.sequences)
        self._known: dict[tuple[Words, str], bool] = {}

    def matches(self, name: str, parent: Words = ()) -> bool:
        """
        Say whether a name announces a secret.

        Args:
            name: Such as `dbPassword`, `X-Api-Key`, `--auth-token`.
            parent: The words of the name above it: `key` in `api` announces one.
        """
        known = self._known.get((parent, name))
        if known is None:
            if len(self._known) > 8192:  # noqa: PLR2004 - bounded memory
                self._known.clear()
            known = self._known[parent, name] = self._find(name, parent)
        return known

    def _find(self, name: str, parent: Words) -> bool:
        words = words_of(name)
        if len(words) == 1 and words[0] in WHOLE_NAMES:
            return True
        for sequence in self.sequences:
            joined = "".join(sequence)
            if _contains(parent + words, sequence, len(parent)):
                return True
            if len(joined) >= _MIN_GLUED and any(word.endswith(joined) for word in words):
                return True
        return False

    def is_weak(self, name: str) -> bool:
        """Say whether a name often means something else: `auth` may be a component, too."""
        words = words_of(name)
        return len(words) == 1 and words[0] in WHOLE_NAMES

    def allows_number(self, name: str) -> bool:
        """Say whether a number under the name is a measure: `max_tokens`, `password_length`."""
        words = words_of(name)
        if not _MEASURES.isdisjoint(words[self._end_of_last(words) :]):
            return True
        others = [word for word in words if word != _COUNTED]
        if _COUNTED not in words or any(self.matches(word) for word in others):
            return False
        plural = re.search(r"tokens", name, re.IGNORECASE) is not None
        return plural or any(word in _COUNTS for word in others)

    def allows_text(self, name: str) -> bool:
        """Say whether a text under the name is a measure, too: `max_tokens`, `token_count`."""
        words = words_of(name)
        return (
            _COUNTED in words
            and not any(self.matches(word) for word in words if word != _COUNTED)
            and not _AMOUNTS.isdisjoint(words)
        )

    def _end_of_last(self, words: Words) -> int:
        """Return the index after the last words that announce a secret."""
        ends = (end for end in range(len(words), 0, -1) if self._ends_at(words[:end]))
        return next(ends, len(words))

    def _ends_at(self, words: Words) -> bool:
        return any(
            words[-len(sequence) :] == sequence
            or (len(joined := "".join(sequence)) >= _MIN_GLUED and words[-1].endswith(joined))
            for sequence in self.sequences
        )

    def in_text(self) -> str:
        """Return an expression of the names as they stand in text; to be used with IGNORECASE."""
        longest_first = sorted(self.sequences, key=lambda words: -len("".join(words)))
        return "|".join(r"[ _.-]?".join(map(re.escape, words)) for words in longest_first)

    def places(self, text: str) -> Iterator[int]:
        """Yield where names may begin in a text; many times quicker than `in_text` alone."""
        lower = text.lower() if text.isascii() else text.translate(_LOWER)
        for word in self._first:
            at = lower.find(word)
            while at >= 0:
                yield at
                at = lower.find(word, at + 1)


def _contains(words: Sequence[str], sequence: Words, beyond: int) -> bool:
    """Say whether words contain a sequence that ends beyond an index."""
    size = len(sequence)
    return any(
        tuple(words[start : start + size]) == sequence
        for start in range(len(words) - size + 1)
        if start + size > beyond
    )


_BETWEEN: Final = r"(?u:(?:[^a-z]|\\[bfnrt]|\\u00[0-9a-f]{2})*)"


def hints(sequences: Iterable[Words]) -> Iterator[str]:
    """
    Yield expressions of the Rust regex crate that any JSON holding the names matches.

    To be used without regard to case. Within one name anything but letters may stand between the
    words; between a name and the one above it stands at least `":{`, and siblings may follow.
    """
    for words in sequences:
        parts = [f"{_literal(word)}s?" for word in words]
        if words == (_COUNTED,):
            # A plural with a number is a measure, which is common and harmless.
            yield r'token(?u:[^s]|s[^"]|s"(?:[^:]|:[^0-9ntf-]))'
            continue
        yield _BETWEEN.join(parts)
        for cut in range(1, len(parts)):
            above, below = _BETWEEN.join(parts[:cut]), _BETWEEN.join(parts[cut:])
            yield rf'{above}{_BETWEEN}":[\[{{](?su:.*){below}'
    for name in sorted(WHOLE_NAMES):
        yield rf'{name}s?{_BETWEEN}"[:,\]}}]'


def _literal(word: str) -> str:
    escaped = re.escape(word)
    return escaped if word.isascii() else f"(?iu:{escaped})"
