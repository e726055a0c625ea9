"""What a person sees: steps while it works, then the summary."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from spile.services.demo._store import POLL_S, ToolRow
from spile.services.demo._summary import Spread, Step, Summary

_TOOLS_SHOWN = 12
_PLAIN_WIDTH = 100
_TEXT_WIDTH = 68
_FIRST_WIDTH = 22


class Screen:
    """
    Prints steps: with a moving sign while one lasts on a terminal, a plain line elsewhere.

    Attributes:
        steps: Those that are done.
        console: Where it prints.
    """

    def __init__(self) -> None:
        console = Console(highlight=False)
        if not console.is_terminal:
            console = Console(highlight=False, width=_PLAIN_WIDTH)
        self.console = console
        self.steps: list[Step] = []

    def say(self, text: str = "") -> None:
        """Print a line, with markup, whole: commands and paths are there to be copied."""
        self.console.print(text, soft_wrap=True)

    @contextlib.contextmanager
    def step(self, doing: str) -> Generator[Callable[[str], None]]:
        """
        Show that a step goes on; gives a function that changes what is said about it.

        What was said last stands there when the step is done, with the time that it took.
        """
        started = time.monotonic()
        said = [doing]
        with self.console.status(Text(doing), spinner="dots") as status:

            def say(text: str) -> None:
                said[0] = text
                status.update(Text(text))

            yield say
        step = Step(text=said[0], seconds=round(time.monotonic() - started, 2))
        self.steps.append(step)
        line = Text.assemble((" ✓ ", "green"), f"{step.text:<{_TEXT_WIDTH}}")
        line.append(f"{step.seconds:>6.1f} s", "dim")
        self.console.print(line, soft_wrap=True)

    def show(self, summary: Summary) -> None:
        """Print the summary."""
        self.say()
        self.console.print(_verdict(summary))
        for table in (_counts(summary), _times(summary), _tools(summary.audit.tools)):
            self.console.print(Padding(table, (1, 0, 0, 1), expand=False))
        for kind, reason in summary.failures.items():
            self.say()
            self.console.print(Text(f" not acknowledged: {kind}: {reason}", "red"), soft_wrap=True)


def _verdict(summary: Summary) -> Text:
    if summary.is_good:
        return Text(
            f" Every one of {summary.acknowledged:,} acknowledged events is in the store, once,"
            " and in the archive.",
            "bold green",
        )
    lost, doubled = summary.audit.lost, summary.audit.duplicated
    missing = summary.published - summary.acknowledged
    archived = summary.archived
    wrong = "".join(f"\n archive: {finding}" for finding in archived.findings)
    return Text(
        f" Not as promised: {lost:,} lost, {doubled:,} duplicated, {missing:,} not acknowledged,"
        f" {archived.missing:,} not archived.{wrong}",
        "bold red",
    )


def _table(*titles: str) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="bold",
    )
    table.add_column(titles[0], min_width=_FIRST_WIDTH)
    for title in titles[1:]:
        table.add_column(title, justify="right")
    return table


def _counts(summary: Summary) -> Table:
    audit, archived = summary.audit, summary.archived
    table = _table("events", "", "")
    notes = {
        "published": f"{summary.imported} recorded,"
        f" {summary.published - summary.imported:,} of {summary.workflows} made-up workflows",
        "acknowledged": "by all in-sync replicas",
        "persisted": "found in the worker's store by SQL",
        "archived": f"in {archived.objects} Avro files, {archived.size_bytes / 1024:,.0f} KiB",
    }
    for name, count in (
        ("published", summary.published),
        ("acknowledged", summary.acknowledged),
        ("persisted", audit.persisted),
        ("archived", archived.events),
        ("lost", audit.lost),
        ("duplicated", audit.duplicated),
    ):
        bad = name in {"lost", "duplicated"} and count
        note = Text(notes.get(name, ""), "dim", justify="left")
        table.add_row(name, Text(f"{count:,}", "bold red" if bad else "bold"), note)
    return table


def _times(summary: Summary) -> Table:
    table = _table("latency", "p50", "p95", "longest", "")
    watched = f"row seen, {POLL_S * 1000:.0f} ms polls"
    for name, spread, note in (
        ("publish → acknowledged", summary.to_acknowledged, "acks=all, idempotent"),
        ("publish → persisted", summary.to_persisted, watched),
    ):
        table.add_row(name, *_shown(spread), Text(note, "dim", justify="left"))
    return table


def _shown(spread: Spread) -> list[str]:
    return [_ms(value) for value in (spread.p50, spread.p95, spread.longest)]


def _tools(rows: list[ToolRow]) -> Table:
    table = _table("tool", "calls", "mean", "p95", "errors")
    for row in rows[:_TOOLS_SHOWN]:
        errors = Text(str(row.errors), "yellow") if row.errors else Text("-", "dim")
        table.add_row(row.tool, f"{row.count:,}", _ms(row.mean_ms), _ms(row.p95_ms), errors)
    if more := rows[_TOOLS_SHOWN:]:
        calls, errors = sum(row.count for row in more), sum(row.errors for row in more)
        table.add_row(f"{len(more)} more", f"{calls:,}", "", "", str(errors) if errors else "-")
    return table


def _ms(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value / 1000:,.1f} s " if value >= 1000 else f"{value:,.1f} ms"  # noqa: PLR2004 - ms in a second
