"""Tables of commands: whole in a pipe, readable on a terminal."""

from __future__ import annotations

from datetime import timedelta

import pytest

from spile.services.command._options import age_text, counted
from spile.services.command._tables import Column, table_lines

NAME = "prod.shop.orders-of-a-very-long-name.placed.v1"
COLUMNS = (
    Column(name="topic", heads=True),
    Column(name="records", is_number=True),
    Column(name="state"),
    Column(name="what", folds=True),
)
WORDS = "on the bus and not in the archive, which is further on than this record"
ROWS = [(NAME, "123456789", "missing", WORDS), (NAME, "7", "not yet", ""), ("a", "1", "b", "c")]


def lines(width, columns=COLUMNS, rows=ROWS):
    """Return the lines of a table without styles."""
    return [line for line, _ in table_lines(columns, rows, width=width)]


def test_a_pipe_gets_one_whole_line_a_row():
    """Without a terminal nothing is moved, cut or framed."""
    shown = lines(None)
    assert len(shown) == 1 + len(ROWS)
    assert shown[1].split("  ") == [NAME, "123456789", "missing", WORDS]
    assert all(line == line.rstrip() for line in shown)


def test_a_wide_terminal_gets_the_same():
    """Where a row fits it stays on its line."""
    assert lines(200) == lines(None)


@pytest.mark.parametrize("width", [50, 60, 80, 100])
def test_a_narrow_terminal_gets_names_above_their_rows(width):
    """Rows of one name stand below it once; numbers are whole and words are not broken."""
    shown = lines(width)
    assert max(map(len, shown)) <= width
    assert shown.count(NAME) == 1
    assert shown[0] == "topic"
    text = "\n".join(shown)
    assert "123456789  missing" in text
    assert " ".join(WORDS.split()) in " ".join(text.split())


def test_a_text_without_room_stands_below():
    """A column too narrow for sentences gives way to lines below the row."""
    assert lines(40, COLUMNS[1:], [("7", "missing", WORDS)]) == [
        "records  state",
        "      7  missing",
        "  on the bus and not in the archive,",
        "  which is further on than this record",
    ]


def test_rows_have_styles():
    """Each line of a row has the style of its row."""
    styles = [style for _, style in table_lines(COLUMNS, ROWS, width=200, styles=["a", "b", "c"])]
    assert styles == ["bold", "a", "b", "c"]


def test_no_rows_give_the_names():
    """A table without rows is its head."""
    assert lines(80, rows=[]) == ["topic  records  state  what"]


@pytest.mark.parametrize(
    ("age", "text"),
    [
        (timedelta(days=7), "7 days"),
        (timedelta(days=1, hours=12), "1 day 12 hours"),
        (timedelta(seconds=90), "90 seconds"),
        (timedelta(minutes=10), "10 minutes"),
    ],
)
def test_ages_read_as_people_say_them(age, text):
    """No zero hours, and one of something is not several."""
    assert age_text(age) == text


def test_one_is_not_several():
    """Counts have the right form of the word."""
    assert [counted(n, "record") for n in (0, 1, 2)] == ["0 records", "1 record", "2 records"]
