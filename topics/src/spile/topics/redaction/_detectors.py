"""Where secrets stand in a text."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from typing import Final

from spile.topics.redaction._cards import card_spans
from spile.topics.redaction._idioms import (
    HIDDEN,
    OPENS_ELEMENT,
    OPENS_PAIR,
    curl_passwords,
    element,
    is_value,
    pair,
)
from spile.topics.redaction._names import SensitiveNames
from spile.topics.redaction._prefilter import BASE64_OF_ASCII, Prefilter
from spile.topics.redaction._tokens import PEM, TOKEN

Span = tuple[int, int]

_URL: Final = re.compile(
    r"\b[A-Za-z][A-Za-z0-9+.-]{1,20}://"
    r"(?:[^\s/:@\"'<>\\]{0,256}:([^\s/@\"'<>\\]{1,256})|([^\s/:@\"'<>\\]{8,256}))@",
    re.ASCII,
)
_DOMAIN: Final = re.compile(r"@((?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24})(?![A-Za-z0-9])")
_LOCAL: Final = re.compile(r"[\w.%+-]{1,64}\Z")
_NO_PERSON: Final = frozenset({"git", "hg", "svn", "@"})
_BEARER: Final = re.compile(
    r"\bbearer[ \t]{1,4}((?=[^\s\"'\d._~+/=-]{0,256}+[\d._~+/=-]|[^\s\"']{20})"
    r"[A-Za-z0-9\-._~+/=]{8,8192})",
    re.IGNORECASE | re.ASCII,
)
_SCHEME: Final = re.compile(r"\b(?:bearer|basic)[ \t]{0,4}\Z", re.IGNORECASE | re.ASCII)
_BASIC: Final = re.compile(
    r"\bbasic[ \t]{1,4}([A-Za-z0-9+/_-]{6,2048}={0,2})", re.IGNORECASE | re.ASCII
)
_HEADER: Final = re.compile(
    r"\b(?:(?:proxy-)?authori[sz]ation|(?:set-)?cookie)[\"']?[ \t]{0,4}:[ \t]{0,4}"
    r"(?=[^\r\n\"'=0-9]{0,512}+[=0-9])([^\s\"'][^\r\n\"']{3,8192})",
    re.IGNORECASE | re.ASCII,
)
BASE64_RUN: Final = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}")
_OF_ASCII: Final = re.compile(BASE64_OF_ASCII)
_DEPTH: Final = 2
_BARE: Final = 5  # the group of values without quotes
_PEEK: Final = 64
_BEFORE: Final = 48
REDACTED: Final = "REDACTED"
"""What stands for a secret when no key is configured."""

_REPLACED: Final = re.compile(r"REDACTED|redacted:[0-9a-f]{16}")
_REFERENCE: Final = re.compile(
    r"[A-Za-z_][\w.]*[(\[]|[$%{<*(\[|&\\]|(?:self|this|os|settings|config|env|process)\.|"
    r"(?:none|null|nil|true|false|undefined|str|string|bytes|int|bool|any|optional|object|required)"
    r"\b",
    re.IGNORECASE | re.ASCII,
)
_OPTION: Final = re.compile(r"(?<![\w-])--?[A-Za-z-]{0,30}\Z", re.ASCII)
_TAIL: Final = 120
_SYMBOL: Final = re.compile(r"[0-9!@#$%^&*+=/~?]")


def has_symbol(text: str) -> bool:
    """Say whether a text has digits or symbols, so that it is rather a secret than a word."""
    return _SYMBOL.search(text) is not None


def decoded(run: str) -> str | None:
    """Return the text that a run of base64 letters (standard or URL-safe) stands for, if any."""
    letters = run.rstrip("=").replace("-", "+").replace("_", "/")
    letters = letters[: len(letters) - (len(letters) % 4 == 1)]
    head = letters[:_PEEK]
    try:
        if len(letters) > _PEEK and not _printable(base64.b64decode(head), cut=True):
            return None
        data = base64.b64decode(letters + "=" * (-len(letters) % 4))
    except (binascii.Error, ValueError):
        return None
    return data.decode() if _printable(data) else None


def _printable(data: bytes, *, cut: bool = False) -> bool:
    try:
        text = data.decode()
    except UnicodeDecodeError as exc:
        if not cut or exc.start < len(data) - 3:
            return False
        text = data[: exc.start].decode()
    return all(c.isprintable() or c in "\r\n\t" for c in text)


def may_be_base64(run: str) -> bool:
    """Say whether 12 bytes of ASCII in a row may be in what it stands for."""
    return _OF_ASCII.search(run) is not None


class TextDetectors:
    """
    Finds secrets in a text.

    Args:
        names: Names that announce secrets.
        prefilter: Says quickly which kinds are worth a look.
    """

    def __init__(self, names: SensitiveNames, prefilter: Prefilter) -> None:
        self._prefilter = prefilter
        self._names = names
        core = names.in_text()
        suffix = r"(?:[_-]?(?:key|value|hash|base64|b64))?"
        flags = re.IGNORECASE | re.ASCII
        # To be matched where a name begins.
        self._assigned = re.compile(
            rf"({core}){suffix}[\"'\]]{{0,2}}\\?[\"']?([ \t]{{0,4}}(?:=>|:=|==?|:)[ \t]{{0,4}})"
            r"(?:\\?\"((?:[^\"\\\r\n]|\\[^\"\r\n]){1,4096}+)|\\?'([^'\\\r\n]{1,4096}+)"
            r"|([^\s\"',;&)}\]<>]{1,1024}+))",
            flags,
        )
        self._option = re.compile(
            rf"(?:{core})[ \t]{{1,8}}([\"']?)(?!-)([^\s\"'|;&<>]{{1,1024}}+)", flags
        )
        self._element = element(core, suffix)
        self._pair = pair(core, suffix)
        self._announces = re.compile(
            rf"(?:{core}){suffix}[\"']?[ \t]{{0,4}}[=:][ \t]{{0,4}}\Z", flags
        )

    def announces(self, text: str, *, scheme: bool) -> bool:
        """Say whether a text ends in `password=` or, where a scheme counts, in `Bearer`."""
        tail = text[-_TAIL:]
        if not self._prefilter.names(tail):
            return False
        if scheme and _SCHEME.search(tail) is not None:
            return True
        return self._announces.search(tail) is not None

    def may_begin_token(self, text: str) -> bool:
        """Say whether a token's beginning may be in a text."""
        return self._prefilter.tokens(text)

    def spans(self, text: str, depth: int = 0) -> list[Span]:
        """Return where secrets stand, sorted, not overlapping; what was replaced is left alone."""
        if not self._prefilter.quick(text):
            return []
        found = [
            span
            for span in self._all(text, depth)
            if span[0] < span[1] and _REPLACED.match(text, span[0]) is None
        ]
        if not text.isascii() and HIDDEN.search(text) is not None:
            found += self._through_hidden(text, depth)
        return _merged(sorted(found))

    def _through_hidden(self, text: str, depth: int) -> Iterator[Span]:
        """Yield where secrets stand when the characters that nobody sees are left out."""
        spans = self.spans(HIDDEN.sub("", text), depth)
        if spans:
            kept = [at for at, char in enumerate(text) if HIDDEN.match(char) is None]
            for start, end in spans:
                yield kept[start], kept[end - 1] + 1

    @staticmethod
    def is_replacement(text: str) -> bool:
        """Say whether a text is what stands for a secret already."""
        return _REPLACED.fullmatch(text) is not None

    def _all(self, text: str, depth: int) -> Iterator[Span]:
        quick = self._prefilter
        if quick.tokens(text):
            for pattern in (PEM, TOKEN):
                yield from (found.span() for found in pattern.finditer(text))
        if quick.names(text):
            yield from self._named(text)
        if "@" in text:
            yield from _addresses(text)
            for found in _URL.finditer(text):
                yield found.span(found.lastindex or 0)
        yield from curl_passwords(text)
        if quick.cards(text):
            yield from card_spans(text)
        if depth < _DEPTH and quick.encoded(text):
            yield from self._encoded(text, depth)

    def _named(self, text: str) -> Iterator[Span]:
        for pattern in (_BEARER, _HEADER):
            yield from (found.span(1) for found in pattern.finditer(text))
        for found in _BASIC.finditer(text):
            if ":" in (decoded(found.group(1)) or ""):
                yield found.span(1)
        yield from self._assignments(text)

    def _assignments(self, text: str) -> Iterator[Span]:
        done = 0
        for place in sorted(self._names.places(text)):
            if place < done:
                continue
            if (found := self._assigned.match(text, place)) is not None:
                group = found.lastindex or 0
                if group != _BARE or not self._is_code(found):
                    done = found.end()
                    yield found.span(group)
            elif (span := self._given(text, place) or self._framed(text, place)) is not None:
                yield span

    def _given(self, text: str, place: int) -> Span | None:
        """Return the value of `--password ...`."""
        found = self._option.match(text, place)
        if found is None or _OPTION.search(text, max(0, place - 40), place) is None:
            return None
        value = found.group(2)
        is_secret = _REFERENCE.match(value) is None and _SYMBOL.search(value) is not None
        return found.span(2) if is_secret else None

    def _framed(self, text: str, place: int) -> Span | None:
        """Return the value of `<password>...</password>` or of `('password', '...')`."""
        before = text[max(0, place - _BEFORE) : place]
        if "<" in before and OPENS_ELEMENT.search(before) is not None:
            found = self._element.match(text, place)
            group = "raw" if found is not None and found["raw"] is not None else "value"
            return found.span(group) if found is not None and is_value(found[group]) else None
        if ("'" not in before and '"' not in before) or OPENS_PAIR.search(before) is None:
            return None
        if (found := self._pair.match(text, place)) is None:
            return None
        group = "one" if found["one"] is not None else "other"
        value, name = found[group], found["name"].lower()
        is_other = _REFERENCE.match(value) is not None or value.lower().endswith(name)
        return None if is_other or not has_symbol(value) else found.span(group)

    @staticmethod
    def _is_code(found: re.Match[str]) -> bool:
        """Say whether a bare value looks like a type, a variable or a call, not like a secret."""
        name, sign, value = found.group(1), found.group(2), found.group(_BARE)
        if _REFERENCE.match(value) is not None or value.lower().endswith(name.lower()):
            return True
        return sign not in {"=", ":"} and _SYMBOL.search(value) is None

    def _encoded(self, text: str, depth: int) -> Iterator[Span]:
        for found in BASE64_RUN.finditer(text):
            run = found.group()
            if not may_be_base64(run):
                continue
            inner = decoded(run)
            if inner is not None and self.spans(inner, depth + 1):
                yield found.span()
            elif "/" in run or "_" in run or "-" in run:
                yield from self._pieces(found, depth)

    def _pieces(self, run: re.Match[str], depth: int) -> Iterator[Span]:
        """Look at the parts of a run that is rather a path or a compound word."""
        for found in re.finditer(r"[A-Za-z0-9+]{16,}={0,2}", run.group()):
            inner = decoded(found.group()) if may_be_base64(found.group()) else None
            if inner is not None and self.spans(inner, depth + 1):
                yield run.start() + found.start(), run.start() + found.end()


def _addresses(text: str) -> Iterator[Span]:
    """Yield where e-mail addresses stand; in time linear in the text."""
    for found in _DOMAIN.finditer(text):
        local = _LOCAL.search(text, max(0, found.start() - 64), found.start())
        if local is None or local.group() in _NO_PERSON:
            continue
        # What follows a backslash is rather an escaped line end before a decorator.
        is_escape = (
            local.end() - local.start() == 1 and text[local.start() - 1 : local.start()] == "\\"
        )
        if not is_escape:
            yield local.start(), found.end()


def _merged(spans: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, end in spans:
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
