"""What the HTTP client does when the registry is away, slow, odd, or does not want us."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import socket
import time

import pytest
from pydantic import SecretStr

from spile.adapters.delivery import Backoff
from spile.adapters.registry import (
    MAX_ANSWER_BYTES,
    Basic,
    Bearer,
    CompatibilityLevel,
    HttpSchemaRegistry,
)
from spile.spi import (
    ClosedError,
    ConfigurationError,
    RegistryUnavailableError,
    RetriableError,
    SchemaError,
    UnauthorisedError,
)

QUICK = Backoff(initial_s=0.01, max_s=0.02)
PASSWORD = "k33p-0ut"


@pytest.fixture
async def known(schema_registry, unique, order) -> int:
    """Id of a schema that is in the registry."""
    async with HttpSchemaRegistry(schema_registry.url) as registry:
        return await registry.register_schema(unique("s"), order(total="integer"))


async def test_the_second_reading_makes_no_request(gate, gated, known):
    """An id names one schema for ever, so it is asked for once."""
    first = await gated.get_schema(known)
    assert await gated.get_schema(known) is first
    assert await gated.validate_message(b'{"total": 1}', known)
    assert await gated.validate_message(b'{"total": 2}', known)
    assert len(gate.heads) == 1


async def test_the_memory_is_bounded(gate, known, schema_registry, unique, order):
    """With room for one schema, the one that was not used is asked for again."""
    async with HttpSchemaRegistry(schema_registry.url) as other:
        second = await other.register_schema(unique("s"), order(name="string"))
    async with HttpSchemaRegistry(gate.url, cache_size=1) as registry:
        for schema_id in (known, second, second, known):
            await registry.get_schema(schema_id)
    assert len(gate.heads) == 3


async def test_an_unknown_id_is_remembered_for_a_moment(gate, gated):
    """A flood of one unknown id is one request, until somebody insists."""
    for _ in range(3):
        with pytest.raises(SchemaError):
            await gated.get_schema(1_999_999_999)
    assert len(gate.heads) == 1
    gated.forget_unknown(1_999_999_999)
    with pytest.raises(SchemaError):
        await gated.get_schema(1_999_999_999)
    assert len(gate.heads) == 2


@pytest.mark.parametrize("status", ["500 Oops", "502 Bad Gateway", "503 Busy", "429 Slow Down"])
async def test_a_failure_that_passes_is_not_seen(gate, gated, known, raw, status):
    """An attempt that fails is made again."""
    gate.answers += [raw(status), raw(status)]
    assert await gated.get_schema(known)
    assert len(gate.heads) == 3


async def test_a_failure_that_stays_is_retriable(gate, gated, known, raw):
    """When all attempts fail the error is retriable, and says what the registry said."""
    body = json.dumps({"error_code": 50001, "message": "store\nis down"}).encode()
    gate.answers += [raw("500 Oops", body)] * 3
    with pytest.raises(RegistryUnavailableError, match=r"500 store is down; tried 3 times"):
        await gated.get_schema(known)
    assert await gated.get_schema(known)


async def test_it_waits_as_long_as_it_is_asked_to(gate, gated, known, raw):
    """Retry-After is kept, although the next attempt was due sooner."""
    gate.answers.append(raw("429 Slow Down", Retry_After="1"))
    begin = time.monotonic()
    assert await gated.get_schema(known)
    assert time.monotonic() - begin >= 1.0


async def test_a_registry_that_hangs_is_given_up(gate, hasty, known):
    """Nothing waits for ever: three attempts of 0.2 s, then a retriable error."""
    gate.stall()
    begin = time.monotonic()
    with pytest.raises(RegistryUnavailableError, match=r"within 0\.2 s; tried 3 times"):
        await hasty.get_schema(known)
    assert time.monotonic() - begin < 3.0
    assert len(gate.heads) == 3


async def test_an_answer_that_drips_is_given_up(gate, known):
    """The limit is on the whole answer, not on the time between two bytes."""
    gate.drips = True
    async with HttpSchemaRegistry(gate.url, timeout_s=0.3, retries=0) as registry:
        with pytest.raises(RegistryUnavailableError, match=r"within 0\.3 s"):
            await registry.get_schema(known)


async def test_an_answer_that_is_cut_short_is_tried_again(gate, gated, known, raw):
    """A connection that is lost in the middle of an answer is no answer."""
    gate.answers.append(raw("200 OK", b'{"schema"', Content_Length="99"))
    assert await gated.get_schema(known)
    assert len(gate.heads) == 2


async def test_cancelling_ends_a_call_at_once(gate, gated, known):
    """A call that hangs can be cancelled, and is not tried again."""
    gate.stall()
    call = asyncio.ensure_future(gated.get_schema(known))
    await gate.came()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert len(gate.heads) == 1


async def test_closing_ends_the_attempts(gate, known, raw):
    """A client that was closed between two attempts says so, and makes no further one."""
    slow = Backoff(initial_s=0.05, jitter=0.0)
    async with HttpSchemaRegistry(gate.url, backoff=slow) as registry:
        gate.answers.append(raw("503 Busy"))
        call = asyncio.ensure_future(registry.get_schema(known))
        await gate.came()
    with pytest.raises((ClosedError, RegistryUnavailableError)):
        await call
    assert len(gate.heads) == 1


async def test_a_closed_port_is_retriable(gate, gated, known):
    """A registry that is down is trouble of the infrastructure, whatever is asked of it."""
    await gated.get_schema(known)
    await gate.refuse()
    for call in (
        gated.get_schema(known + 1),
        gated.register_schema("s", {"type": "object"}),
        gated.subjects(),
        gated.set_compatibility_level(CompatibilityLevel.FULL, "s"),
    ):
        with pytest.raises(RegistryUnavailableError, match="cannot be reached"):
            await call
    assert await gated.get_schema(known)  # from memory


async def test_a_name_that_does_not_resolve_is_retriable():
    """DNS trouble is trouble of the infrastructure too."""
    async with HttpSchemaRegistry("http://registry.invalid", retries=0) as registry:
        with pytest.raises(RetriableError):
            await registry.subjects()


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
async def test_redirects_are_refused(gate, gated, known, raw, status):
    """The address is fixed: nobody is sent elsewhere, and the refusal is not tried again."""
    gate.answers.append(raw(status, Location=f"{gate.url}/subjects"))
    with pytest.raises(RegistryUnavailableError, match=f"answered {status[:3]}"):
        await gated.get_schema(known)
    assert len(gate.heads) == 1


async def test_an_oversized_answer_is_refused(gate, gated, known, raw):
    """More than 1 MiB is not read, whatever it claims to be."""
    gate.answers.append(raw("200 OK", b" " * (MAX_ANSWER_BYTES + 1)))
    with pytest.raises(RegistryUnavailableError, match="more than 1048576 bytes"):
        await gated.get_schema(known)


async def test_an_oversized_schema_is_poison(gate, gated, raw):
    """It stays so large: a record that names it must not hold up those behind it for ever."""
    gate.answers.append(raw("200 OK", b'{"schema":"' + b"x" * MAX_ANSWER_BYTES + b'"}'))
    with pytest.raises(SchemaError, match="more than 1048576 bytes"):
        await gated.get_schema(7)


async def test_a_compressed_answer_is_refused(gate, gated, known, raw):
    """What was not asked for is not unpacked: it could be a bomb."""
    gate.answers.append(raw("200 OK", b"\x1f\x8b", Content_Encoding="gzip"))
    with pytest.raises(RegistryUnavailableError, match="compressed"):
        await gated.get_schema(known)


@pytest.mark.parametrize(
    "body", [b"<html>", b"", b"[]", b"{}", b'{"schema": 3}', b"null", b"[" * 100_000]
)
async def test_an_answer_that_is_none_is_no_word_on_the_schema(gate, gated, known, raw, body):
    """A login page, an empty answer or the wrong JSON never counts as "no such schema"."""
    gate.answers.append(raw("200 OK", body))
    with pytest.raises(RegistryUnavailableError, match="is the address right"):
        await gated.get_schema(known)


async def test_a_wrong_path_is_no_unknown_id(schema_registry):
    """A 404 that does not come from a registry is trouble with the address, not with the id."""
    async with HttpSchemaRegistry(f"http://127.0.0.1:{schema_registry.port}/other") as registry:
        with pytest.raises(RegistryUnavailableError, match=r"answered 404.*is the address right"):
            await registry.get_schema(1)


async def test_a_draft_that_the_registry_cannot_compare_is_the_schemas_fault(gate, gated, unique):
    """Apicurio answers 500 for what no waiting changes: that is not tried again."""
    subject = unique("s")
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object"}
    await gated.register_schema(subject, schema)
    await gated.set_compatibility_level(CompatibilityLevel.BACKWARD, subject)
    before = len(gate.heads)
    with pytest.raises(SchemaError, match="cannot compare this schema") as caught:
        await gated.register_schema(subject, schema | {"title": "other"})
    assert not caught.value.retriable
    assert len(gate.heads) == before + 1


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"properties": {"a": {"$ref": "#"}}}, None),
        ({"description": "x" * 70_000}, "limit 65536"),
    ],
)
async def test_what_others_registered_is_held_to_the_same_limits(
    gated, schema_registry, unique, schema, reason
):
    """A recursive or oversized schema of another producer does no harm here."""
    text = json.dumps({"$schema": "http://json-schema.org/draft-07/schema#", **schema})
    link = http.client.HTTPConnection("127.0.0.1", schema_registry.port, timeout=10)
    path = schema_registry.url.partition(str(schema_registry.port))[2]
    body = json.dumps({"schema": text, "schemaType": "JSON"})
    media = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
    link.request("POST", f"{path}/subjects/{unique('s')}/versions", body, media)
    schema_id = json.loads(link.getresponse().read())["id"]
    link.close()
    with pytest.raises(SchemaError, match=reason or "recursive"):
        await gated.validate_message(b"{}", schema_id)


async def test_right_credentials_are_let_in(guarded, unique, order):
    """With its user name and password the client works as without."""
    auth = Basic(username="writer", password=SecretStr(PASSWORD))
    async with HttpSchemaRegistry(guarded.url, auth=auth) as registry:
        assert await registry.register_schema(unique("s"), order(total="integer"))


@pytest.mark.parametrize("password", [None, "wrong-" + PASSWORD])
async def test_wrong_credentials_are_named_and_not_shown(guarded, caplog, password):
    """A refusal says so at once, and no error, repr or log shows the password."""
    caplog.set_level(logging.DEBUG)
    auth = password and Basic(username="writer", password=SecretStr(password))
    async with HttpSchemaRegistry(guarded.url, auth=auth) as registry:
        with pytest.raises(UnauthorisedError, match=r"with.* credentials .*\(401\)") as caught:
            await registry.subjects()
    shown = f"{caught.value!r} {registry!r} {auth!r} {caplog.text} {vars(registry)}"
    assert "wrong-" not in shown
    assert "Authorization" not in shown


async def test_a_rotated_password_is_picked_up(guarded, tmp_path):
    """The file with the password is read at each request."""
    secret = tmp_path / "password"
    secret.write_text("old", encoding="utf-8")
    auth = Basic(username="writer", password=secret)
    async with HttpSchemaRegistry(guarded.url, auth=auth) as registry:
        with pytest.raises(UnauthorisedError):
            await registry.subjects()
        secret.write_text(f"{PASSWORD}\n", encoding="utf-8")
        await registry.subjects()
        secret.unlink()
        with pytest.raises(ConfigurationError, match="SPILE_REGISTRY_PASSWORD_FILE"):
            await registry.subjects()


async def test_a_token_is_sent_as_bearer(gate):
    """A token goes into the Authorization header as it is."""
    auth = Bearer(token=SecretStr("t0ken"))
    async with HttpSchemaRegistry(gate.url, auth=auth) as registry:
        await registry.subjects()
    assert "Authorization: Bearer t0ken\r\n" in gate.heads[0]


async def test_a_token_cannot_smuggle_a_header(gate, tmp_path):
    """A file that is no token is refused before anything is sent."""
    secret = tmp_path / "token"
    secret.write_text("a\r\nX-Other: b", encoding="utf-8")
    async with HttpSchemaRegistry(gate.url, auth=Bearer(token=secret)) as registry:
        with pytest.raises(ConfigurationError, match="no token"):
            await registry.subjects()
    assert gate.heads == []


async def test_the_environment_sends_nothing_through_a_proxy(schema_registry, monkeypatch):
    """Proxies of the environment are not used: the address is the only one asked."""
    with socket.create_server(("127.0.0.1", 0)) as trap:
        port = trap.getsockname()[1]
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{port}")
        async with HttpSchemaRegistry(schema_registry.url, retries=0) as registry:
            await registry.subjects()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "registry:8081",
        "ftp://registry",
        "http://",
        "http://writer:s3cret@registry",
        "http://registry?token=s3cret",
        "http://[registry",
        "http://registry:99999",
    ],
)
def test_a_wrong_address_is_refused_without_repeating_it(url):
    """An address may hold a secret by mistake, so the error does not show it."""
    with pytest.raises(ConfigurationError, match="SPILE_REGISTRY_URL") as caught:
        HttpSchemaRegistry(url)
    assert "s3cret" not in str(caught.value)


async def test_a_frozen_registry_is_given_up_and_used_again(guarded):
    """A real server that is stopped in its tracks is retriable; afterwards the client goes on."""
    auth = Basic(username="writer", password=SecretStr(PASSWORD))
    async with HttpSchemaRegistry(guarded.url, auth=auth, timeout_s=1, retries=0) as registry:
        guarded.pause()
        try:
            with pytest.raises(RegistryUnavailableError, match="did not answer within"):
                await registry.subjects()
        finally:
            guarded.resume()
    async with HttpSchemaRegistry(guarded.url, auth=auth, timeout_s=20) as registry:
        await registry.subjects()


async def test_a_killed_registry_is_retriable_until_it_is_back(guarded, unique, order):
    """A client outlives the server: what it knows stays, the rest waits for the restart."""
    auth = Basic(username="writer", password=SecretStr(PASSWORD))
    async with HttpSchemaRegistry(guarded.url, auth=auth, backoff=QUICK) as registry:
        known = await registry.register_schema(unique("s"), order(total="integer"))
        await registry.get_schema(known)
        guarded.kill()
        with pytest.raises(RegistryUnavailableError, match="cannot be reached"):
            await registry.subjects()
        assert await registry.validate_message(b'{"total": 1}', known)
        await asyncio.to_thread(guarded.start)
        assert await registry.subjects() == []
