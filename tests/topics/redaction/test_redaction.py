"""What the redactor finds, and what it leaves alone."""

import base64
import json
from typing import Annotated

import pytest
from pydantic import BaseModel

from spile.spi import ConfigurationError, RedactionError
from spile.topics import EventContract
from spile.topics.redaction import RedactionRules, Redactor, Sensitive, sensitive_paths

KEY = b"0123456789abcdef"


def b64(text):
    """Encode a text as Base64."""
    return base64.b64encode(text.encode()).decode()


AWS = "AKIAIOSFODNN7EXAMPLE"
TOKENS = {
    "aws": AWS,
    "github": "ghp_" + "a1B2c3D4e5" * 3,
    "github fine": "github_pat_" + "a1B2c3D4e5_" * 3,
    "gitlab": "glpat-" + "a1B2c3D4e5" * 2,
    "slack": "xoxb-123456789012-abcdefABCDEF",
    "openai": "sk-proj-" + "a1B2c3D4e5" * 3,
    "anthropic": "sk-ant-api03-" + "a1B2c3D4e5" * 3,
    "stripe": "sk_live_" + "a1B2c3D4e5" * 2,
    "google": "AIza" + "a1B2c3D4e5" * 3 + "abcde",
    "npm": "npm_" + "a1B2c3D4e5" * 3 + "abcdef",
    "hugging face": "hf_" + "abCDe" * 6,
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "pem": "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----",
    "card": "4111111111111111",
    "card in groups": "5500 0055 5555 5559",
    "card amex": "3782-822463-10005",
    "e-mail": "carol.smith+x@mail.example.org",
}


@pytest.mark.parametrize("kind", TOKENS)
@pytest.mark.parametrize("frame", ["{}", "see {} there", 'x="{}"', "\n{}\n", "é {} é"])
def test_a_secret_known_by_its_form_is_cut_out_of_its_text(kind, frame):
    """What stands around the secret stays."""
    secret = TOKENS[kind]
    value = {"note": frame.format(secret)}

    found = Redactor().redact_json(json.dumps(value, ensure_ascii=False).encode())

    assert found is not None
    assert found.value == {"note": frame.format("REDACTED")}
    assert found.fields == ("note",)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("export DB_PASSWORD=hunter2 && run", "export DB_PASSWORD=REDACTED && run"),
        ('api_key: "abc def"', 'api_key: "REDACTED"'),
        ("?token=abc123&x=1", "?token=REDACTED&x=1"),
        ('{"password": "hunter2", "a": 1}', '{"password": "REDACTED", "a": 1}'),
        ('{\\"secret\\": \\"hunter2\\"}', '{\\"secret\\": \\"REDACTED\\"}'),
        ("curl -H 'X-Api-Key: abc123def'", "curl -H 'X-Api-Key: REDACTED'"),
        ("Authorization: Bearer abc.def-123", "Authorization: REDACTED"),
        ("got bearer abcdef123456 back", "got bearer REDACTED back"),
        (f"Basic {b64('user:pass')}", "Basic REDACTED"),
        ("Set-Cookie: sid=1234abcd; Path=/", "Set-Cookie: REDACTED"),
        ("psql --password hunter2 -h db", "psql --password REDACTED -h db"),
        ("postgres://app:s3cret@db:5432/x", "postgres://app:REDACTED@db:5432/x"),
        ("https://0123456789abcdef@github.com/x", "https://REDACTED/x"),
        ("curl -u bob:hunter2 https://x", "curl -u bob:REDACTED https://x"),
        ("curl -sSu 'bob:two words' x", "curl -sSu 'bob:REDACTED' x"),
        ("curl -X POST \\\n -ubob:hunter2", "curl -X POST \\\n -ubob:REDACTED"),
        ('curl "a?b&c" --user="bob:hunter2"', 'curl "a?b&c" --user="bob:REDACTED"'),
        ("curl --proxy-user bob:hunter2 x", "curl --proxy-user bob:REDACTED x"),
        ("<password>correct</password>", "<password>REDACTED</password>"),
        ('<a:apiKey b="c">d e</a:apiKey >', '<a:apiKey b="c">REDACTED</a:apiKey >'),
        ("<db.pwd><![CDATA[<x>&]]></db.pwd>", "<db.pwd><![CDATA[REDACTED]]></db.pwd>"),
        ("<token>abc<\\/token>", "<token>REDACTED<\\/token>"),
        ("[('password', 'hunter2'), 1]", "[('password', 'REDACTED'), 1]"),
        ("['db_password', b'hunter2']", "['db_password', b'REDACTED']"),
        ('got [\\"api_key\\",\\"x1\\"]', 'got [\\"api_key\\",\\"REDACTED\\"]'),
        (f"a=ghp%5F{'a1B2c3D4e5' * 3}&b", "a=REDACTED&b"),
        (f"github%5fpat%5F{'a1B2c3D4e5%5F' * 3}&b", "REDACTED&b"),
        ("x AKIAIOSF\u200bODNN7EXAMPLE y", "x REDACTED y"),
        ("AK\ufeffIA\u00adIOSFODNN7EXAMPLE.", "REDACTED."),
        ("pass\u200dword=hunter2", "pass\u200dword=REDACTED"),
    ],
)
def test_a_secret_that_is_announced_is_cut_out_of_its_text(text, clean):
    """The name stays, the value goes."""
    assert Redactor().scrub(text) == clean


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "dbPassword",
        "X-Api-Key",
        "api.key",
        "APIKEY",
        "accessToken",
        "client_secret",
        "Set-Cookie",
        "credentials",
        "Authorization",
        "private-key",
        "AWS_SECRET_ACCESS_KEY",
        "authtoken",
        "passwd",
        "card_number",
        "cvv",
        "pass\u200bword",
    ],
)
@pytest.mark.parametrize("value", ["plain", 12345, ["a", {"b": "c"}], {"deep": {"x": "y"}}])
def test_all_under_a_sensitive_name_goes(name, value):
    """Whatever it is: text, number, list, object; kinds stay kinds."""
    found = Redactor().redact_json(json.dumps({"a": [{name: value}]}).encode())

    assert found is not None
    expected = {
        str: "REDACTED",
        int: "REDACTED",
        list: ["REDACTED"],
        dict: {"REDACTED": "REDACTED"},
    }
    assert found.value == {"a": [{name: expected[type(value)]}]}
    assert found.fields == (f"a.0.{name}",)


def test_a_name_split_over_levels_is_found():
    """`key` in `api` is an API key, whatever stands between."""
    value = {"api": {"url": "x", "list": [1], "key": "abc"}, "monkey": {"key": "stays"}}

    found = Redactor().redact_json(json.dumps(value, separators=(",", ":")).encode())

    assert found is not None
    assert found.value["api"] == {"url": "x", "list": [1], "key": "REDACTED"}
    assert found.value["monkey"] == {"key": "stays"}


@pytest.mark.parametrize(
    ("value", "clean"),
    [
        (["psql", "--password", "abc"], ["psql", "--password", "REDACTED"]),
        ({"name": "API_KEY", "value": "abc"}, {"name": "API_KEY", "value": "REDACTED"}),
        ([["Authorization", "abc1"]], [["Authorization", "REDACTED"]]),
        (["-H", "Authorization: Bearer", "abc123"], ["-H", "Authorization: Bearer", "REDACTED"]),
        ({"user": "u", "pass": "hunter2"}, {"user": "u", "pass": "REDACTED"}),
        ({"a": "password=", "b": "abc"}, {"a": "password=", "b": "REDACTED"}),
    ],
)
def test_a_name_beside_its_value_announces_it(value, clean):
    """Options, variables and headers as pairs are known."""
    assert Redactor().redact(value).value == clean


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize(
    "secret", [AWS, "password=hunter2-x", "carol@example.com", "?token=ab>~?1"]
)
def test_base64_is_decoded_and_looked_at(times, encode, secret):
    """Once, and twice, in both alphabets, with and without padding."""
    text = secret
    for _ in range(times):
        text = encode(text.encode()).decode()

    for given in (text, text.rstrip("=")):
        found = Redactor().redact_json(json.dumps({"blob": f"x: {given}"}).encode())
        assert found is not None
        assert given not in found.value["blob"]


SPLIT = {
    "list": ["AKIAIOSF", "ODNN7EXAMPLE"],
    "siblings": {"first": "AKIAIOSF", "second": "ODNN7EXAMPLE"},
    "nested": {"a": {"x": "AKIAIOSF"}, "b": [{"y": "ODNN7EXAMPLE"}]},
    "three": ["sk-ant-", "a1B2c3D4e5" * 2, "a1B2c3D4e5"],
    "card": ["4111", "1111", "1111", "1111"],
    "card siblings": {"a": "41111111", "b": "11111111"},
    "base64": [b64("password=hunter2-abcdef")[:20], b64("password=hunter2-abcdef")[20:]],
    "base64 late": [b64("password=hunter2-abcdef")[:9], b64("password=hunter2-abcdef")[9:]],
    "pem": ["-----BEGIN PRIVATE KEY-----", "MIIEabc", "-----END PRIVATE KEY-----"],
}


@pytest.mark.parametrize("kind", SPLIT)
def test_a_secret_in_pieces_is_found(kind):
    """Neighbouring texts are joined; no piece is left."""
    data = json.dumps({"v": SPLIT[kind]}, separators=(",", ":")).encode()

    found = Redactor().redact_json(data)

    left = json.dumps(found.value)
    pieces = json.loads(data)["v"]
    texts = [t for t in str(pieces).replace("'", '"').split('"')[1::2] if len(t) > 3]
    assert not [t for t in texts if t in left and t not in {"first", "second"}]


def test_names_of_objects_are_looked_at():
    """A secret may be a name; names stay different from one another."""
    value = {AWS: 1, "ghp_" + "a1B2" * 6: 2, "plain": 3}

    found = Redactor().redact(value)

    assert found.value == {"REDACTED": 1, "REDACTED 2": 2, "plain": 3}


def test_a_replaced_name_never_takes_the_place_of_another():
    """What stands under a name of the object's own stays, before and after the replaced one."""
    one, other = "ghp_" + "a1B2c3D4e5" * 3, "ghp_" + "b1B2c3D4e5" * 3
    value = {one: 1, "REDACTED": 3, other: {"x": 4}, "REDACTED 2": 5}

    found = Redactor().redact(value)

    assert list(found.value.values()) == [1, 3, {"x": 4}, 5]
    assert found.value["REDACTED"] == 3
    assert found.value["REDACTED 2"] == 5
    assert found.fields == ("REDACTED 3", "REDACTED 4")


def test_configured_paths_go_from_envelope_or_payload():
    """`*` is any one name, lists are transparent, and all below goes."""
    redactor = Redactor(RedactionRules(paths=("payload.parameters.env.*", "people.name")))
    value = {
        "payload": {"parameters": {"env": {"A": "x", "B": {"c": 1}}, "other": "y"}},
        "people": [{"name": "Ann", "age": 3}],
    }

    event = redactor.redact_json(json.dumps(value).encode())
    free = redactor.redact_json(json.dumps(value["payload"]).encode())

    assert event.value["payload"]["parameters"] == {
        "env": {"A": "REDACTED", "B": {"REDACTED": "REDACTED"}},
        "other": "y",
    }
    assert event.value["people"] == [{"name": "REDACTED", "age": 3}]
    assert free.value["parameters"]["env"]["A"] == "REDACTED"


def test_configured_names_count_too():
    """Names of one's own join the built-in ones."""
    redactor = Redactor(RedactionRules(fields=("iban", "patient id")))

    found = redactor.redact_json(b'{"IBAN":"DE12","patientId":"7","patient":{"a":1,"id":8},"x":1}')

    assert found.value == {
        "IBAN": "REDACTED",
        "patientId": "REDACTED",
        "patient": {"a": 1, "id": "REDACTED"},
        "x": 1,
    }


class Person(BaseModel):
    """A model with marked fields."""

    name: Annotated[str, Sensitive()]
    nick: str


class Report(BaseModel):
    """A model that holds such models."""

    author: Person
    others: list[Person] | None = None
    named: dict[str, Person] = {}
    notes: list[Annotated[str, Sensitive()]] = []
    free: str = ""


def test_marked_fields_go_wherever_the_model_stands():
    """The mark is found in nested models, lists and mappings."""
    marks = sensitive_paths(Report)
    assert set(marks) == {"author.name", "others.name", "named.*.name", "notes"}
    value = {
        "author": {"name": "Ann", "nick": "a"},
        "others": [{"name": "Ben", "nick": "b"}],
        "named": {"c": {"name": "Cat", "nick": "c"}},
        "notes": ["x"],
        "free": "y",
    }

    found = Redactor().redact_json(json.dumps(value).encode(), marks=marks)

    assert found.value == {
        "author": {"name": "REDACTED", "nick": "a"},
        "others": [{"name": "REDACTED", "nick": "b"}],
        "named": {"c": {"name": "REDACTED", "nick": "c"}},
        "notes": ["REDACTED"],
        "free": "y",
    }


HARMLESS = [
    {"max_tokens": 4096, "usage": {"input_tokens": 3, "tokens": [1, 2]}, "tokenizer": "bpe"},
    {"token_count": 7, "has_password": True, "password": None, "secret": ""},
    {"id": "0190c8a0-4111-7000-8111-000000000001", "trace_id": "0af7651916cd43dd8448eb211c80319c"},
    {"ms": 1767323045000, "us": 1767323045000000, "ns": 1767323045000000000},
    {"sha": "9fceb02d0ae598e95dc970b74767f19372d61af8", "f": 0.4111111111111111},
    {"path": "/home/user/projects/WorkflowExecutionCompleted/someLongCamelCaseName/handler.py"},
    {"code": "password = get_password()\ntoken: str\nlogin(password=password)\nself.token = token"},
    {"code": "\n@pytest.fixture\ndef f(): ...\n@app.get('/x')"},
    {"code": "secret: Optional[str] = None\nAPI_KEY = os.environ['API_KEY']"},
    {"remote": "git@github.com:org/repo.git", "npm": "@types/node", "pin": "react@18.2.0"},
    {"prose": "Basic validation of tokens. The bearer of news; a cookie recipe."},
    {"url": "https://example.com:8080/a?b=c", "task": "task-1-2-3-build-and-publish-everything"},
    {"version": "5500005555555558", "luhn": "9111111111111111"},
    {"required": ["token", "password"], "names": ["auth", "a1"]},
    {"statuses": {"auth": "healthy", "pass": 3}},
    {"curl": "curl -u $USER:$PW -o a:b; docker run -u 1000:1000 x && id -u a:b"},
    {"curl 2": "curl --user-agent=a:b -X x\nrsync -u host:path\ncurl -u bob: -U http://x"},
    {"xml": "<password></password><token>{t}</token><secret>\n</secret> List<Token>x</a>"},
    {"html": "<label for='password'>Your 1 password</label><tokens>5</tokens>"},
    {"pairs": "['password', 'user'] f('token', 'a1') ('api_key', 'VARCHAR(20)') ('pwd', 'my_pwd')"},
    {"emoji": "\U0001f468\u200d\U0001f469\u200d\U0001f467 soft\u00adhyphen \ufeffcurl -I x:1"},
    {"level": "basic", "name": "Reader", "kind": "bearer", "next": "abc123"},
    {"author": "Ann", "pass": 12, "key": "value", "monkey": "x", "passage": "y"},
]


MEASURES = [
    {"password_length": 5, "passwordMinLength": 8, "cookie_max_age": 3600, "secrets_count": 2},
    {"cookies_enabled": True, "token_required": False, "cookies_enabled_total": 3},
    {"token_count": "about 12", "max_tokens": "auto", "tokens_used": "7"},
    {"token_ttl": 5.5, "tokens": {"input": 3, "output": 4}, "token_counts": [1, 2]},
    {"dbpassword_age_days": 4, "token_expires_in": 3600},
]


@pytest.mark.parametrize("value", MEASURES, ids=lambda v: next(iter(v)))
def test_measures_under_a_sensitive_name_stay(value):
    """A number that counts, limits or times is none, nor is the text of a count of tokens."""
    assert Redactor().redact(value).fields == ()


@pytest.mark.parametrize(
    "value",
    [
        {"token_id": "abc"},
        {"tokens": "abc"},
        {"password_length": "abc"},
        {"length_of_password": 12345},
        {"max_password": 12345},
        {"token_count_secret": 5},
        {"tokens": {"access": "abc"}},
        {"max_tokens": AWS},
        {"tokens": {"secret": 5}},
    ],
    ids=str,
)
def test_a_name_that_is_no_measure_still_hides(value):
    """Numbers only, and text only where tokens are counted; secrets by form wherever."""
    assert Redactor().redact(value).fields != ()


@pytest.mark.parametrize("value", HARMLESS, ids=lambda v: next(iter(v)))
def test_what_only_looks_like_a_secret_stays(value):
    """Ids, times, hashes, paths, code and measures are left alone."""
    assert Redactor().redact(value).fields == ()


def test_the_same_secret_has_the_same_replacement_under_a_key():
    """Events can be joined by it; another key gives another replacement."""
    one, other = Redactor(key=KEY), Redactor(key=b"another key of 16")

    first, second = one.scrub(AWS), one.scrub(f"x {AWS}")

    assert first.startswith("redacted:")
    assert len(first) == len("redacted:") + 16
    assert second == f"x {first}"
    assert other.scrub(AWS) != first
    assert one.scrub("ghp_" + "a1B2" * 6) != first


@pytest.mark.parametrize("key", [None, KEY])
def test_redacting_twice_changes_nothing(key):
    """What was replaced is known."""
    redactor = Redactor(key=key)
    value = {"password": "x", "text": f"token={AWS} and --secret abc1", "all": {"cookie": "c1"}}
    once = redactor.redact(value).value

    assert redactor.redact(once).fields == ()


def test_a_record_key_is_hashed_never_masked():
    """Masked keys would all share one partition; without a key to hash with it is refused."""
    hashed = Redactor(key=KEY)

    assert hashed.record_key("carol@example.com").startswith("redacted:")
    assert hashed.record_key("order-17") == "order-17"
    with pytest.raises(RedactionError, match="SPILE_REDACTION_KEY"):
        Redactor().record_key("carol@example.com")


def test_too_deep_and_too_slow_are_refused():
    """What cannot be inspected raises."""
    deep = "x"
    for _ in range(60):
        deep = [deep]

    with pytest.raises(RedactionError, match="too deep"):
        Redactor().redact(deep)
    with pytest.raises(RedactionError, match="took over"):
        Redactor(RedactionRules(limit_s=-1.0)).redact({"a": "b"})
    with pytest.raises(RedactionError, match="no JSON"):
        Redactor().redact_json(b'{"password')


def test_what_is_given_is_never_changed():
    """The caller's objects stay as they are."""
    value = {"a": ["AKIAIOSF", "ODNN7EXAMPLE"], "password": {"x": 1}}
    before = json.dumps(value)

    Redactor().redact(value)

    assert json.dumps(value) == before


def test_lone_surrogates_do_not_blind():
    """A text that is no UTF-8 is looked at all the same."""
    assert AWS not in Redactor().scrub(f"\udc80 {AWS}")


def test_wrong_settings_are_refused():
    """A short key or a broken path names the setting."""
    with pytest.raises(ConfigurationError, match="16"):
        Redactor(key=b"short")
    with pytest.raises(ConfigurationError, match="segment"):
        Redactor(RedactionRules(paths=("a..b",)))


HOSTILE = (
    "<password>",
    "password>",
    "('pwd','",
    "curl -u a:",
    "-u ",
    "\u200b",
    "sk-\u200b",
    "password=",
    "eyJ",
    "sk-",
    "bearer ",
    "cookie: ",
    "a@b.",
    "AKIA",
    "4111 ",
    "a://",
    "--",
)


@pytest.mark.parametrize("piece", HOSTILE)
def test_time_is_linear_in_the_text(piece):
    """A text of 300 KB made to keep the expressions busy takes well below the time limit."""
    text = piece * (300_000 // len(piece)) + " "

    Redactor(RedactionRules(limit_s=2.0)).redact({"text": text, "next": "x"})


def test_many_names_with_secrets_stay_apart():
    """Thousands of names that all become the same get numbers, in no time."""
    value = {f"AKIA{number:016d}": number for number in range(5000)}

    made = Redactor().redact(value).value

    assert list(made.values()) == [*range(5000)]


def test_a_mark_keeps_the_fast_path():
    """It says nothing of what a value may be, so validation costs no more with it."""
    assert EventContract("PERSON", Person).has_fast_path
