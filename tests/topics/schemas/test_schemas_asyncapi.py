"""The catalogue as an AsyncAPI document."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import jsonschema_rs
import pytest
from pydantic import BaseModel

from spile.spi import SchemaError
from spile.topics import Catalogue, TopicName, TopicSpec, default_catalogue
from spile.topics.events import EVENT_MODELS
from spile.topics.schemas import asyncapi

PUBLISHED = Path(__file__).parent / "asyncapi" / "3.0.0.json"


class Order(BaseModel):
    """An order of the first kind."""

    number: int


class NewOrder(BaseModel):
    """An order of the second kind."""

    number: str


@pytest.fixture(scope="module")
def document():
    """Return the document of the catalogue that ships."""
    return asyncapi(default_catalogue())


@pytest.fixture(scope="module")
def published():
    """Return a validator of AsyncAPI 3.0.0 by its published schema."""
    return jsonschema_rs.validator_for(json.loads(PUBLISHED.read_bytes()))


def _refs(value):
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _refs(item)


def test_the_document_fits_the_published_schema(document, published):
    """The published JSON Schema of AsyncAPI 3.0.0 accepts it."""
    assert [str(error) for error in published.iter_errors(document)] == []
    assert document["asyncapi"] == "3.0.0"


def test_the_published_schema_refuses_what_is_wrong(document, published):
    """The check can fail: a channel with a word that AsyncAPI does not know is refused."""
    assert not published.is_valid({**document, "channels": {"a": {"adress": "a"}}})


def test_every_reference_leads_somewhere(document):
    """No `$ref` of the document leads out of it or nowhere."""
    for ref in set(_refs(document)):
        found = document
        for step in ref.removeprefix("#/").split("/"):
            found = found[step]
        assert found


def test_every_topic_is_a_channel(document):
    """Topics and dead letter queues are there, each to be sent to and received from."""
    wanted = {
        name
        for name in default_catalogue().topics("prod")
        if TopicName.parse(name).kind in {"topic", "dlq"}
    }
    addresses = {
        channel["address"].format(environment="prod") for channel in document["channels"].values()
    }
    assert addresses == wanted
    done = {
        (operation["action"], operation["channel"]["$ref"].removeprefix("#/channels/"))
        for operation in document["operations"].values()
    }
    assert done == {(a, name) for a in ("send", "receive") for name in document["channels"]}


def test_a_channel_says_how_kafka_keeps_it():
    """Partitions, copies, retention and cleanup are those of the catalogue."""
    spec = TopicSpec(
        name="shop.orders.placed.v1",
        owner="shop",
        partitions=7,
        retention=timedelta(days=2),
        models={"ORDER_PLACED": Order},
        key="number",
    )
    made = asyncapi(Catalogue([spec]))
    kafka = made["channels"]["shop.orders.placed.v1"]["bindings"]["kafka"]
    assert (kafka["partitions"], kafka["replicas"]) == (7, 3)
    assert kafka["topicConfiguration"]["retention.ms"] == 172_800_000
    assert kafka["topicConfiguration"]["cleanup.policy"] == ["delete"]
    message = made["components"]["messages"]["ORDER_PLACED"]
    assert "number, correlation_id" in message["bindings"]["kafka"]["key"]["description"]
    assert message["summary"] == "An order of the first kind."
    assert message["contentType"] == "application/json"


def test_a_message_is_an_envelope_with_headers(document, samples):
    """What is published fits payload and headers of its message, and another event does not."""
    message = document["components"]["messages"]["PRE_TOOL_USE"]
    payload = _validator(document, message["payload"])
    event = EVENT_MODELS["PreToolUse"](**samples["PreToolUse"]).model_dump(mode="json")
    envelope = {
        "event_id": event["event_id"],
        "event_type": "PRE_TOOL_USE",
        "correlation_id": event["event_id"],
        "timestamp": event["timestamp"],
        "service": "agent",
        "version": "v1",
        "payload": event,
    }
    assert payload.is_valid(envelope)
    assert not payload.is_valid({**envelope, "event_type": "POST_TOOL_USE"})
    assert not payload.is_valid({**envelope, "payload": {**event, "event_type": "PostToolUse"}})
    headers = _validator(document, message["headers"])
    written = {
        "content_type": "application/json",
        "correlation_id": event["event_id"],
        "message_id": event["event_id"],
        "timestamp": event["timestamp"],
        "source": "agent",
        "event_type": "PRE_TOOL_USE",
        "schema_version": "1.1.0",
    }
    assert headers.is_valid(written)
    assert headers.is_valid({**written, "priority": "high", "x-own": "1"})
    for name in written:
        assert not headers.is_valid({key: written[key] for key in written if key != name})


def _validator(document, schema):
    return jsonschema_rs.validator_for({**schema, "components": document["components"]})


def test_a_type_with_two_models_has_two_messages():
    """Each major version of a topic keeps the schema of its own model."""
    specs = [
        TopicSpec(name="shop.orders.placed.v1", owner="shop", models={"ORDER_PLACED": Order}),
        TopicSpec(name="shop.orders.placed.v2", owner="shop", models={"ORDER_PLACED": NewOrder}),
    ]
    made = asyncapi(Catalogue(specs))
    schemas = made["components"]["schemas"]
    assert schemas["ORDER_PLACED"]["properties"]["number"]["type"] == "integer"
    assert schemas["ORDER_PLACED.v2"]["properties"]["number"]["type"] == "string"
    assert list(made["channels"]["shop.orders.placed.v2"]["messages"]) == ["ORDER_PLACED.v2"]


def test_a_model_without_a_schema_is_named():
    """A model that JSON Schema cannot say is a clear error."""

    class Odd(BaseModel, arbitrary_types_allowed=True):
        lock: Path.__class__

    with pytest.raises(SchemaError, match="has no JSON Schema"):
        asyncapi(Catalogue([TopicSpec(name="a.b.c.v1", owner="a", models={"ODD": Odd})]))


def test_environments_are_a_parameter():
    """The address begins with the environment; those given are the choice."""
    made = asyncapi(default_catalogue(), environments=("eu", "us"))
    channel = made["channels"]["agent.tool.recorded.v1"]
    assert channel["address"] == "{environment}.agent.tool.recorded.v1"
    assert channel["parameters"]["environment"]["enum"] == ["eu", "us"]
    assert channel["parameters"]["environment"]["default"] == "eu"
