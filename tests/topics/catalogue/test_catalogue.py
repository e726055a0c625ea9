"""The catalogue: the only place that spells a topic."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from pydantic import BaseModel

from spile.spi import (
    ConfigurationError,
    InvalidEventError,
    InvalidTopicError,
    UnknownTopicError,
)
from spile.topics import (
    MAX_DLQ_MESSAGE_BYTES,
    ConsumerGroup,
    EventContract,
    TopicName,
    TopicSpec,
    default_catalogue,
    upper_snake,
)
from spile.topics.events import EVENT_MODELS, PreToolUseEvent


class OrderPlaced(BaseModel):
    """An event of one's own, nothing configured."""

    order_id: str
    total_cents: int


ORDERS = TopicSpec(
    name="shop.orders.order-placed.v1",
    owner="shop",
    key="order_id",
    models={"ORDER_PLACED": OrderPlaced},
)


def _resolve(catalogue, event_type, **more):
    arguments = {"environment": "dev", "service": "agent", **more}
    return catalogue.resolve(event_type, **arguments)


@pytest.mark.parametrize("name", sorted(EVENT_MODELS))
def test_every_observability_event_has_its_topic(name):
    """Each event goes to the topic of its category, in the service's and environment's name."""
    model = EVENT_MODELS[name]
    route = _resolve(default_catalogue(), upper_snake(name))
    category = model.model_fields["event_category"].default
    assert route.topic == f"dev.agent.{category}.recorded.v1"
    assert route.dlq_topic == f"{route.topic}.dlq"
    assert (route.event_type, route.contract.model) == (upper_snake(name), model)
    assert (route.version, route.contract.schema_version) == ("v1", "1.1.0")


def test_all_topics_of_an_environment_come_with_what_stands_beside_them():
    """Categories, trios and whatever else; each with its DLQ, its marks and its retries."""
    topics = default_catalogue().topics("prod")
    names = {name: TopicName.parse(name) for name in topics}
    plain = {name for name, parsed in names.items() if parsed.kind == "topic"}
    beside = ("dlq", "dlq.done", "persistence.retry.0")
    assert {f"{name}.{suffix}" for name in plain for suffix in beside} == topics.keys() - plain
    assert len([name for name in plain if name.endswith(".recorded.v1")]) == 7
    assert len([name for name in plain if "code-analysis-" in name or ".routing." in name]) == 6
    for name, spec in topics.items():
        assert names[name].environment == "prod"
        limit = 2_000_000 if names[name].kind == "topic" else MAX_DLQ_MESSAGE_BYTES
        assert spec.max_message_bytes == limit
        days = {"topic": 7, "dlq": 30, "retry": 30, "dlq.done": 60}[names[name].kind]
        assert spec.retention == timedelta(days=days), "what failed waits for people"
        if names[name].kind == "dlq":
            assert spec.partitions == topics[str(names[name].topic)].partitions
        elif names[name].kind == "dlq.done":
            assert (spec.partitions, spec.cleanup) == (1, "compact,delete")


def test_retries_of_a_group_have_topics_of_their_own():
    """A group that a topic names gets its tiers there alone, with the partitions of the topic."""
    orders = replace(ORDERS, groups=(ConsumerGroup(name="billing"),))
    catalogue = default_catalogue().with_topics(orders)
    topics = catalogue.topics("dev")
    tiers = [f"dev.shop.orders.order-placed.v1.billing.retry.{tier}" for tier in range(3)]
    assert [name for name in topics if ".billing." in name] == tiers
    assert {topics[name].partitions for name in tiers} == {orders.partitions}
    assert topics["dev.shop.orders.order-placed.v1.persistence.retry.0"].partitions == 1


def test_retry_topic_comes_from_the_catalogue():
    """A group, topic or tier that the catalogue does not have has no retry topic."""
    catalogue = default_catalogue().with_topics(
        replace(ORDERS, groups=(ConsumerGroup(name="billing", tiers=2),))
    )
    topic = "dev.shop.orders.order-placed.v1"
    assert catalogue.retry_topic(topic, "billing") == f"{topic}.billing.retry.0"
    assert catalogue.retry_topic(f"{topic}.dlq", "billing", 1) == f"{topic}.billing.retry.1"
    assert catalogue.retry_topic(f"{topic}.2", "billing") == f"{topic}.billing.retry.0"
    for topic_of, group, tier in (
        (topic, "billing", 2),
        (topic, "billing", -1),
        (topic, "../x", 0),
        ("dev.agent.tool.recorded.v1", "billing", 0),
        ("dev.none.of.these.v1", "persistence", 0),
        ("__consumer_offsets", "persistence", 0),
    ):
        assert catalogue.retry_topic(topic_of, group, tier) is None


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"name": "a_b"}, InvalidTopicError),
        ({"name": ""}, InvalidTopicError),
        ({"name": "g", "tiers": 0}, ConfigurationError),
        ({"name": "g", "tiers": 10}, ConfigurationError),
        ({"name": "g", "partitions": 0}, ConfigurationError),
    ],
)
def test_group_that_cannot_be_is_refused(wrong, error):
    """The name must fit into a topic name, the numbers must make sense."""
    with pytest.raises(error):
        ConsumerGroup(**wrong)


def test_a_dotted_event_type_is_a_topic():
    """A topic name, with or without environment or minor version, gives the topic and its type."""
    catalogue = default_catalogue()
    wanted = _resolve(catalogue, "AGENT_ROUTING_REQUESTED")
    for name in (
        "agent.routing.requested.v1",
        "dev.agent.routing.requested.v1",
        "agent.routing.requested.v1.2",
    ):
        assert _resolve(catalogue, name) == wanted
    assert wanted.topic == "dev.agent.routing.requested.v1"


def test_a_topic_of_several_types_asks_for_the_type():
    """The error names the choices; the type that the payload states decides."""
    catalogue = default_catalogue()
    with pytest.raises(UnknownTopicError, match="PRE_TOOL_USE, POST_TOOL_USE"):
        _resolve(catalogue, "agent.tool.recorded.v1")
    route = _resolve(catalogue, "agent.tool.recorded.v1", payload_type="PRE_TOOL_USE")
    assert route.contract.model is PreToolUseEvent


def test_the_caller_may_name_the_topic():
    """An explicit topic must hold the type."""
    catalogue = default_catalogue()
    route = _resolve(catalogue, "PRE_TOOL_USE", topic="agent.tool.recorded.v1")
    assert route.topic == "dev.agent.tool.recorded.v1"
    with pytest.raises(UnknownTopicError, match=r"holds CODE_ANALYSIS_FAILED, not .PRE_TOOL_USE"):
        _resolve(
            catalogue,
            "PRE_TOOL_USE",
            topic="archon-intelligence.intelligence.code-analysis-failed.v1",
        )
    with pytest.raises(UnknownTopicError, match="two topics"):
        _resolve(catalogue, "agent.routing.failed.v1", topic="agent.tool.recorded.v1")


@pytest.mark.parametrize(
    ("event_type", "why"),
    [
        ("PRE_TOOL_USED", "did you mean PRE_TOOL_USE"),
        ("pre_tool_use", "no topic holds the event type 'pre_tool_use': did you mean PRE_TOOL_USE"),
        ("PreToolUse", "did you mean PRE_TOOL_USE or "),
        ("plan.step_started", "did you mean PLAN_STEP_STARTED or "),
        ("", "no topic holds"),
        ("agent.tools.recorded.v1", "did you mean agent.tool.recorded.v1"),
        ("agent.tool.recorded.v2", "is not in the catalogue"),
        ("agent.tool.recorded.v1.dlq", "is not in the catalogue"),
        ("prod.agent.tool.recorded.v1", "is in 'prod', this process is in 'dev'"),
        ("other.tool.recorded.v1", "is not in the catalogue"),
    ],
)
def test_what_is_unknown_is_refused_with_a_hint(event_type, why):
    """Nothing is created or guessed; what comes close is named."""
    with pytest.raises(UnknownTopicError, match=why) as caught:
        _resolve(default_catalogue(), event_type)
    assert caught.value.topic == event_type


@pytest.mark.parametrize("event_type", ["../../etc/passwd", "a.b", "__consumer.offsets", "a.\n"])
def test_a_hostile_topic_is_refused_by_its_name(event_type):
    """A name that is no topic name never gets as far as the catalogue."""
    with pytest.raises(InvalidTopicError):
        _resolve(default_catalogue(), event_type)


def test_a_service_must_be_in_the_catalogue():
    """The error says how to add it; `_` and case do not matter."""
    with pytest.raises(UnknownTopicError, match="with_services"):
        _resolve(default_catalogue(), "PRE_TOOL_USE", service="My_Agent")
    catalogue = default_catalogue().with_services("My_Agent")
    route = _resolve(catalogue, "PRE_TOOL_USE", service="My_Agent")
    assert route.topic == "dev.my-agent.tool.recorded.v1"
    assert catalogue.with_services("My_Agent").services == catalogue.services


def test_colliding_services_are_refused():
    """Two names that become one segment would share topics unseen."""
    with pytest.raises(ConfigurationError, match="both become"):
        default_catalogue(("my_agent", "my-agent"))


def test_a_service_that_is_no_segment_is_refused():
    """A service name ends up in topic names."""
    for name in ("a.b", "", "dev", "prod-x", "x y"):
        with pytest.raises(InvalidTopicError):
            default_catalogue((name,))


def test_own_topics_join_the_catalogue():
    """A topic and a plain pydantic model are all it takes; the old catalogue stays as it was."""
    before = default_catalogue()
    catalogue = before.with_topics(ORDERS)
    route = _resolve(catalogue, "ORDER_PLACED", service="whoever")
    assert route.topic == "dev.shop.orders.order-placed.v1"
    prepared = route.contract.prepare({"order_id": "o-1", "total_cents": 5})
    assert prepared.key == "o-1"
    assert route.contract.decode(prepared.payload_json) == OrderPlaced(
        order_id="o-1", total_cents=5
    )
    with pytest.raises(UnknownTopicError):
        _resolve(before, "ORDER_PLACED")


def test_a_topic_twice_is_refused():
    """Also when a template becomes what is there already."""
    with pytest.raises(ConfigurationError, match="twice"):
        default_catalogue().with_topics(ORDERS, ORDERS)
    with pytest.raises(ConfigurationError, match="twice"):
        default_catalogue().with_topics(TopicSpec(name="agent.tool.recorded.v1", owner="x"))


def test_the_newest_major_is_taken():
    """An event type on two majors of a topic goes to the newer; the older is there by name."""
    newer = TopicSpec(
        name="shop.orders.order-placed.v10", owner="shop", models={"ORDER_PLACED": None}
    )
    older = TopicSpec(
        name="shop.orders.order-placed.v9", owner="shop", models={"ORDER_PLACED": None}
    )
    catalogue = default_catalogue().with_topics(newer, ORDERS, older)
    assert _resolve(catalogue, "ORDER_PLACED").version == "v10"
    assert _resolve(catalogue, ORDERS.name).version == "v1"


def test_a_type_on_two_topics_must_be_placed():
    """One event type on unrelated topics is ambiguous until the topic is named."""
    other = TopicSpec(name="web.orders.placed.v1", owner="web", models={"ORDER_PLACED": None})
    catalogue = default_catalogue().with_topics(ORDERS, other)
    with pytest.raises(UnknownTopicError, match="several topics"):
        _resolve(catalogue, "ORDER_PLACED")
    assert _resolve(catalogue, "ORDER_PLACED", topic=other.name).spec is not ORDERS


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"name": "dev.shop.orders.placed.v1"}, InvalidTopicError),
        ({"name": "shop.orders.placed.v1.1"}, InvalidTopicError),
        ({"name": "shop.orders.placed"}, InvalidTopicError),
        ({"name": "{service}.orders_x.placed.v1"}, InvalidTopicError),
        ({"name": "shop.orders." + "p" * 170 + ".v1"}, InvalidTopicError),
        ({"partitions": 0}, ConfigurationError),
        ({"replication": 1}, ConfigurationError),
        ({"retention": timedelta(0)}, ConfigurationError),
        ({"models": {"OrderPlaced": None}}, InvalidEventError),
        ({"models": {"ORDER_PLACED": EventContract("OTHER")}}, ConfigurationError),
    ],
)
def test_a_wrong_spec_is_refused(change, error):
    """Names and numbers are checked when the topic is declared, not when it is used."""
    with pytest.raises(error):
        TopicSpec(**{"name": "shop.orders.placed.v1", "owner": "shop", **change})


def test_routes_are_remembered_within_bounds():
    """A repeat gives the same route; hostile variety cannot grow the memory."""
    catalogue = default_catalogue()
    assert _resolve(catalogue, "PRE_TOOL_USE") is _resolve(catalogue, "PRE_TOOL_USE")
    for number in range(10_050):
        _resolve(catalogue, "agent.routing.failed.v1", payload_type=f"X_{number}")
    assert len(catalogue._routes) <= 10_000


def test_a_template_of_several_services_keeps_each_on_its_topic():
    """Two templates of one name, each for its own service: none publishes on the other's topic."""
    one, other = (
        TopicSpec(
            name="{service}.plan.made.v1",
            owner="plan",
            models={"PLAN_MADE": None},
            services=(service,),
        )
        for service in ("one", "other")
    )
    catalogue = default_catalogue().with_topics(one, other)
    for service in ("one", "other"):
        route = catalogue.resolve("PLAN_MADE", environment="dev", service=service)
        assert route.topic == f"dev.{service}.plan.made.v1"
    with pytest.raises(UnknownTopicError, match=r"one\.plan\.made\.v1, other\.plan\.made\.v1"):
        catalogue.resolve("PLAN_MADE", environment="dev", service="third")


def test_a_contract_without_a_key_gets_that_of_its_topic():
    """Records of one topic are keyed alike, however their models were given."""
    own = EventContract("B", key=["b"])
    spec = TopicSpec(
        name="shop.orders.placed.v1",
        owner="shop",
        key="order_id",
        models={"A": EventContract("A"), "B": own},
    )
    assert spec.contracts["A"].prepare({"order_id": "o-1"}).key == "o-1"
    assert spec.contracts["B"].prepare({"order_id": "o-1", "b": 2}).key == "2"
