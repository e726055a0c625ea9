"""The table that a run of the matrix leaves in docs/."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.faults.matrix.stage import Cell

_HEAD = """# What faults do

Written by `make test-faults` on {date}; do not edit. Each row is a fault on {brokers} while a load
publishes numbered events and the persistence worker stores them, with {seeds}. The delivery ledger
compares afterwards what was acknowledged with what stands on the bus and in the store: lost (or not
there after the drain), doubled, or out of the order of its key. A run counts only with 2,000
acknowledged events and 5 faults that took effect; a row that has fewer says why in its cell.
Longest gap is the longest time without any acknowledgement, recovery the time from the end of the
last fault until the store has everything, the end of the load included. Figures are the worst of
all runs.
"""
_COLUMNS = """\
| | fault | runs | faults | acknowledged | lost | doubled | reordered | longest gap | recovery \
| measured |
|---|---|--:|--:|--:|--:|--:|--:|--:|--:|---|"""
_MUTANTS = """
## What the ledger would notice

Each of these breaks one rule on purpose; the run passes only if the ledger finds the damage.
"""


_OLDER = """
Kept from runs of earlier sources (KEEP=1): {names}.
"""


def write_table(path: Path, rows: Sequence[tuple[Cell, list[Any]]], source: str = "") -> None:
    """Write the table of all cells, worst figures of all seeds; name those of other sources."""
    rows = sorted(rows, key=lambda row: _number(row[0]))
    older = [
        cell.name
        for cell, results in rows
        if any(r.get("source", source) != source for r in results)
    ]
    seeds = len(rows[0][1])
    parts = [
        _HEAD.format(
            date=datetime.now(UTC).strftime("%Y-%m-%d"),
            brokers="three real brokers",
            seeds="one seed" if seeds == 1 else f"{seeds} seeds",
        ),
        _COLUMNS,
        *(_row(cell, results) for cell, results in rows if not cell.mutant),
        *([_OLDER.format(names=", ".join(older))] if older else []),
        _MUTANTS,
        "| | mutant | runs | acknowledged | found |\n|---|---|--:|--:|---|",
        *(_mutant(cell, results) for cell, results in rows if cell.mutant),
    ]
    path.write_text("\n".join(parts) + "\n", encoding="utf-8")


def _number(cell: Cell) -> int:
    """Return the number of a fault; mutants come behind all."""
    digits = cell.name.split()[0].lstrip("FM")
    return int(digits) if digits else 1000


def _row(cell: Cell, results: Sequence[dict[str, Any]]) -> str:
    def total(name: str) -> str:
        return f"{sum(result[name] for result in results):,}"

    def worst(name: str) -> str:
        return f"{max(result[name] for result in results):.1f} s"

    names = dict.fromkeys(name for result in results for name in result["figures"])
    measured = "; ".join(
        _figure(name, max(result["figures"].get(name, 0) for result in results)) for name in names
    )
    cells = [
        cell.name,
        cell.title,
        str(len(results)),
        *(total(name) for name in ("faults", "acknowledged", "lost", "doubled", "reordered")),
        worst("gap_s"),
        worst("recovery_s"),
        measured,
    ]
    return f"| {' | '.join(cells)} |"


def _figure(name: str, value: float) -> str:
    text, _, unit = name.replace("_", " ").rpartition(" ")
    if unit in {"s", "ms", "MiB"}:
        return f"{text} {value:,.2f} {unit}" if value < 10 else f"{text} {value:,.0f} {unit}"
    shown = f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"
    return f"{name.replace('_', ' ')} {shown}"


def _mutant(cell: Cell, results: Sequence[dict[str, Any]]) -> str:
    lost, doubled, reordered = (
        sum(result[name] for result in results) for name in ("lost", "doubled", "reordered")
    )
    found = ", ".join(
        f"{count:,} {name}"
        for name, count in (("lost", lost), ("doubled", doubled), ("reordered", reordered))
        if count
    )
    acknowledged = sum(result["acknowledged"] for result in results)
    return f"| {cell.name} | {cell.title} | {len(results)} | {acknowledged:,} | {found} |"
