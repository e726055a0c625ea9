"""Older payloads are read as the newest version; what is unknown is refused with the reason."""

from uuid import uuid4

import msgspec
import pytest

from spile.spi import ConfigurationError, InvalidEventError, UndecodableError
from spile.topics import EventContract, Upcast, default_catalogue
from spile.topics._upcasting import Upcasts
from spile.topics.events import ObservabilityEvent, parse


def _step(source, target, change=dict):
    return Upcast(source=source, target=target, change=change)


def _add(name, value):
    return lambda payload: {**payload, name: value}


def _post(version, **more):
    return {
        "event_id": str(uuid4()),
        "timestamp": "2026-01-02T03:04:05Z",
        "event_type": "PostToolUse",
        "event_category": "tool",
        "agent_id": str(uuid4()),
        "performance_metrics": {"execution_time_ms": 12.5},
        "metadata": {"schema_version": version},
        "payload": {"tool_name": "Read", "success": True, **more},
    }


CHAIN = (
    _step("1.1.0", "1.2.0", _add("b", 2)),
    _step("1.0.0", "1.1.0", _add("a", 1)),
)


def test_steps_follow_one_another():
    """A payload of the oldest version takes every step, one of a newer version the rest."""
    upcasts = Upcasts(CHAIN, "1.2.0")
    assert upcasts.apply({}, "1.0.0") == {"a": 1, "b": 2}
    assert upcasts.apply({}, "1.1.0") == {"b": 2}
    assert upcasts.known == ("1.0.0", "1.1.0", "1.2.0")


def test_a_step_cannot_change_what_the_caller_holds():
    """The payload that is read stays as it is, nested values included."""

    def change(payload):
        payload["deep"]["list"].append(1)
        return payload

    given = {"deep": {"list": []}}
    upcasts = Upcasts((_step("1.0.0", "1.1.0", change),), "1.1.0")
    assert upcasts.apply(given, "1.0.0") == {"deep": {"list": [1]}}
    assert given == {"deep": {"list": []}}


@pytest.mark.parametrize(
    ("version", "readable"),
    [
        ("1.0.0", True), ("1.0.7", True), ("1.1.3", True), ("1.2.0", True), ("1.2.9", True),
        ("1.3.0", False), ("0.9.0", False), ("2.0.0", False), ("one", False), ("1.2", False),
        ("1." + "9" * 5000 + ".0", False), ("", False), ("\u0661.\u0660.\u0660", False),
    ],
)  # fmt: skip
def test_only_known_versions_are_readable(version, readable):
    """With steps, what no step begins at is unknown; a patch changes nothing."""
    assert Upcasts(CHAIN, "1.2.0").reads(version) is readable


def test_without_steps_older_minors_are_readable():
    """A minor version only adds, so an older one is read as it is."""
    upcasts = Upcasts((), "1.2.0")
    assert [upcasts.reads(v) for v in ("1.0.0", "1.2.0", "1.3.0", "2.0.0")] == [
        True,
        True,
        False,
        False,
    ]
    assert not upcasts.is_old("1.0.0")


@pytest.mark.parametrize(
    ("steps", "newest", "reason"),
    [
        ([_step("1.0.0", "1.1.0"), _step("1.0.3", "1.2.0")], "1.2.0", "two upcasts begin"),
        ([_step("1.0.0", "1.1.0")], "1.2.0", "do not end at 1.2.0"),
        ([_step("1.0.0", "1.1.0"), _step("1.1.0", "1.0.0")], "1.2.0", "do not end at 1.2.0"),
        ([_step("one", "1.1.0")], "1.1.0", "no version"),
        ([], "newest", "no version"),
    ],
)
def test_steps_that_lead_nowhere_are_refused(steps, newest, reason):
    """A gap, a circle or a fork is found when the contract is made."""
    with pytest.raises(ConfigurationError, match=reason):
        EventContract("X", upcasts=steps, schema_version=newest)


def test_a_contract_reads_old_payloads_by_their_header():
    """The version of the header decides; the newest needs no step."""
    contract = EventContract("X", upcasts=CHAIN, schema_version="1.2.0")
    assert contract.decode(b'{"x":1}', "1.0.0") == {"x": 1, "a": 1, "b": 2}
    assert contract.decode(b'{"x":1}', "1.2.0") == {"x": 1}
    assert contract.decode(b'{"x":1}') == {"x": 1}
    assert contract.view(msgspec.Raw(b'{"x":1}'), "1.1.0") == {"x": 1, "b": 2}
    assert msgspec.json.decode(contract.upcast(b'{"x":1}', "1.1.0")) == {"x": 1, "b": 2}
    assert contract.upcast(b'{"x":1}', None) == b'{"x":1}'


def test_a_step_that_refuses_names_its_field():
    """What has no meaning in the newer version is undecodable, with the reason."""

    def refuse(payload):
        raise InvalidEventError("unit: there were no cubits after 1.0.0", field="unit")

    contract = EventContract(
        "X", upcasts=(_step("1.0.0", "1.1.0", refuse),), schema_version="1.1.0"
    )
    with pytest.raises(UndecodableError, match="X: unit: there were no cubits") as caught:
        contract.decode(b"{}", "1.0.0")
    assert caught.value.field == "unit"
    with pytest.raises(UndecodableError, match="X: "):
        contract.decode(b"[]", "1.0.0")


def test_results_of_1_0_0_get_their_execution_time():
    """It stood under performance_metrics only."""
    event = ObservabilityEvent.parse(_post("1.0.0"))
    assert event.execution_time_ms == 12.5
    assert event.metadata.schema_version == "1.1.0"


def test_a_flat_result_of_1_0_0_is_upcast_too():
    """Producers write both forms."""
    nested = _post("1.0.0")
    flat = {**{k: v for k, v in nested.items() if k != "payload"}, **nested["payload"]}
    assert ObservabilityEvent.parse(flat) == ObservabilityEvent.parse(nested)


def test_what_a_result_says_itself_goes_first():
    """A time of its own is not overwritten, and the newest version is left alone."""
    assert ObservabilityEvent.parse(_post("1.0.0", execution_time_ms=3)).execution_time_ms == 3
    assert ObservabilityEvent.parse(_post("1.1.0")).execution_time_ms is None


@pytest.mark.parametrize("stated", ["1.0.0", None])
def test_the_contract_of_a_result_upcasts_by_header_and_by_its_own_word(stated):
    """Without a word of its own the header's version counts."""
    contract = default_catalogue().contracts("dev.agent.tool.recorded.v1")["POST_TOOL_USE"]
    payload = _post(stated)
    if stated is None:
        del payload["metadata"]
    raw = msgspec.json.encode(payload)
    for header in ("1.0.0", "1.1.0") if stated else ("1.0.0",):
        assert contract.decode(raw, header).execution_time_ms == 12.5
        assert contract.view(msgspec.Raw(raw), header).payload.execution_time_ms == 12.5
        newest = msgspec.json.decode(contract.upcast(raw, header))
        assert newest["payload"]["execution_time_ms"] == 12.5
        assert newest["metadata"]["schema_version"] == "1.1.0"


@pytest.mark.parametrize("metadata", [5, "x", [], {"schema_version": 5}, {"schema_version": None}])
def test_odd_metadata_is_an_error_of_its_own(metadata):
    """The upcast does not trip over it, and does not heal it."""
    with pytest.raises(InvalidEventError, match="metadata"):
        ObservabilityEvent.parse({**_post("1.0.0"), "metadata": metadata})


def test_an_unknown_version_is_refused_by_name():
    """Neither guessed nor dropped."""
    with pytest.raises(InvalidEventError, match=r"reads 1\.0\.0 and 1\.1\.0"):
        ObservabilityEvent.parse(_post("1.2.0"))


@pytest.mark.parametrize("stated", ["2.0.0", "1.2.0", "soon", 7])
def test_an_unknown_version_is_not_hidden_by_an_old_header(stated):
    """What the payload says of itself is not overwritten when the header says 1.0.0."""
    contract = default_catalogue().contracts("dev.agent.tool.recorded.v1")["POST_TOOL_USE"]
    with pytest.raises(UndecodableError) as caught:
        contract.decode(msgspec.json.encode(_post(stated)), "1.0.0")
    assert caught.value.field == "metadata.schema_version"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda payload: payload["missing"], "1.0.0 to 2.0.0 failed: KeyError"),
        (lambda payload: payload + 1, "1.0.0 to 2.0.0 failed: TypeError"),
        (lambda payload: next(iter(())), "1.0.0 to 2.0.0 failed: StopIteration"),
        (lambda payload: None, "1.0.0 to 2.0.0 returned NoneType"),
        (lambda payload: [payload], "1.0.0 to 2.0.0 returned list"),
    ],
)
@pytest.mark.parametrize("read", ["decode", "view", "upcast"])
def test_a_step_that_breaks_refuses_the_payload(change, reason, read):
    """A mistake in a step is poison with its reason, and no secret, not a dead worker."""
    steps = (_step("1.0.0", "2.0.0", change),)
    contract = EventContract("ORDER", schema_version="2.0.0", upcasts=steps)
    with pytest.raises(UndecodableError, match=reason) as caught:
        getattr(contract, read)(msgspec.Raw(b'{"secret":"hunter2"}'), "1.0.0")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("metadata", [..., {}, {"source_service": "x"}])
def test_an_event_that_states_no_version_is_of_the_first(metadata):
    """Producers of 1.0.0 often left it out."""
    event = _post("1.0.0")
    del event["metadata"]
    if metadata is not ...:
        event["metadata"] = metadata
    parsed = parse(event)
    assert parsed.execution_time_ms == 12.5
    assert parsed.metadata.schema_version == "1.1.0"
