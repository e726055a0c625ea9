"""Bounds of foreign values, property-based."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spile.services.importing import _values
from spile.services.importing._values import (
    MAX_FIELD_DEPTH,
    encoded_size,
    fit_object,
    fit_text,
    parse_json,
    read_lines,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.text(max_size=400), st.integers(20, 300))
def test_fit_text_holds_its_limit(text, limit):
    """A text that was cut fits, and a text that fits was not cut."""
    shown, whole = fit_text(text, limit)
    assert encoded_size(shown) <= limit
    assert (whole is None) == (shown == text)


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=4))
def test_fit_object_is_bounded_json(value):
    """Whatever an object holds, it comes out as JSON within the limit."""
    shown = fit_object(value, 400)
    assert encoded_size(shown) <= 400
    json.dumps(shown, allow_nan=False)


def test_fit_object_bounds_depth():
    """Nesting past the bound is kept as text."""
    value = {"end": 1}
    for _ in range(100):
        value = {"in": value}
    shown, depth = fit_object(value), 0
    while isinstance(shown, dict):
        shown, depth = shown["in"], depth + 1
    assert depth == MAX_FIELD_DEPTH
    assert '"end": 1' in shown


def test_lines_that_are_too_long_are_passed_over(monkeypatch):
    """A line over the limit comes without its bytes; the lines after it keep their numbers."""
    monkeypatch.setattr(_values, "MAX_LINE_BYTES", 16)
    data = b"first\n" + b"x" * 100 + b"\n\nlast"
    lines = list(read_lines(io.BytesIO(data)))
    assert [(line.number, line.data) for line in lines] == [
        (1, b"first\n"),
        (2, None),
        (4, b"last"),
    ]


def test_deep_json_is_refused_as_a_value_error():
    """JSON nested past what the reader can follow is malformed, not a crash."""
    with pytest.raises(ValueError, match="nested too deep"):
        parse_json(b"[" * 200_000)
