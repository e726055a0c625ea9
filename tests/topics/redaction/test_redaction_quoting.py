"""What errors quote of names that nobody declared."""

import json

import pytest
from pydantic import BaseModel, ConfigDict

from spile.spi import InvalidEventError, UndecodableError
from spile.topics import EventContract
from spile.topics.events import ObservabilityEvent, PreToolUseEvent, parse
from spile.topics.redaction import quotable

AGENT = "0190c8a0-0000-7000-8000-000000000001"
SECRET = "ghp_" + "a1B2c3D4e5" * 3 + "abcdef"
TOOL_USE = {"agent_id": AGENT, "tool_name": "Read", "parameters": {}}


class Order(BaseModel):
    """An event with a mapping, and nothing undeclared."""

    model_config = ConfigDict(extra="forbid")

    items: dict[str, int] = {}


ORDER = EventContract("ORDER", Order)
TOOL = EventContract("PRE_TOOL_USE", PreToolUseEvent)


def envelope(payload):
    """Encode an event as it stands in a topic."""
    return json.dumps({"event_type": "PreToolUse", **payload}).encode()


@pytest.mark.parametrize("name", [SECRET, "see bob@example.com", "x" * 500], ids=len)
@pytest.mark.parametrize(
    "refuse",
    [
        lambda name: ORDER.prepare({name: 1}),
        lambda name: ORDER.prepare({"items": {name: "x"}}),
        lambda name: ORDER.prepare({"items": {name: float("nan")}}),
        lambda name: ORDER.decode(json.dumps({name: 1}).encode()),
        lambda name: TOOL.prepare({**TOOL_USE, name: 1}),
        lambda name: TOOL.prepare({**TOOL_USE, "parameters": {name: float("inf")}}),
        lambda name: PreToolUseEvent.parse({name: 1, "payload": {**TOOL_USE, name: 1}}),
        lambda name: PreToolUseEvent.parse({**TOOL_USE, "parameters": {(name[:50],): 1}}),
        lambda name: ObservabilityEvent.parse({"event_type": name}),
        lambda name: parse({"event_type": name}),
        lambda name: parse(envelope({**TOOL_USE, name: 1})),
        lambda name: parse({"event_type": "PreToolUse", name: float("nan")}),
        lambda name: parse({"run_id": "r", "event": name}),
    ],
)
def test_a_foreign_name_is_never_quoted_as_it_is(refuse, name):
    """Neither a secret nor a page of text gets into messages, attributes or causes."""
    with pytest.raises((InvalidEventError, UndecodableError)) as caught:
        refuse(name)

    error = caught.value
    shown = (str(error), str(error.field), str(getattr(error, "event_type", "")))
    assert not [text for text in shown if name in text or name[4:] in text]
    assert error.__cause__ is None


def test_an_unknown_field_is_named_as_before():
    """Only what looks like a secret, or is long, is not."""
    with pytest.raises(InvalidEventError) as caught:
        TOOL.prepare({**TOOL_USE, "tool_nmae": 1})

    assert caught.value.field == "payload.tool_nmae"
    assert "payload.tool_nmae: extra inputs are not permitted" in str(caught.value)


def test_names_are_quoted_up_to_a_length():
    """Counted beyond 64 characters; the whole path ends after 512."""
    assert quotable("payload.items.7") == "payload.items.7"
    assert quotable("a." + "b" * 65) == "a.<name of 65 characters>"
    assert len(quotable("a." * 10_000)) == 515
    assert quotable("api \udc80") == "api \\udc80"
