"""The redactor: decides quickly that data are clean, and cleans what is not."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import msgspec

from spile.spi import ConfigurationError, RedactionError
from spile.topics.redaction._detectors import REDACTED, TextDetectors
from spile.topics.redaction._names import SensitiveNames
from spile.topics.redaction._prefilter import Prefilter
from spile.topics.redaction._split import join_split
from spile.topics.redaction._walk import Limits, Path, Walk

_MIN_KEY_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class RedactionRules:
    """
    What is looked for, and what happens when looking fails.

    Attributes:
        fields: Names to treat as secret besides the built-in ones, such as `iban`.
        paths: Places to replace whatever stands there, such as `payload.parameters.env.*`; read
            from the envelope or from the payload, `*` is any one name, lists are transparent.
        fail_closed: Refuse what cannot be inspected; else replace it as a whole.
        max_depth: Deepest nesting that is looked into, 40.
        limit_s: Longest look at one event, 2 s.
    """

    fields: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    fail_closed: bool = True
    max_depth: int = 40
    limit_s: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Redacted:
    """
    A value without secrets.

    Attributes:
        value: The value; the one given when nothing was found.
        fields: Where something was replaced, from the root of the value; at most 256 places.
        numbers: Those of them that were numbers and only looked like a card number.
    """

    value: Any
    fields: tuple[str, ...] = ()
    numbers: tuple[Path, ...] = ()


class Redactor:
    """
    Replaces secrets in JSON values, texts and record keys.

    The same secret gives the same replacement under one key: `redacted:` and 16 hexadecimal digits
    of its HMAC-SHA-256. Without a key all secrets become `REDACTED`.

    Args:
        rules: What is looked for; the built-in rules by default.
        key: Secret of the replacements, at least 16 bytes.

    Raises:
        ConfigurationError: The key is too short, or a field or path is empty.
    """

    def __init__(self, rules: RedactionRules | None = None, *, key: bytes | None = None) -> None:
        self.rules = rules or RedactionRules()
        if key is not None and len(key) < _MIN_KEY_BYTES:
            raise ConfigurationError(
                f"the redaction key has {len(key)} bytes, it needs at least {_MIN_KEY_BYTES}",
                setting="SPILE_REDACTION_KEY",
            )
        self._key = key
        self._names = SensitiveNames(self.rules.fields)
        self._paths = _patterns(self.rules.paths)
        self._limits = Limits(depth=self.rules.max_depth, seconds=self.rules.limit_s)
        self._prefilter = Prefilter(self._names, self._paths)
        self.may_hold_secret = self._prefilter.quick
        """Say quickly whether UTF-8 JSON or a text may hold a secret; never wrongly no."""
        self._detectors = TextDetectors(self._names, self._prefilter)
        self._marks: dict[tuple[str, ...], tuple[tuple[str, ...], ...]] = {}

    @property
    def has_key(self) -> bool:
        """Whether replacements tell secrets apart."""
        return self._key is not None

    def replacement(self, secret: str) -> str:
        """Return what stands for a secret."""
        if self._key is None:
            return REDACTED
        data = secret.encode("utf-8", "surrogatepass")
        return f"redacted:{hmac.new(self._key, data, hashlib.sha256).hexdigest()[:16]}"

    def redact(
        self, value: Any, *, marks: Sequence[str] = (), root: str = "payload", split: bool = True
    ) -> Redacted:
        """
        Return a JSON value with its secrets replaced.

        Args:
            value: What JSON decodes to; not changed.
            marks: Paths of fields that the model marks as sensitive.
            root: Where the value stands in the envelope; for configured paths.
            split: Whether to look for secrets in several neighbouring texts too.

        Raises:
            RedactionError: It is nested too deep or takes too long; also what `fail_closed=False`
                does not change.
        """
        walk = self._walk(self._patterns_of(marks), root)
        made = walk.run(value)
        if split:
            join_split(walk)
        if not walk.found:
            return Redacted(value=value)
        fields = tuple(".".join(map(str, path)) for path in walk.found)
        return Redacted(value=made, fields=fields, numbers=tuple(walk.numbers))

    def redact_json(
        self, data: bytes, *, marks: Sequence[str] = (), root: str = "payload"
    ) -> Redacted | None:
        """
        Return encoded JSON decoded and with its secrets replaced, None when it has none.

        Raises:
            RedactionError: It is no JSON, or as for `redact`.
        """
        if not marks and not self.may_hold_secret(data):
            return None
        try:
            value = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise RedactionError("cannot be inspected: it is no JSON") from None
        found = self.redact(value, marks=marks, root=root)
        return found if found.fields else None

    def scrub(self, text: str) -> str:
        """Return a text, such as an error's, with its secrets replaced."""
        if not text.isascii():
            # A lone surrogate would make the quick look blind.
            text = text.encode("utf-8", "backslashreplace").decode()
        return self._walk((), "").scrub(text)

    def record_key(self, key: str) -> str:
        """
        Return a record key, hashed when it holds a secret.

        Raises:
            RedactionError: It holds one and there is no key to hash it with: `REDACTED` would put
                all such records on one partition, and a hash without a secret can be guessed.
        """
        if not self.may_hold_secret(key) or not self._detectors.spans(key):
            return key
        if self._key is None:
            raise RedactionError(
                "the record key holds a secret: set SPILE_REDACTION_KEY, with which it is hashed, "
                "or key the event by something else",
                field="key",
            )
        return self.replacement(key)

    def _walk(self, patterns: Sequence[tuple[str, ...]], root: str) -> Walk:
        return Walk(
            names=self._names,
            detectors=self._detectors,
            replace=self.replacement,
            patterns=patterns,
            root=root,
            limits=self._limits,
        )

    def _patterns_of(self, marks: Sequence[str]) -> tuple[tuple[str, ...], ...]:
        if not marks:
            return self._paths
        known = tuple(marks)
        found = self._marks.get(known)
        if found is None:
            found = self._marks[known] = (*self._paths, *_patterns(known))
        return found


@lru_cache(maxsize=1)
def default_redactor() -> Redactor:
    """Return the redactor with the built-in rules and no key."""
    return Redactor()


def _patterns(paths: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    made = tuple(tuple(path.split(".")) for path in paths)
    for path in made:
        if not all(path):
            raise ConfigurationError(
                f"the path {'.'.join(path)!r} has an empty segment, write such as "
                "'payload.parameters.env.*'",
                setting="SPILE_REDACTION_PATHS",
            )
    return made
