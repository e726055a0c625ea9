"""Contracts of payloads: what the fast path accepts is what pydantic accepts."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    computed_field,
    field_serializer,
    field_validator,
    model_validator,
)

from spile.spi import InvalidEventError, MessageTooLargeError, UndecodableError
from spile.topics import (
    MAX_PAYLOAD_BYTES,
    EventContract,
    Id,
    Instant,
    JsonObject,
    encode_envelope,
    stated_type,
    upper_snake,
)
from spile.topics._json import encode_hook, find_non_finite, is_deeper, nesting
from spile.topics.events import EVENT_MODELS, PreToolUseEvent


class Line(BaseModel):
    """A nested model."""

    sku: Annotated[str, Field(min_length=1, max_length=8)]
    count: Annotated[int, Field(gt=0, le=99)] = 1


class Order(BaseModel):
    """A model of a user's with everything that has a fast path."""

    model_config = ConfigDict(extra="forbid")

    order_id: UUID
    placed: Instant
    owner: Id | None = None
    status: Literal["new", "paid"] = "new"
    total: Annotated[float, Field(ge=0)]
    ratio: float = 0.5
    count: int = 0
    paid: bool = False
    note: str | None = "none"
    lines: Annotated[list[Line], Field(min_length=1)]
    tags: dict[str, str] = Field(default_factory=dict)
    first: Line | None = None
    more: JsonObject = Field(default_factory=dict)
    anything: JsonObject | None = None


_ODD = [
    math.nan, math.inf, 2**63, 2**70, -1, 0, 1, 1.0, 1.5, 101, "", "x", "1", "1.5", "true", "new",
    "é\u0000", "\ud800", True, None, b"x", b"0" * 16, Decimal(1), uuid4(), str(uuid4()).upper(),
    uuid4().hex, f"urn:uuid:{uuid4()}", datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1),  # noqa: DTZ001
    "2026-01-01", "2026-01-01T00:00:00Z", "2026-01-01 00:00:00+02:00", "2026-01-01T00:00:00",
    "2026-01-01T00:00:00.1234567Z", "2026-02-30T00:00:00Z", "2026-01-01t00:00:00z",
    "0001-01-01T00:00:00+01:00", (), [], {}, [1], ["a"], {"a": 1}, {1: 2}, {"a": math.nan}, {1, 2},
    [[[]]], "1.0.0", "2.0.0", "PreToolUse", "tool", Line(sku="a"), object(), [0.5] * 1536,
    [None] * 1536,
]  # fmt: skip
odd_values = st.sampled_from(_ODD) | st.text(max_size=3) | st.floats() | st.integers()


def _paths(value: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = []
    if isinstance(value, dict):
        for key, item in value.items():
            found += [(*prefix, key), *_paths(item, (*prefix, key))]
    return found


def _mutate(draw: st.DrawFn, value: dict[str, Any], names: list[str]) -> dict[str, Any]:
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from(_paths(value) + [(name,) for name in names] + [("new",)]))
        target = value
        for part in path[:-1]:
            target = target[part]
        if draw(st.booleans()) or path[-1] not in target:
            target[path[-1]] = copy.deepcopy(draw(odd_values))
        else:
            del target[path[-1]]
        if not isinstance(value, dict):
            break
    return value


def _as_json(value: Any) -> bytes | None:
    if find_non_finite(value) is not None:
        return None
    try:
        return msgspec.json.encode(value, enc_hook=encode_hook)
    except (TypeError, ValueError, NotImplementedError, OverflowError):
        return None


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=40)
@pytest.mark.parametrize("name", sorted(EVENT_MODELS))
@given(data=st.data())
def test_the_fast_path_of_events_says_what_pydantic_says(name, data, samples, contracts):
    """For mutated input of every event: the same verdict, and bytes of the same meaning."""
    model, contract = EVENT_MODELS[name], contracts[name]
    nested = model(**samples[name]).model_dump(mode="json")
    nested["performance_metrics"] = {"execution_time_ms": 1, "cpu_usage_percent": 100.0}
    nested["metadata"] = {"schema_version": "1.1.0", "correlation_id": str(uuid4())}
    flat = {**{k: v for k, v in nested.items() if k != "payload"}, **nested["payload"]}
    own = [field for field in model.model_fields if field not in model.COMMON]
    start = data.draw(st.sampled_from([nested, flat]))
    mutated = data.draw(st.composite(_mutate)(start, [*model.COMMON, *own]))
    raw = _as_json(mutated)
    if raw is not None:
        _same_verdict_on_reading(contract, raw)
    try:
        wanted = None if raw is None else model.parse(_filled(raw))
    except InvalidEventError:
        wanted = None
    if wanted is None:
        with pytest.raises(InvalidEventError):
            contract.prepare(mutated)
        return
    prepared = contract.prepare(mutated)
    found = model.parse(prepared.payload_json)
    given = {key for key in ("event_id", "timestamp") if mutated.get(key) is not None}
    for field in model.model_fields:
        if field in given or field not in {"event_id", "timestamp"}:
            assert getattr(found, field) == getattr(wanted, field)
    read = contract.decode(prepared.payload_json)
    assert read == found
    assert repr(read) == repr(found)
    assert read.model_dump_json() == found.model_dump_json()
    assert str(found.event_id) == prepared.event_id


def _same_verdict_on_reading(contract: EventContract, raw: bytes) -> None:
    """The light readers refuse what `decode` refuses, and accept what it accepts."""
    accepted = _accepts(contract.decode, raw)
    assert _accepts(contract.view, raw) == accepted
    whole = contract.read_record(
        encode_envelope(
            event_id=str(uuid4()),
            event_type=contract.event_type,
            correlation_id=str(uuid4()),
            causation_id=None,
            timestamp="2026-01-01T00:00:00Z",
            service_json=b'"tests"',
            payload_json=raw,
        )
    )
    assert accepted or whole is None


def _accepts(read: Callable[[Any], object], raw: bytes) -> bool:
    try:
        read(msgspec.Raw(raw))
    except UndecodableError:
        return False
    return True


def _filled(raw: bytes) -> dict[str, Any]:
    """Leave out what `prepare` fills in: ids, time and metadata that are null."""
    value = msgspec.json.decode(raw)
    made = ("event_id", "timestamp", "metadata")
    return {k: v for k, v in value.items() if not (k in made and v is None)}


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=1000)
@given(data=st.data())
def test_the_fast_path_of_models_says_what_pydantic_says(data):
    """The same for a model of a user's."""
    contract = EventContract("ORDER", Order)
    assert contract.has_fast_path
    start = {
        "order_id": str(uuid4()),
        "placed": "2026-01-01T00:00:00Z",
        "total": 1.5,
        "lines": [{"sku": "a"}],
        "first": {"sku": "b", "count": 3},
        "tags": {"a": "b"},
        "more": {"deep": {"x": [1]}},
    }
    mutated = data.draw(st.composite(_mutate)(start, list(Order.model_fields)))
    raw = _as_json(mutated)
    if raw is not None:
        _same_verdict_on_reading(contract, raw)
    try:
        wanted = None if raw is None else Order.model_validate_json(raw, strict=True)
    except ValidationError:
        wanted = None
    if wanted is None:
        with pytest.raises(InvalidEventError):
            contract.prepare(mutated)
    else:
        prepared = contract.prepare(mutated)
        assert contract.decode(prepared.payload_json) == wanted
        assert contract.decode(contract.prepare(wanted).payload_json) == wanted


@pytest.mark.parametrize("name", sorted(EVENT_MODELS))
def test_an_instance_and_its_mapping_are_written_alike(name, samples, contracts):
    """An instance, its nested form and its flat form give events of the same meaning."""
    event = EVENT_MODELS[name](**samples[name])
    nested = event.model_dump(mode="json")
    prepared = contracts[name].prepare(event)
    assert prepared.payload_json == contracts[name].prepare(nested).payload_json
    assert contracts[name].decode(prepared.payload_json) == event
    assert contracts[name].decode(nested) == event


def test_ids_and_time_are_lent(contracts):
    """One event, one id everywhere: what the payload carries goes to the envelope."""
    session, correlation = uuid4(), uuid4()
    prepared = contracts["PreToolUse"].prepare(
        {
            "agent_id": uuid4(),
            "session_id": str(session).upper(),
            "metadata": {"correlation_id": correlation.hex},
            "timestamp": "2026-01-01T02:00:00+02:00",
            "tool_name": "Read",
            "parameters": {},
        }
    )
    written = msgspec.json.decode(prepared.payload_json)
    assert prepared.timestamp == written["timestamp"] == "2026-01-01T00:00:00Z"
    assert prepared.event_id == written["event_id"]
    assert (prepared.key, prepared.correlation_id) == (str(session), str(correlation))


@pytest.mark.parametrize("taken", ["session_id", "workflow_id", "agent_id", "correlation_id", None])
def test_what_keys_an_event(taken, contracts):
    """The session, else the workflow, the agent, the correlation id."""
    order = ["session_id", "workflow_id", "agent_id", "correlation_id"]
    ids = {name: str(uuid4()) for name in (order[order.index(taken) :] if taken else [])}
    correlation = ids.pop("correlation_id", None)
    prepared = contracts["ToolRegistered"].prepare(
        {**ids, "tool_name": "x", "metadata": {"correlation_id": correlation}}
    )
    assert prepared.key == (ids.get(taken) or correlation if taken else None)


class _Aliased(BaseModel):
    number: int = Field(alias="n")


class _Checked(BaseModel):
    number: int

    @field_validator("number")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("must be even")
        return value


class _WholeChecked(BaseModel):
    number: int

    @model_validator(mode="after")
    def _even(self):
        if self.number % 2:
            raise ValueError("must be even")
        return self


class _Written(BaseModel):
    number: int

    @field_serializer("number")
    def _hex(self, value: int) -> int:
        return value + 1


class _Computed(BaseModel):
    number: int

    @computed_field
    @property
    def twice(self) -> int:
        return 2 * self.number


class _Stripped(BaseModel):
    model_config = ConfigDict(str_strip_whitespace=True)
    text: str


class _Moment(BaseModel):
    moment: datetime


class _Pattern(BaseModel):
    text: Annotated[str, Field(pattern="^a+$")]


class _Colour(StrEnum):
    RED = "red"


class _Enumerated(BaseModel):
    colour: _Colour


class _United(BaseModel):
    value: int | str


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    value: int


class _Private(BaseModel):
    value: int
    _hidden: int = PrivateAttr(default=1)


class _Inner(BaseModel):
    child: _Checked


class _Tree(BaseModel):
    children: list[_Tree]


@pytest.mark.parametrize(
    "model",
    [_Aliased, _Checked, _WholeChecked, _Written, _Computed, _Stripped, _Moment, _Pattern,
     _Enumerated, _United, _Open, _Private, _Inner, _Tree],
)  # fmt: skip
def test_what_is_not_proven_goes_without_the_fast_path(model):
    """Custom validators, aliases and unusual types leave the verdict to pydantic alone."""
    assert not EventContract("X", model).has_fast_path


def test_a_model_may_hold_itself():
    """A tree is a payload like any other, and its wrong leaf is named."""
    contract = EventContract("TREE", _Tree)
    tree = _Tree(children=[_Tree(children=[])])
    assert contract.decode(contract.prepare(tree).payload_json) == tree
    with pytest.raises(UndecodableError, match=r"children\.0\.children"):
        contract.decode(b'{"children":[{}]}')


def test_a_custom_validator_decides():
    """A validator of the user's is asked, and its field is named."""
    contract = EventContract("CHECKED", _Checked)
    assert contract.prepare({"number": 2}).payload_json == b'{"number":2}'
    with pytest.raises(InvalidEventError, match=r"CHECKED.*number.*must be even") as caught:
        contract.prepare({"number": 3})
    assert (caught.value.field, caught.value.event_type) == ("number", "CHECKED")


def test_an_alias_is_kept():
    """A model with an alias is written by it and read back."""
    contract = EventContract("ALIASED", _Aliased)
    prepared = contract.prepare({"n": 1})
    assert prepared.payload_json == b'{"n":1}'
    assert contract.decode(prepared.payload_json) == _Aliased(n=1)
    assert contract.prepare(_Aliased(n=1)).payload_json == b'{"n":1}'


def test_a_lax_model_is_validated_strictly():
    """A model that would turn text into numbers does not, on the bus."""
    contract = EventContract("LINE", Line)
    with pytest.raises(InvalidEventError, match="count"):
        contract.prepare({"sku": "a", "count": "3"})
    with pytest.raises(UndecodableError, match="count"):
        contract.decode(b'{"sku":"a","count":"3"}')


def test_an_instance_is_validated_again():
    """Instances can be changed, or made without validation: that does not get them on the bus."""
    line = Line(sku="a")
    line.count = -5
    with pytest.raises(InvalidEventError, match="count"):
        EventContract("LINE", Line).prepare(line)
    broken = PreToolUseEvent(agent_id=uuid4(), tool_name="a", parameters={})
    broken.parameters["x"] = math.nan
    with pytest.raises(InvalidEventError, match="NaN"):
        EventContract("PRE_TOOL_USE", PreToolUseEvent).prepare(broken)
    with pytest.raises(InvalidEventError, match="tool_name"):
        EventContract("PRE_TOOL_USE", PreToolUseEvent).prepare(
            broken.model_copy(update={"tool_name": 5, "parameters": {}})
        )


def test_a_foreign_instance_is_refused(contracts):
    """An instance of another model is an error that names both."""
    with pytest.raises(InvalidEventError, match="expected a PreToolUseEvent, got a Line"):
        contracts["PreToolUse"].prepare(Line(sku="a"))
    with pytest.raises(InvalidEventError, match="expected a Line, got a _Checked"):
        EventContract("LINE", Line).prepare(_Checked(number=2))


@pytest.mark.parametrize("payload", [[], "x", 5, None, b"{}"])
@pytest.mark.parametrize("model", [None, Line, PreToolUseEvent])
def test_what_is_no_object_is_refused(payload, model):
    """A payload is an object or a model."""
    with pytest.raises(InvalidEventError, match="expected an object"):
        EventContract("X", model).prepare(payload)


def test_free_objects_are_json():
    """Without a model any JSON object goes, and nothing that is not JSON."""
    contract = EventContract("FREE", key=["id"])
    prepared = contract.prepare({"id": 5, "x": None})
    assert contract.decode(prepared.payload_json) == {"id": 5, "x": None}
    assert prepared.key == "5"
    with pytest.raises(InvalidEventError, match=r"a\.0: NaN"):
        contract.prepare({"a": [math.inf]})
    with pytest.raises(InvalidEventError, match="no JSON"):
        contract.prepare({"a": object()})
    deep: Any = None
    for _ in range(900):
        deep = [deep]
    with pytest.raises(InvalidEventError):
        contract.prepare({"a": deep})
    circle: dict[str, Any] = {}
    circle["x"] = circle
    with pytest.raises(InvalidEventError, match="no JSON"):
        contract.prepare(circle)


def test_depth_is_bounded():
    """32 levels pass, 33 do not, whatever stands in texts."""

    def nested(depth):
        value: Any = "[{" * 40
        for _ in range(depth):
            value = [value]
        return {"x": value}

    free, event = EventContract("FREE"), EventContract("PRE_TOOL_USE", PreToolUseEvent)
    assert free.prepare(nested(31))
    with pytest.raises(InvalidEventError, match="deeper than 32"):
        free.prepare(nested(32))
    base = {"agent_id": uuid4(), "tool_name": "a"}
    prepared = event.prepare({**base, "parameters": nested(31)})
    assert event.decode(prepared.payload_json).parameters == nested(31)
    with pytest.raises(InvalidEventError, match="deeper than 32"):
        event.prepare({**base, "parameters": nested(32)})


@given(st.recursive(st.text() | st.none(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_nesting_counts_structure(value):
    """The depth found in the bytes is the depth of the value."""

    def depth(item):
        if isinstance(item, dict):
            return 1 + max(map(depth, item.values()), default=0)
        if isinstance(item, list):
            return 1 + max(map(depth, item), default=0)
        return 0

    data = msgspec.json.encode(value)
    assert nesting(data, 1000) == depth(value)
    assert is_deeper(data, 3) == (depth(value) > 3)


def test_a_payload_over_the_limit_is_refused():
    """The error names size, limit and event type."""
    with pytest.raises(MessageTooLargeError, match="FREE") as caught:
        EventContract("FREE").prepare({"x": "y" * MAX_PAYLOAD_BYTES})
    assert caught.value.size_bytes == MAX_PAYLOAD_BYTES + 8
    assert (caught.value.limit_bytes, caught.value.event_type) == (MAX_PAYLOAD_BYTES, "FREE")
    assert EventContract("FREE").prepare({"x": "y" * (MAX_PAYLOAD_BYTES - 8)})


@pytest.mark.parametrize("model", [None, Line, PreToolUseEvent])
@pytest.mark.parametrize(
    "data", [b"", b"[]", b"null", b"{", b"\xff", b"[" * 100_000, b'{"sku":NaN}']
)
def test_hostile_payloads_are_undecodable(model, data):
    """Reading ends in UndecodableError, nothing else."""
    with pytest.raises(UndecodableError, match="X: "):
        EventContract("X", model).decode(data)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("PreToolUse", "PRE_TOOL_USE"),
        ("BroadcastEvent", "BROADCAST_EVENT"),
        ("plan.step_started", "PLAN_STEP_STARTED"),
        ("session_start", "SESSION_START"),
        ("PRE_TOOL_USE", "PRE_TOOL_USE"),
    ],
)
def test_names_of_families_become_event_types(name, wanted):
    """Each family's spelling has one UPPER_SNAKE form."""
    assert upper_snake(name) == wanted
    assert stated_type({"event_type": name}) == wanted
    assert stated_type({"event_type": 5}) is None
    assert stated_type({}) is None
