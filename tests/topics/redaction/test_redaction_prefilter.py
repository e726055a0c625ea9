"""The quick look is never less strict than the exact one, and clean events stay quick."""

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from spile.services.importing import read_events, recorded_session
from spile.testkit.scenarios import generate_sample_events
from spile.topics import EventContract, upper_snake
from spile.topics.redaction import RedactionRules, Redactor
from spile.topics.redaction._detectors import TextDetectors
from spile.topics.redaction._prefilter import Prefilter

RULES = RedactionRules(fields=("patient id", "größe"), paths=("deep.*.place", "a.b"))
REDACTOR = Redactor(RULES)

WORDS = (
    *[
        "api",
        "key",
        "Api",
        "KEY",
        "access",
        "private",
        "password",
        "passwd",
        "pwd",
        "secret",
        "token",
        "tokens",
        "TOKEN",
        "authorization",
        "cookie",
        "credential",
        "bearer",
        "Bearer",
        "basic",
        "Basic",
        "auth",
        "pass",
        "cvv",
        "card",
        "number",
        "name",
        "value",
        "header",
        "place",
        "deep",
        "a",
        "b",
        "patient",
        "id",
        "größe",
        "client",
        "x",
        "s",
        "count",
        "max",
        "input",
    ],
)
PIECES = (
    *WORDS,
    *[
        "AKIA",
        "AKIAIOSFODNN7EXAMPLE",
        "IOSFODNN7EXAMPLE",
        "ghp_",
        "sk-",
        "sk_live_",
        "eyJ",
        "eyJhbGciOiJIUzI1NiJ9",
        "xoxb-",
        "a1B2c3D4e5a1B2c3D4e5",
        "hf_",
        "npm_",
        "4111",
        "1111",
        "4111111111111111",
        "3782",
        "822463",
        "10005",
        ".com",
        "@",
        "@example.com",
        "bob@example.com",
        "://u:p@h",
        "://",
        "git@github.com",
        "cGFzc3dvcmQ9aHVudGVyMg==",
        "cGFzc3dvcmQ9",
        "aHVudGVyMg",
        "UVVLSUE=",
        "dXNlcjpwYXNz",
        "hunter2",
        "-----BEGIN",
        "-----END",
        "curl",
        "curl -u bob:",
        " -u ",
        " --user=",
        "gh%5Fp_",
        "ghp%5F",
        "a1:b2",
        "</password>",
        "('password', '",
    ],
    "-----BEGIN RSA PRIVATE KEY-----",
    "-----END RSA PRIVATE KEY-----",
)
GLUE = (
    "",
    " ",
    "_",
    "-",
    ".",
    ":",
    ": ",
    "=",
    '"',
    "'",
    "\n",
    "\t",
    "\\",
    "/",
    ",",
    "é",
    "--",
    "\x1f",
    "\u017f",
    "\u200b",
    "\u00ad",
    "<",
    ">",
    "</",
    "('",
    "', '",
    "')",
)
texts = st.lists(
    st.one_of(st.sampled_from(PIECES), st.sampled_from(GLUE), st.text(max_size=3)), max_size=6
).map("".join)
names = st.lists(st.one_of(st.sampled_from(WORDS), st.sampled_from(GLUE)), max_size=4).map("".join)
leaves = st.one_of(
    texts, st.integers(-(2**53), 2**53), st.booleans(), st.none(), st.just(4111111111111111)
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(names, texts), inner, max_size=4)
    ),
    max_leaves=8,
)


def encodable(value):
    """Encode, or give nothing where a text is no Unicode."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return None


@settings(max_examples=300, deadline=None)
@given(value=st.dictionaries(st.one_of(names, texts), values, max_size=3))
@example(value={"api": {"x": {}, "key": "v"}})
@example(value={"tokens": "abc"})
@example(value={"a": "n@x.com"})
@example(value={"a": ["tokens", "abc"]})
@example(value={"api\tkey": "v"})
@example(value={"deep": [{"é": {"place": 0}}]})
def test_what_the_walk_finds_the_quick_look_suspects(value):
    """No secret passes because the quick look said no."""
    data = encodable(value)
    if data is None:
        return
    found = REDACTOR.redact(msgspec.json.decode(data))

    if found.fields:
        assert REDACTOR.may_hold_secret(data), (found.fields, data)


class Everything:
    """A prefilter that suspects everything."""

    quick = names = tokens = cards = encoded = staticmethod(lambda _text: True)


@settings(max_examples=300, deadline=None)
@given(text=texts)
def test_quick_looks_of_each_kind_lose_nothing(text):
    """A detector that is not asked would have found nothing."""
    if encodable(text) is None:
        return
    known = REDACTOR._names
    asked = TextDetectors(known, Prefilter(known)).spans(text)

    assert asked == TextDetectors(known, Everything()).spans(text)


@settings(max_examples=100, deadline=None)
@given(value=values)
@example(value={"password count": [0, 4111111111111111]})
@example(value={"tokens": {"secret": 5, "a": 4111111111111111, "b": 1}})
@example(value=["hf_apiapicGFzc3dvcmQ9", 4111111111111111])
def test_redaction_is_stable(value):
    """Looking again at what was redacted finds nothing new."""
    if encodable(value) is None:
        return
    redactor = Redactor(key=b"0123456789abcdef")
    once = redactor.redact(value).value

    assert redactor.redact(once).value == once


@pytest.fixture(scope="module")
def events():
    """Encoded events as they are published."""
    contracts = {}
    made = []
    for event in generate_sample_events(2000, seed=11):
        kind = upper_snake(event.event_type)
        contract = contracts.setdefault(kind, EventContract(kind, type(event)))
        made.append(contract.prepare(event).payload_json)
    return made


def test_generated_events_hold_nothing_to_redact(events):
    """Realistic events, with ids, times, paths, code and logs, are left as they are."""
    redactor = Redactor()

    assert [found.fields for data in events if (found := redactor.redact_json(data))] == []


def test_the_quick_look_passes_most_events(events):
    """Four of five events are known to be clean without being decoded."""
    suspicious = sum(map(Redactor().may_hold_secret, events))

    assert suspicious < len(events) / 5


def test_recorded_session_holds_nothing_to_redact():
    """What a real agent did, with code, logs and prose, stays as it is."""
    redactor = Redactor()
    events = [
        record.event for record in read_events(recorded_session()) if hasattr(record, "event")
    ]
    assert events
    found = [redactor.redact_json(encode(event)) for event in events]

    assert [one.fields for one in found if one is not None] == []


def encode(event):
    """Encode an event as JSON."""
    if isinstance(event, BaseModel):
        return event.model_dump_json().encode()
    return msgspec.json.encode(event)
