"""Secrets that the way of writing gives away: a tool's option, an element, a pair."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

Span = tuple[int, int]

_CURL: Final = "curl"
_USER: Final = re.compile(
    r"(?<!\S)(?:-u|-[A-Za-z]{0,8}[uU][ \t]{1,4}|--(?:proxy-)?user(?:[ \t]{1,4}|=))"
    r"(?:\\?\"[^\s\":]{0,128}:([^\"\\\r\n]{1,1024})"
    r"|'[^\s':]{0,128}:([^'\r\n]{1,1024})"
    r"|[^\s\"':]{0,128}:([^\s\"']{1,1024}))",
    re.ASCII,
)
_COMMAND_ENDS: Final = re.compile(r"(?<!\\)\n|[ \t](?:&&|\|\|?)[ \t]|;[ \t]")
_COMMAND: Final = 1000
_PLACEHOLDER: Final = re.compile(r"\s*(?:[$%{*]|//|\Z)")

HIDDEN: Final = re.compile("[\u00ad\u200b-\u200d\u2060\ufeff]")
"""Characters that nobody sees, and that stand in no token."""

HINTS: Final = (
    rf"{_CURL}(?su:.*)-(?:[A-Za-z]*[uU]|-user|-proxy-user)",
    r"(?u:[\x{ad}\x{200b}-\x{200d}\x{2060}\x{feff}])|\\u(?i:00ad|200[b-d]|2060|feff)",
)
"""What any JSON with an option of curl or a hidden character matches (Rust regex crate)."""


def curl_passwords(text: str) -> Iterator[Span]:
    """Yield where `curl -u name:password` has its password; those of other tools mean else."""
    if _CURL not in text:
        return
    for found in _USER.finditer(text):
        group = found.lastindex or 0
        start = text.rfind(_CURL, max(0, found.start() - _COMMAND), found.start())
        if start < 0 or _COMMAND_ENDS.search(text, start, found.start()) is not None:
            continue
        if _PLACEHOLDER.match(found.group(group)) is None:
            yield found.span(group)


def element(core: str, suffix: str) -> re.Pattern[str]:
    """Return what matches `password>value</password>` from where the name begins."""
    return re.compile(
        rf"(?P<name>(?:{core}){suffix})(?:[ \t][^<>]{{0,200}})?>"
        r"(?:<!\[CDATA\[(?P<raw>[^\]]{1,1024}+)\]\]>|(?P<value>[^<>]{1,1024}+))"
        rf"<\\?/[\w.:-]{{0,64}}?(?P=name)[ \t]{{0,4}}>",
        re.IGNORECASE | re.ASCII,
    )


def pair(core: str, suffix: str) -> re.Pattern[str]:
    """Return what matches `password', 'value')` from where the name begins."""
    return re.compile(
        rf"(?P<name>{core}){suffix}\\?[\"'],[ \t]{{0,4}}[bu]?"
        r"(?:\\?\"(?P<one>[^\"\\\r\n]{1,1024}+)\\?\"|\\?'(?P<other>[^'\\\r\n]{1,1024}+)\\?')"
        r"[ \t]{0,4}[)\]]",
        re.IGNORECASE | re.ASCII,
    )


OPENS_ELEMENT: Final = re.compile(r"<[\w.:-]{0,40}\Z", re.ASCII)
"""The text before the name of an element."""

OPENS_PAIR: Final = re.compile(r"(?<![\w)\]])[(\[][bu]?\\?[\"'][\w .-]{0,40}\Z", re.ASCII)
"""The text before the first of a pair, which no call is."""


def is_value(text: str) -> bool:
    """Say whether an element's text is one, not blank and no placeholder."""
    return _PLACEHOLDER.match(text) is None
