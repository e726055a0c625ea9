"""The exact look at a JSON value: names, paths, texts, and secrets in several pieces."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final, cast

import msgspec

from spile.spi import RedactionError
from spile.topics.redaction._cards import is_card_number
from spile.topics.redaction._detectors import REDACTED, TextDetectors, has_symbol
from spile.topics.redaction._names import SensitiveNames, Words, words_of

Path = tuple[str | int, ...]
Container = dict[str, Any] | list[Any]

_MIN_CARD: Final = 10**13
_MAX_CARD: Final = 10**19
_NAME_FIELDS: Final = ("name", "key", "header", "field", "variable")
_LABEL: Final = re.compile(r"-{1,2}[A-Za-z][\w-]{1,60}|[A-Za-z][\w -]{1,60}[:=]")
_MAX_FIELDS: Final = 256


@dataclass(slots=True, kw_only=True)
class Leaf:
    """
    A text in the new value, and where it stands.

    Attributes:
        text: As it was given.
        done: Whether something in it was replaced.
    """

    holder: Container
    at: str | int
    text: str
    path: Path
    done: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a walk may take."""

    depth: int
    seconds: float


@dataclass(slots=True, kw_only=True)
class Walk:
    """
    One walk through one value; makes a new one and never changes the old.

    Attributes:
        replace: Makes the replacement of a secret.
        patterns: Configured and marked paths, as segments; `*` is any name.
        root: Where the value stands in the envelope, such as `payload`.
        found: Paths of what was replaced, from the value's root.
        numbers: Those of them that were numbers, found by their looks.
    """

    names: SensitiveNames
    detectors: TextDetectors
    replace: Callable[[str], str]
    patterns: Sequence[tuple[str, ...]]
    root: str
    limits: Limits
    found: list[Path] = field(default_factory=list[Path])
    numbers: list[Path] = field(default_factory=list[Path])
    leaves: list[Leaf] = field(default_factory=list[Leaf])
    _deadline: float = 0.0

    def run(self, value: Any) -> Any:
        """
        Return the value without secrets, split ones not yet looked for.

        Raises:
            RedactionError: Too deep, or it takes too long.
        """
        self._deadline = time.monotonic() + self.limits.seconds
        return self._value(value, (), ())

    def check_time(self) -> None:
        """
        Stop when the time is over.

        Raises:
            RedactionError: It is.
        """
        if time.monotonic() > self._deadline:
            raise RedactionError(f"looking for secrets took over {self.limits.seconds} s")

    def note(self, path: Path) -> None:
        """Remember that something was replaced; the first 256 places are kept."""
        if len(self.found) < _MAX_FIELDS and path not in self.found:
            self.found.append(path)

    def _value(self, value: Any, path: Path, parent: Words) -> Any:
        if isinstance(value, str):
            return self._text(value, path)
        if isinstance(value, dict):
            return self._object(cast("dict[str, Any]", value), path, parent)
        if isinstance(value, list):
            return self._array(cast("list[Any]", value), path, parent)
        if type(value) is int and _MIN_CARD <= value < _MAX_CARD and is_card_number(str(value)):
            self.note(path)
            self.numbers.append(path)
            return self.replace(str(value))
        return value

    def _text(self, text: str, path: Path) -> str:
        clean = self.scrub(text)
        if clean is not text:
            self.note(path)
        return clean

    def scrub(self, text: str) -> str:
        """Return a text with its secrets replaced; the same object when it has none."""
        spans = self.detectors.spans(text)
        if not spans:
            return text
        parts: list[str] = []
        end = 0
        for start, stop in spans:
            parts += (text[end:start], self.replace(text[start:stop]))
            end = stop
        return "".join((*parts, text[end:]))

    def _enter(self, path: Path) -> None:
        if len(path) >= self.limits.depth:
            raise RedactionError(
                f"nested deeper than {self.limits.depth} levels, too deep to be looked into"
            )
        self.check_time()

    def _object(self, value: dict[str, Any], path: Path, parent: Words) -> dict[str, Any]:
        self._enter(path)
        made: dict[str, Any] = {}
        labelled = self._labelled(value)
        numbers = count(2)
        for name, item in value.items():
            shown = name
            if (clean := self.scrub(name)) is not name:
                shown = _unused(clean, value, made, numbers)
                self.note((*path, shown))
            here = (*path, shown)
            if self._is_marked((*path, name)):
                made[shown] = self._all_of(item, here)
            elif self.names.matches(name, parent) or name == labelled:
                made[shown] = self._secret(name, item, here)
            else:
                made[shown] = self._value(item, here, words_of(name))
            self._remember(made, shown, item, here)
        return made

    def _array(self, value: list[Any], path: Path, parent: Words) -> list[Any]:
        self._enter(path)
        made: list[Any] = []
        is_pair = self._is_pair(value)
        announced = False
        for index, item in enumerate(value):
            here = (*path, index)
            if announced or (is_pair and index == 1):
                made.append(self._secret("", item, here))
            else:
                made.append(self._value(item, here, parent))
            announced = _is_text(item) and self._is_label(item)
            self._remember(made, index, item, here)
        return made

    def _is_pair(self, value: list[Any]) -> bool:
        """Say whether a list is like `["Authorization", "abc123"]`, and no list of names."""
        if len(value) != 2 or not (_is_text(value[0]) and _is_text(value[1])):  # noqa: PLR2004
            return False
        return has_symbol(value[1]) and self._is_strong(value[0])

    def _is_strong(self, name: str) -> bool:
        return self.names.matches(name) and not self.names.is_weak(name)

    def _labelled(self, value: dict[str, Any]) -> str | None:
        """Return the field that holds the value of `{"name": "password", "value": ...}`."""
        if "value" not in value:
            return None
        labels = [value[name] for name in _NAME_FIELDS if name in value]
        is_secret = any(_is_text(label) and self._is_strong(label) for label in labels)
        return "value" if is_secret else None

    def _is_label(self, text: str) -> bool:
        """Say whether a text in a list announces the next: `--password`, `token:`."""
        return _LABEL.fullmatch(text) is not None and self._is_strong(text)

    def _secret(self, name: str, item: Any, path: Path) -> Any:
        """Replace all under a name that announces a secret; what cannot be one stays."""
        if isinstance(item, bool) or item is None or item in ("", [], {}):
            return item
        if self.names.is_weak(name) and not (isinstance(item, str) and has_symbol(item)):
            return self._value(item, path, words_of(name))
        if self._is_numeric(item) and self.names.allows_number(name):
            return self._value(item, path, words_of(name))
        if isinstance(item, str) and self.names.allows_text(name):
            return self._text(item, path)
        return self._all_of(item, path)

    def _all_of(self, item: Any, path: Path) -> Any:
        """Replace a value whatever it is; an object stays one, a list too."""
        if item is None:
            return None
        if self._is_replaced(item):
            return item
        self.note(path)
        if isinstance(item, str):
            return self.replace(item)
        replacement = self.replace(msgspec.json.encode(item).decode())
        if isinstance(item, dict):
            return {REDACTED: replacement}
        return [replacement] if isinstance(item, list) else replacement

    def _is_numeric(self, value: Any) -> bool:
        """Say whether a value is a number, or a list or object of nothing else, cards replaced."""
        if isinstance(value, list):
            items = cast("list[Any]", value)
        elif isinstance(value, dict):
            items = list(cast("dict[str, Any]", value).values())
        else:
            return isinstance(value, (int, float))
        return all(isinstance(one, (int, float)) or self._is_replaced(one) for one in items)

    def _is_replaced(self, item: Any) -> bool:
        """Say whether a value is what `_all_of` returns."""
        if isinstance(item, list):
            items = cast("list[Any]", item)
            item = items[0] if len(items) == 1 else None
        elif isinstance(item, dict):
            named = cast("dict[str, Any]", item)
            item = named.get(REDACTED) if len(named) == 1 else None
        return isinstance(item, str) and self.detectors.is_replacement(item)

    def _is_marked(self, path: Path) -> bool:
        if not self.patterns:
            return False
        names = tuple(part for part in path if isinstance(part, str))
        rooted = (self.root, *names)
        return any(_fits(pattern, names) or _fits(pattern, rooted) for pattern in self.patterns)

    def _remember(self, holder: Container, at: str | int, item: Any, path: Path) -> None:
        """Keep a text for the search for split secrets."""
        if isinstance(item, str):
            done = cast("Any", holder)[at] != item
            self.leaves.append(Leaf(holder=holder, at=at, text=item, path=path, done=done))


def _unused(name: str, given: Container, made: Container, numbers: Iterator[int]) -> str:
    """Return a new name that stands neither in the object as given nor in the one made of it."""
    unique = name
    while unique in given or unique in made:
        unique = f"{name} {next(numbers)}"
    return unique


def _fits(pattern: tuple[str, ...], names: tuple[str, ...]) -> bool:
    return len(pattern) == len(names) and all(
        expected in {"*", name} for expected, name in zip(pattern, names, strict=True)
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str)
