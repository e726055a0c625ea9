"""How dead letters are shown: without secrets, and without power over the terminal."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Column as RichColumn
from rich.table import Table
from rich.text import Text

from spile.adapters.dead_letters import DeadLetter
from spile.adapters.delivery import Record
from spile.adapters.kafka import load_settings
from spile.adapters.publishing import RedactionSettings
from spile.adapters.registry import RegistrySettings, SchemaFraming
from spile.adapters.wire import Opener
from spile.services.command._options import counted
from spile.services.command._tables import Column, print_table
from spile.services.command.archive._show import RedactedView, line_of, moment_text, span_text
from spile.spi import RetriableError
from spile.topics import Catalogue
from spile.topics.redaction import Redactor, default_redactor

_MOST_TEXT = 4_000
_MOST_NAME = 24
_MOST_ERROR = 300
_AROUND = 30


class LetterView:
    """
    Shows letters.

    Args:
        redactor: Takes secrets out.
        catalogue: Knows which fields are marked as sensitive.
        opener: Reads other content types than JSON; MessagePack alone by default.
    """

    def __init__(
        self, redactor: Redactor, catalogue: Catalogue, opener: Opener | None = None
    ) -> None:
        self._redactor = redactor
        self._records = RedactedView(redactor, opener or Opener(), catalogue)

    def fields(self, letter: DeadLetter) -> dict[str, Any]:
        """Return all that a letter says."""
        record, origin = letter.record, letter.origin
        shown = self._records.fields(
            Record(
                topic=origin.topic,
                partition=origin.partition,
                offset=origin.offset,
                timestamp=origin.timestamp,
                key=record.key,
                value=record.value,
                headers=tuple(letter.headers),
            )
        )
        return {
            "id": letter.place,
            "queue": record.topic,
            "failed_at": iso(letter.failed_at),
            "first_failure": None if origin.first_failure is None else iso(origin.first_failure),
            "group": self.text(letter.group),
            "attempts": letter.attempts,
            "replays": letter.replays,
            "error_type": self.text(letter.error_type),
            "error_message": self.text(letter.error_message),
            "error_digest": self.text(letter.error_digest),
            "event_type": self.text(letter.event_type),
            "correlation_id": self.text(letter.correlation_id),
            "topic": origin.topic,
            "partition": origin.partition,
            "offset": origin.offset,
            "timestamp": moment_text(origin.timestamp),
            "key": shown["key"],
            "headers": shown["headers"],
            "value": self._value(letter, shown["value"]),
        }

    def line(self, letter: DeadLetter) -> str:
        """Return a letter as a line of JSON."""
        return line_of(self.fields(letter))

    def text(self, text: str | None) -> str | None:
        """Return a text from a header, which anybody may have written."""
        return None if text is None else escaped(self._redactor.scrub(text[:_MOST_TEXT]))

    def found(self, letter: DeadLetter, pattern: re.Pattern[str]) -> str:
        """Return the surroundings of what was searched for, where it may be shown."""
        fields = self.fields(letter)
        for name in ("value", "key", "headers", "error_message"):
            value = fields[name]
            shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            if match := pattern.search(shown):
                start, end = max(0, match.start() - _AROUND), match.end() + _AROUND
                return escaped(f"{name}: {shown[start:end]}")
        return "in a part that is not shown"

    def _value(self, letter: DeadLetter, shown: Any) -> Any:
        """Return a value that is no envelope as text, since that is why many letters are here."""
        value = letter.record.value
        if value is None or shown != {"bytes": len(value)}:
            return shown
        try:
            text = value[:_MOST_TEXT].decode()
        except UnicodeDecodeError:
            return shown
        try:
            return self._redactor.redact(msgspec.json.decode(value)).value
        except (msgspec.DecodeError, ValueError, RecursionError):
            pass
        more = f" ... {len(value)} bytes" if len(value) > _MOST_TEXT else ""
        return escaped(self._redactor.scrub(text)) + more


@asynccontextmanager
async def viewing(catalogue: Catalogue) -> AsyncGenerator[tuple[LetterView, Opener]]:
    """Open what shows letters; framed values need the registry of the settings."""
    redactor = load_settings(RedactionSettings).redactor() or default_redactor()
    registry = load_settings(RegistrySettings).open()
    if registry is None:
        opener = Opener()
        yield LetterView(redactor, catalogue, opener), opener
        return
    async with registry:
        opener = Opener(SchemaFraming(registry))
        yield LetterView(redactor, catalogue, opener), opener


async def prepared(opener: Opener, letter: DeadLetter) -> None:
    """Fetch a schema where one is needed; without it the value shows as its size."""
    try:
        await opener.prepare([letter.record])
    except RetriableError as exc:
        click.echo(f"the schema of {letter.place} cannot be read: {exc}", err=True)


def counted_letters(count: int) -> str:
    """Return how many letters, in words."""
    return counted(count, "letter") if count else "no letters"


def print_letters(view: LetterView, letters: Sequence[DeadLetter], out: Console) -> None:
    """
    Print letters as a table; the error's text is shortened, `show` has all of it.

    Args:
        view: Shows them.
        letters: In their order.
        out: Where to.
    """
    names = ("id", "failed at", "group", "event type")
    columns = (
        *(Column(name=name) for name in names),
        Column(name="replays", is_number=True),
        Column(name="error", folds=True),
    )
    rows = [
        (
            letter.place,
            letter.failed_at.strftime("%Y-%m-%d %H:%M:%S"),
            (view.text(letter.group) or "-")[:_MOST_NAME],
            (view.text(letter.event_type) or "-")[:_MOST_NAME],
            str(letter.replays),
            _short(": ".join(filter(None, map(view.text, _error(letter))))),
        )
        for letter in letters
    ]
    print_table(columns, rows, out=out)


def _error(letter: DeadLetter) -> tuple[str | None, str | None]:
    return letter.error_type, letter.error_message


def _short(text: str) -> str:
    return text if len(text) <= _MOST_ERROR else f"{text[:_MOST_ERROR]}…"


def show_letter(view: LetterView, letter: DeadLetter, out: Console) -> None:
    """Print one letter in full."""
    fields = view.fields(letter)
    headers, value = fields.pop("headers"), fields.pop("value")
    table = Table(RichColumn(style="bold", no_wrap=True), RichColumn(overflow="fold"), box=None)
    table.show_header = False
    for name, content in fields.items():
        shown = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        table.add_row(name.replace("_", " "), Text("-" if content is None else escaped(shown)))
    for index, (name, content) in enumerate(headers):
        shown = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        table.add_row("" if index else "headers", Text(escaped(f"{name} = {shown}")))
    out.print(table)
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    out.print(Text("value", style="bold"))
    out.print(Text("\n".join(map(escaped, text.split("\n")))))


class Statistics:
    """Counts letters by group, error and event type."""

    def __init__(self) -> None:
        self.total = 0
        self._counts: Counter[tuple[str | None, str | None, str | None]] = Counter()
        self._times: dict[tuple[str | None, str | None, str | None], list[datetime]] = {}

    def add(self, letter: DeadLetter) -> None:
        """Count a letter."""
        self.total += 1
        kind = letter.group, letter.error_type, letter.event_type
        self._counts[kind] += 1
        first, last = self._times.get(kind, [letter.failed_at] * 2)
        self._times[kind] = [min(first, letter.failed_at), max(last, letter.failed_at)]

    @property
    def last(self) -> str | None:
        """When the newest failed."""
        return iso(max(times[1] for times in self._times.values())) if self._times else None

    def rows(self, view: LetterView) -> list[dict[str, Any]]:
        """Return the counts, most first."""
        return [
            {
                "count": count,
                "group": view.text(kind[0]),
                "error_type": view.text(kind[1]),
                "event_type": view.text(kind[2]),
                "first": iso(self._times[kind][0]),
                "last": iso(self._times[kind][1]),
            }
            for kind, count in self._counts.most_common()
        ]

    def print_table(self, view: LetterView) -> None:
        """Print the counts as a table."""
        texts = ("group", "event type", "failed")
        columns = (
            Column(name="error", heads=True),
            Column(name="letters", is_number=True),
            *(Column(name=name) for name in texts),
        )
        rows = [
            (
                row["error_type"] or "-",
                str(row["count"]),
                row["group"] or "-",
                row["event_type"] or "-",
                span_text(row["first"], row["last"]),
            )
            for row in self.rows(view)
        ]
        print_table(columns, rows)


def escaped(text: str) -> str:
    """Return text with all that a terminal may obey written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def iso(moment: datetime) -> str:
    """Return ISO 8601 with milliseconds."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
