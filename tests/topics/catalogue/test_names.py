"""Topic names: parsed, built, refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spile.spi import InvalidTopicError
from spile.topics import ENVIRONMENTS, MAX_TOPIC_LENGTH, TopicName

_GROUPS = ("auth", "billing")
_reserved = (*ENVIRONMENTS, *_GROUPS)

segments = st.from_regex(r"[a-z0-9][a-z0-9-]{0,12}", fullmatch=True)
services = segments.filter(
    lambda text: not any(text == word or text.startswith(f"{word}-") for word in _reserved)
)
versions = st.builds(
    lambda major, minor: f"v{major}" if minor is None else f"v{major}.{minor}",
    st.integers(0, 99),
    st.none() | st.integers(0, 99),
)


@st.composite
def names(draw: st.DrawFn) -> TopicName:
    """Return any name: logical, canonical or isolated, of every kind."""
    name = TopicName(
        service=draw(services),
        domain=draw(segments),
        action=draw(segments),
        version=draw(versions),
    )
    environment = draw(st.none() | st.sampled_from(ENVIRONMENTS))
    group = draw(st.none() | st.sampled_from(_GROUPS))
    if draw(st.booleans()) and (environment or group):
        name = name.isolated(environment=environment, group=group)
    elif environment:
        name = name.in_environment(environment)
    kind = draw(st.sampled_from(["topic", "dlq", "dlq.done", "retry"]))
    if kind == "retry":
        return name.retry(draw(segments), draw(st.integers(0, 9)))
    return {"topic": name, "dlq": name.dlq, "dlq.done": name.dlq_done}[kind]


@given(names())
def test_what_is_written_is_read_back(name: TopicName):
    """Parsing the text of a name gives the name, in every form and of every kind."""
    assert TopicName.parse(str(name), groups=_GROUPS) == name


@given(st.text(max_size=300))
def test_any_text_is_parsed_or_refused(text: str):
    """A text either parses to a name with that very text, or is an InvalidTopicError."""
    try:
        name = TopicName.parse(text, groups=_GROUPS)
    except InvalidTopicError:
        return
    assert str(name) == text


@given(st.text(alphabet="abv019.-", max_size=40))
def test_near_names_are_parsed_or_refused(text: str):
    """The same for texts from the right alphabet."""
    try:
        name = TopicName.parse(text)
    except InvalidTopicError:
        return
    assert str(name) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        (".", "too few segments"),
        ("..", "too few segments"),
        ("../../etc/passwd", "holds '/'"),
        ("__consumer_offsets", "write '--consumer-offsets'"),
        ("my_svc.tool.recorded.v1", "write 'my-svc.tool.recorded.v1'"),
        ("Agent.tool.recorded.v1", "write 'agent.tool.recorded.v1'"),
        ("agent.tool.recorded.v1\n", r"holds '\\n'"),
        ("agent.tool.rec orded.v1", "holds ' '"),
        ("agent.t\u00f6ol.recorded.v1", "only a-z"),
        ("agent.tool.recorded.v\u0661", "only a-z"),
        ("a" * 250, "has 250 characters"),
        ("agent..recorded.v1", "empty domain"),
        ("agent.-tool.recorded.v1", "a segment matches"),
        ("agent.tool.recorded", "too few segments"),
        ("agent.tool.recorded.1", "where the version stands"),
        ("agent.tool.recorded.v01", "where the version stands"),
        ("qa.agent.tool.recorded.v1", "known environments are dev, test, staging, prod"),
        ("agent.tool.recorded.v1.dlqs", "only .dlq"),
        ("agent.tool.recorded.v1.2.3", "only .dlq"),
        ("dev.tool.recorded.v1", "too few segments"),
        ("dev.dev.tool.recorded.v1", "reads as environment"),
        ("dev.prod-agent.tool.recorded.v1", "reads as environment"),
    ],
)
def test_a_wrong_name_is_refused_with_the_reason(text: str, why: str):
    """Each kind of mistake is named, and the right spelling where there is one."""
    with pytest.raises(InvalidTopicError, match=why) as caught:
        TopicName.parse(text)
    assert caught.value.topic == text


def test_a_refusal_stays_on_one_short_line():
    """A hostile name cannot flood or split a log line."""
    with pytest.raises(InvalidTopicError) as caught:
        TopicName.parse("x\n" * 5000)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_parts_of_a_canonical_name():
    """Environment, service, domain, action and version stand in that order."""
    name = TopicName.parse("dev.archon-intelligence.intelligence.code-analysis-requested.v1")
    assert (name.environment, name.service) == ("dev", "archon-intelligence")
    assert (name.domain, name.action) == ("intelligence", "code-analysis-requested")
    assert name.logical == "archon-intelligence.intelligence.code-analysis-requested.v1"


def test_a_minor_version_addresses_the_major_topic():
    """`v1.2` is read and lives in the `v1` topic."""
    name = TopicName.parse("prod.agent.tool.recorded.v1.2")
    assert (name.version, name.major, name.address) == (
        "v1.2",
        1,
        "prod.agent.tool.recorded.v1",
    )


def test_an_unknown_environment_is_no_environment():
    """The first segment is an environment only if it is one of those configured."""
    name = TopicName.parse("qa.agent.tool.recorded.v1", environments=("qa",))
    assert name.environment == "qa"
    assert TopicName.parse("agent.routing.requested.v1").service == "agent"


def test_isolation_forms_are_built_and_read():
    """`{env}-{topic}`, `{group}-{topic}` and `{env}-{group}-{topic}`."""
    name = TopicName.parse("user.events.made.v1")
    assert str(name.isolated(environment="prod")) == "prod-user.events.made.v1"
    assert str(name.isolated(group="auth")) == "auth-user.events.made.v1"
    both = name.isolated(environment="prod", group="auth")
    assert str(both) == "prod-auth-user.events.made.v1"
    read = TopicName.parse(str(both), groups=_GROUPS)
    assert (read.environment, read.group, read.logical) == ("prod", "auth", "user.events.made.v1")


@pytest.mark.parametrize(
    ("text", "environments", "groups"),
    [
        ("auth-user-x.a.b.v1", ENVIRONMENTS, ("auth", "auth-user")),
        ("dev-x.a.b.v1", ("dev",), ("dev",)),
        ("dev-eu-x.a.b.v1", ("dev", "dev-eu"), ()),
        ("dev-eu-x.a.b.v1", ("dev",), ("dev-eu",)),
        ("auth-billing-x.a.b.v1", ENVIRONMENTS, _GROUPS),
    ],
)
def test_an_ambiguous_isolation_form_is_an_error(text, environments, groups):
    """A name that known environments and groups let read in two ways is refused."""
    with pytest.raises(InvalidTopicError, match="ambiguous"):
        TopicName.parse(text, environments=environments, groups=groups)


def test_suffixes_belong_to_the_plain_topic():
    """The DLQ of a retry topic is that of its topic; retries carry group and number."""
    name = TopicName.parse("dev.agent.tool.recorded.v1")
    retry = name.retry("persistence", 2)
    assert str(retry) == "dev.agent.tool.recorded.v1.persistence.retry.2"
    assert str(retry.dlq) == "dev.agent.tool.recorded.v1.dlq"
    assert str(name.dlq_done) == "dev.agent.tool.recorded.v1.dlq.done"
    assert retry.topic == name


def test_a_digit_group_is_no_minor_version():
    """`v1.5.retry.0` is the retry topic of a group named 5, `v1.5.g.retry.0` is version 1.5."""
    assert TopicName.parse("a.b.c.v1.5.retry.0").retry_group == "5"
    assert TopicName.parse("a.b.c.v1.5.g.retry.0").version == "v1.5"


def test_a_suffix_that_makes_the_name_too_long_is_refused():
    """A name of 249 characters is fine, its DLQ is not."""
    name = TopicName(service="s" * 241, domain="d", action="a", version="v1")
    assert len(str(name)) == MAX_TOPIC_LENGTH - 1
    with pytest.raises(InvalidTopicError, match="at most 249"):
        _ = name.dlq


@pytest.mark.parametrize(
    "change",
    [
        {"service": "Bad"},
        {"domain": ""},
        {"action": "a.b"},
        {"version": "1"},
        {"version": "v1\n"},
        {"group": "g"},
        {"kind": "retry"},
        {"retry_group": "g"},
        {"isolation": True},
        {"service": "prod"},
    ],
)
def test_a_name_cannot_be_built_wrong(change):
    """The class refuses what the parser refuses."""
    parts = {"service": "s", "domain": "d", "action": "a", "version": "v1", **change}
    with pytest.raises(InvalidTopicError):
        TopicName(**parts)
