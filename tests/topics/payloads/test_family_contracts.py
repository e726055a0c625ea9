"""Contracts of the other families: the fast path says what pydantic says."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from spile.spi import InvalidEventError, UndecodableError
from spile.topics import EventContract, encode_envelope
from spile.topics.events import MODELS, ObservabilityEvent

OTHERS = [name for name, model in MODELS.items() if not issubclass(model, ObservabilityEvent)]
_ODD = [
    None, True, 0, -1, 1, 1.0, 1.5, 101, 2**22 + 1, 2**63 - 1, 2**63, 2**70, -(2**63) - 1, "", "x",
    "1", "x" * 99, "é" * 100, "😀" * 101, "y" * 501, "a-b_C9", "a b", "a\n", "0" * 64, "A" * 64,
    "0" * 64 + "\n", "1.0", "1.1", "0.1", "session_start", "plan.generated", "thought", "text",
    "running", "accept", "PreToolUse", str(uuid4()), str(uuid4()).upper(), uuid4().hex,
    "0190c8a0-0000-7000-8000-000000000001", "2026-01-01", "2026-01-01T00:00:00Z",
    "2026-01-01 00:00:00+02:00", "2026-01-01T00:00:00", "0001-01-01T00:00:00+01:00", [], {}, [1],
    ["a"], [None], {"a": 1}, {"a": "b"}, {"kind": "error"}, [[[]]],
]  # fmt: skip


def _paths(value: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = []
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    for key, item in items:
        found += [(*prefix, key), *_paths(item, (*prefix, key))]
    return found


def _mutate(draw: st.DrawFn, value: dict[str, Any]) -> dict[str, Any]:
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(0, 2))):
        paths = _paths(value)
        path = draw(st.sampled_from([*paths, ("new",)] if paths else [("new",)]))
        target = value
        for part in path[:-1]:
            target = target[part]
        if draw(st.integers(0, 3)) or path == ("new",):
            target[path[-1]] = copy.deepcopy(draw(st.sampled_from(_ODD)))
        else:
            del target[path[-1]]
    return value


def _read(read: Callable[[Any], Any], raw: bytes) -> Any:
    try:
        return read(msgspec.Raw(raw))
    except UndecodableError:
        return None


def _envelope(name: str, raw: bytes) -> bytes:
    return encode_envelope(
        event_id=str(uuid4()),
        event_type=name,
        correlation_id=str(uuid4()),
        causation_id=None,
        timestamp="2026-01-01T00:00:00Z",
        service_json=b'"tests"',
        payload_json=raw,
    )


@settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    deadline=None,
    max_examples=40,
)
@pytest.mark.parametrize("name", OTHERS)
@given(data=st.data())
def test_the_fast_path_of_families_says_what_pydantic_says(name, data, event_strategies):
    """For mutated input of every event: the same verdict, and an event of the same meaning."""
    model, contract = MODELS[name], EventContract(name, MODELS[name])
    mutated = data.draw(
        st.composite(_mutate)(data.draw(event_strategies[name]).model_dump(mode="json"))
    )
    raw = msgspec.json.encode(mutated)
    try:
        wanted = model.model_validate_json(raw, strict=True)
    except ValidationError:
        wanted = None
    if wanted is None:
        assert _read(contract.decode, raw) is None
        assert _read(contract.view, raw) is None
        assert contract.read_record(_envelope(name, raw)) is None
        with pytest.raises(InvalidEventError):
            contract.prepare(mutated)
        return
    made = {"event_id", "timestamp"} - mutated.keys()
    expected = wanted.model_dump(exclude=made)
    assert _read(contract.decode, raw).model_dump(exclude=made) == expected
    assert _read(contract.view, raw) is not None
    written = contract.decode(contract.prepare(mutated).payload_json)
    assert written.model_dump(exclude=made) == expected


@pytest.mark.parametrize("name", OTHERS)
def test_which_families_have_the_fast_path(name):
    """All but the steps, whose content is one of four kinds."""
    assert EventContract(name, MODELS[name]).has_fast_path == (name != "STEP_RECORDED")


@pytest.mark.parametrize(("levels", "accepted"), [(32, True), (33, False)])
def test_the_light_reader_minds_the_depth(levels, accepted):
    """A caller's JSON is 32 levels deep at most, whoever reads it."""
    deep: Any = {}
    for _ in range(levels - 1):
        deep = {"x": deep}
    event = {"session_id": "a", "timestamp": "2026-01-01T00:00:00Z", "metadata": deep}
    raw = msgspec.json.encode(event)
    contract = EventContract("SESSION_END", MODELS["SESSION_END"])
    assert [_read(read, raw) is not None for read in (contract.decode, contract.view)] == [
        accepted,
        accepted,
    ]
