"""Log lines without secrets."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any, cast

from spile.spi import RedactionError
from spile.topics.redaction import REDACTED, Redactor

_PLAIN = (str, int, float, bool, type(None))


class Scrubber:
    """
    A structlog processor that takes secrets out of what is about to be rendered.

    Stands after the traceback became text. What is no JSON value counts as its text.

    Args:
        redactor: Finds and replaces them.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor

    def __call__(
        self, _logger: object, _method: str, line: MutableMapping[str, Any]
    ) -> Mapping[str, Any]:
        """Return the line without secrets; a line that cannot be inspected keeps its event only."""
        try:
            return self._redactor.redact(_as_json(line), root="log", split=False).value
        except (RedactionError, RecursionError):
            event = self._redactor.scrub(str(line.get("event")))
            return {**line, "event": event, **dict.fromkeys(set(line) - _OWN, REDACTED)}


_OWN = frozenset({"event", "level", "logger", "timestamp"})


def _as_json(value: object) -> Any:
    if isinstance(value, str):
        # A lone surrogate, as in names of files, would make the quick look blind.
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value).items()
        return {str(name): _as_json(item) for name, item in items}
    if isinstance(value, list | tuple | set | frozenset):
        return [_as_json(item) for item in cast("list[object]", value)]
    return str(value) if isinstance(value, BaseException) else repr(value)
