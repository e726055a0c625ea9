"""Tables that stay readable: whole in a pipe, and within the width of a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, repeat
from typing import Final

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

_GAP: Final = "  "
_INDENT: Final = "  "
_LEAST_TEXT: Final = 30
_WIDE: Final = 10_000

Cells = Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """
    A column of a table.

    Attributes:
        name: Stands above it.
        is_number: Whether its cells end under one another; numbers are never cut.
        heads: Whether it moves to a line of its own above the rows that share it where the terminal
            is too narrow; for long names.
        folds: Whether its text may go on in the next line; for sentences, in the last column only.
    """

    name: str
    is_number: bool = False
    heads: bool = False
    folds: bool = False


def console() -> Console:
    """Return where results go; what is no terminal gets lines of any length."""
    made = Console(highlight=False, markup=False, emoji=False)
    if made.is_terminal:
        return made
    return Console(highlight=False, markup=False, emoji=False, width=_WIDE)


def print_table(
    columns: Sequence[Column],
    rows: Sequence[Cells],
    *,
    styles: Sequence[str] | None = None,
    out: Console | None = None,
) -> None:
    """
    Print a table without borders.

    A file or pipe gets one line a row. So does a terminal where that fits; else columns that head
    move above their rows, and the text that folds goes on below.

    Args:
        columns: From left to right.
        rows: A cell for each column; what a terminal may obey is for the caller to take out.
        styles: Of the rows, as rich names them; plain by default.
        out: Where to; standard output by default.
    """
    out = out or console()
    width = out.width if out.is_terminal else None
    for line, style in table_lines(columns, rows, width=width, styles=styles):
        out.print(Text(line, style), soft_wrap=True)


def table_lines(
    columns: Sequence[Column],
    rows: Sequence[Cells],
    *,
    width: int | None,
    styles: Sequence[str] | None = None,
) -> Iterator[tuple[str, str]]:
    """
    Give the lines of a table, each with its style.

    Args:
        columns: From left to right.
        rows: A cell for each column.
        width: Of the terminal; None is for a pipe, where all lines are whole.
        styles: Of the rows.
    """
    styled = list(zip(rows, styles or repeat(""), strict=styles is not None))
    everything = range(len(columns))
    heads = [index for index in everything if columns[index].heads]
    if not heads or width is None or _natural(columns, rows, everything) <= width:
        yield from _block(columns, styled, list(everything), width)
        return
    rest = [index for index in everything if index not in heads]
    title = " ".join(columns[index].name for index in heads)
    widths = _widths(columns, rows, rest)
    yield title, "bold"
    yield _INDENT + _aligned(columns, rest, widths, [one.name for one in columns]), "bold"

    def heading(entry: tuple[Cells, str]) -> str:
        return " ".join(entry[0][index] for index in heads)

    for text, group in groupby(styled, heading):
        yield text, ""
        for line, style in _block(columns, list(group), rest, width - len(_INDENT), widths):
            yield _INDENT + line, style


def _block(
    columns: Sequence[Column],
    rows: Sequence[tuple[Cells, str]],
    shown: list[int],
    width: int | None,
    widths: Sequence[int] | None = None,
) -> Iterator[tuple[str, str]]:
    """Give some columns of rows, under their names unless widths are given."""
    cells = [row for row, _ in rows]
    names = [one.name for one in columns]
    fixed = widths or _widths(columns, cells, shown)
    folding = width is not None and columns[shown[-1]].folds
    room = 0
    if folding and width is not None:
        taken = sum(fixed[:-1]) + len(_GAP) * (len(shown) - 1)
        words = (word for row in cells for word in row[shown[-1]].split())
        longest = max(map(cell_len, words), default=0)
        room = width - taken
        if room < max(_LEAST_TEXT, min(longest, width)):
            room = 0  # it stands below
    if widths is None:
        below = folding and not room
        yield _aligned(columns, shown[:-1] if below else shown, fixed, names), "bold"
    for row, style in rows:
        if folding and width is not None:
            yield from zip(_folded(columns, row, shown, fixed, room, width), repeat(style))
        else:
            yield _aligned(columns, shown, fixed, row), style


def _folded(
    columns: Sequence[Column],
    row: Cells,
    shown: Sequence[int],
    widths: Sequence[int],
    room: int,
    width: int,
) -> Iterator[str]:
    """Give a row whose last cell goes on in further lines."""
    left = _aligned(columns, shown[:-1], widths, row, is_padded=bool(room))
    text = row[shown[-1]]
    if not room:
        yield left
        yield from _wrapped(text, width, _INDENT)
        return
    first, *others = list(_wrapped(text, room, "")) or [""]
    yield f"{left}{_GAP}{first}".rstrip()
    lead = " " * (width - room)
    yield from (lead + line for line in others)


def _wrapped(text: str, width: int, lead: str) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=lead, subsequent_indent=lead, break_on_hyphens=False
    )


def _widths(columns: Sequence[Column], rows: Sequence[Cells], shown: Sequence[int]) -> list[int]:
    return [
        max(cell_len(columns[index].name), *(cell_len(row[index]) for row in rows), 0)
        for index in shown
    ]


def _natural(columns: Sequence[Column], rows: Sequence[Cells], shown: Sequence[int]) -> int:
    return sum(_widths(columns, rows, shown)) + len(_GAP) * (len(shown) - 1)


def _aligned(
    columns: Sequence[Column],
    shown: Sequence[int],
    widths: Sequence[int],
    row: Cells,
    *,
    is_padded: bool = False,
) -> str:
    parts: list[str] = []
    for index, size in zip(shown, widths, strict=False):
        cell = row[index]
        if columns[index].is_number:
            parts.append(" " * (size - cell_len(cell)) + cell)
        else:
            parts.append(set_cell_size(cell, size))
    line = _GAP.join(parts)
    return line if is_padded else line.rstrip()
