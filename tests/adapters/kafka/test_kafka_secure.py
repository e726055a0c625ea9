"""Credentials and certificates against a broker that asks for them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import os
import socket
import subprocess
import time

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    CompactArray,
    CompactBytes,
    CompactString,
    Int8,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from spile.adapters.kafka import KafkaAdmin, KafkaSettings, KafkaSource
from spile.spi import (
    BrokerUnavailableError,
    ConfigurationError,
    RetriableError,
    UnauthorisedError,
)
from spile.testkit.broker import ClusterFolder, EmbeddedBroker

pytestmark = pytest.mark.kafka

PASSWORD = "c4nary-s3cret-pass"
ROUNDS = 4096
MECHANISMS = {"SCRAM-SHA-256": (1, "sha256"), "SCRAM-SHA-512": (2, "sha512")}


class _ScramResponse(Response):
    API_KEY = 51
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "results",
            CompactArray(
                ("user", CompactString("utf-8")),
                ("error_code", Int16),
                ("error_message", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _ScramStruct(RequestStruct):
    FLEXIBLE_VERSION = True
    API_KEY = 51
    API_VERSION = 0
    RESPONSE_TYPE = _ScramResponse
    SCHEMA = Schema(
        ("deletions", CompactArray(("name", CompactString("utf-8")), ("tags", TaggedFields))),
        (
            "upsertions",
            CompactArray(
                ("name", CompactString("utf-8")),
                ("mechanism", Int8),
                ("iterations", Int32),
                ("salt", CompactBytes),
                ("salted_password", CompactBytes),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _Scram(Request[_ScramStruct]):
    API_KEY = 51

    def __init__(self, users):
        self._users = users

    def build(self, request_struct_class):
        return request_struct_class([], self._users, {})


class Secure:
    """A broker with TLS, mutual TLS and all SASL mechanisms, and the files to reach it."""

    def __init__(self, folder):
        self.tls = folder / "tls"
        self.tls.mkdir()
        self._certificates()
        self.plain, self.controller, self.sasl, self.mtls, self.bare = _free_ports(5)
        data = folder / "data"
        data.mkdir()
        cluster = [_address(1, self.plain, self.controller)]
        ClusterFolder(path=data).remember_addresses(cluster)
        self.broker = EmbeddedBroker(data=data, overrides=self._overrides())

    def _certificates(self):
        def openssl(*arguments):
            subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=self.tls)

        new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        for authority in ("ca", "other-ca"):
            openssl(
                *("req", "-x509", *new, "-days", "2", "-subj", f"/CN={authority}"),
                *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
                *("-keyout", f"{authority}.key", "-out", f"{authority}.crt"),
            )
        # What Python 3.13 asks of certificates (RFC 5280, VERIFY_X509_STRICT).
        (self.tls / "names").write_text(
            "subjectAltName=IP:127.0.0.1\nbasicConstraints=critical,CA:FALSE\n"
            "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
        )
        for name, authority in (("broker", "ca"), ("app", "ca"), ("stranger", "other-ca")):
            openssl("req", *new, "-subj", f"/CN={name}", "-keyout", f"{name}.key",
                    "-out", f"{name}.csr")  # fmt: skip
            openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.crt",
                    "-CAkey", f"{authority}.key", "-CAcreateserial", "-days", "2",
                    "-extfile", "names", "-out", f"{name}.crt")  # fmt: skip
        openssl("pkcs8", "-topk8", "-nocrypt", "-in", "broker.key", "-out", "broker.p8")
        key, chain = (self.tls / "broker.p8").read_text(), (self.tls / "broker.crt").read_text()
        (self.tls / "broker.pem").write_text(key + chain)

    def _overrides(self):
        security = "org.apache.kafka.common.security"
        listeners = {
            "PLAINTEXT": self.plain,
            "SASL": self.sasl,
            "MTLS": self.mtls,
            "BARE": self.bare,
        }
        advertised = ",".join(f"{name}://127.0.0.1:{port}" for name, port in listeners.items())
        jaas = {
            "plain": f'plain.PlainLoginModule required user_app="{PASSWORD}"',
            "scram-sha-256": "scram.ScramLoginModule required",
            "scram-sha-512": "scram.ScramLoginModule required",
            "oauthbearer": (
                'oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker"'
            ),
        }
        return {
            "listeners": f"{advertised},CONTROLLER://127.0.0.1:{self.controller}",
            "advertised.listeners": advertised,
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.security.protocol.map": (
                "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,"
                "SASL:SASL_SSL,MTLS:SSL,BARE:SASL_PLAINTEXT"
            ),
            "listener.name.mtls.ssl.client.auth": "required",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.tls / "broker.pem"),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.tls / "ca.crt"),
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
            **{
                f"listener.name.{name}.{mechanism}.sasl.jaas.config": f"{security}.{module};"
                for name in ("sasl", "bare")
                for mechanism, module in jaas.items()
            },
        }

    async def add_users(self):
        users = []
        for number, digest in MECHANISMS.values():
            salt = os.urandom(16)
            salted = hashlib.pbkdf2_hmac(digest, PASSWORD.encode(), salt, ROUNDS)
            users.append(("app", number, ROUNDS, salt, salted, {}))
        admin = AIOKafkaAdminClient(bootstrap_servers=f"127.0.0.1:{self.plain}")
        await admin.start()
        for user in users:
            response = await admin._send_to_controller(_Scram([user]))
            assert [result[1] for result in response.results] == [0]
        await admin.close()

    def settings(self, **changes):
        """SCRAM-SHA-512 over TLS, unless changed."""
        given = {
            "environment": "prod",
            "bootstrap_servers": f"127.0.0.1:{self.sasl}",
            "security_protocol": "SASL_SSL",
            "sasl_username": "app",
            "sasl_password": PASSWORD,
            "ssl_cafile": str(self.tls / "ca.crt"),
            "start_timeout_ms": 3000,
            "request_timeout_ms": 3000,
            **changes,
        }
        return KafkaSettings(**{name: value for name, value in given.items() if value is not None})

    def mutual(self, certificate="app", **changes):
        """TLS with a client certificate."""
        own = {
            "ssl_certfile": certificate and str(self.tls / f"{certificate}.crt"),
            "ssl_keyfile": certificate and str(self.tls / f"{certificate}.key"),
        }
        return self.settings(
            bootstrap_servers=f"127.0.0.1:{self.mtls}",
            security_protocol="SSL",
            sasl_username=None,
            sasl_password=None,
            **{**own, **changes},
        )


def _address(node, port, controller_port):
    from spile.testkit.broker._properties import BrokerAddress  # noqa: PLC0415 - no public need

    return BrokerAddress(node=node, port=port, controller_port=controller_port)


def _free_ports(count):
    found, port = [], 20_000 + os.getpid() % 10_000
    while len(found) < count:
        port += 1
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
    return found


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    """One secure broker for this module."""
    made = Secure(tmp_path_factory.mktemp("secure"))
    with made.broker:
        asyncio.run(made.add_users())
        yield made


async def brokers(settings):
    async with KafkaAdmin(settings) as admin:
        return await admin.broker_count()


def token(**changes):
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    now = int(time.time())
    claims = {"sub": "app", "iat": now, "exp": now + 600, **changes}
    return f"{part({'alg': 'none'})}.{part(claims)}."


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_a_password_over_tls_is_let_in(secure, mechanism):
    assert await brokers(secure.settings(sasl_mechanism=mechanism)) == 1


async def test_a_password_without_tls_is_let_in_on_a_test_network(secure):
    settings = secure.settings(
        environment="test",
        bootstrap_servers=f"127.0.0.1:{secure.bare}",
        security_protocol="SASL_PLAINTEXT",
        ssl_cafile=None,
    )
    assert await brokers(settings) == 1


async def test_a_token_from_a_file_is_let_in_and_read_anew(secure, tmp_path):
    path = tmp_path / "token"
    path.write_text(token())
    settings = secure.settings(
        sasl_mechanism="OAUTHBEARER",
        sasl_oauth_token_file=path,
        sasl_username=None,
        sasl_password=None,
    )
    assert await brokers(settings) == 1
    path.write_text(token(exp=1))
    with pytest.raises((UnauthorisedError, RetriableError)):
        await brokers(settings)
    path.unlink()
    with pytest.raises(ConfigurationError, match="SPILE_SASL_OAUTH_TOKEN_FILE"):
        await brokers(settings)


async def test_a_client_certificate_is_let_in(secure):
    assert await brokers(secure.mutual()) == 1


async def test_a_source_reads_over_mutual_tls_and_over_scram(secure, kafka_bench):
    plain = KafkaSettings(environment="test", bootstrap_servers=f"127.0.0.1:{secure.plain}")
    bench = kafka_bench(plain)
    topic = await bench.topic()
    await bench.send(topic, b"1")
    for settings in (secure.mutual(), secure.settings()):
        source = KafkaSource(settings, [topic], bench.unique("g"))
        await source.open(bench.Listener())
        assert [record.value for record in await bench.read(source, 1)] == [b"1"]
        await source.close()
    await bench.close()


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_a_wrong_password_is_refused_at_once_and_shows_nowhere(secure, caplog, mechanism):
    caplog.set_level(logging.DEBUG)
    for name in ("aiokafka", "aiokafka.conn"):
        caplog.set_level(logging.DEBUG, logger=name)
    began = time.monotonic()
    wrong = secure.settings(sasl_mechanism=mechanism, sasl_password=f"wrong-{PASSWORD}")
    source = KafkaSource(wrong, ["dev.a.b.c.v1"], "g")
    with pytest.raises(UnauthorisedError) as caught:
        await source.open(_Deaf())
    assert time.monotonic() - began < 2.5
    encoded = base64.b64encode(PASSWORD.encode()).decode()
    for shown in (caplog.text, str(caught.value), repr(caught.value.__cause__)):
        assert PASSWORD not in shown
        assert encoded not in shown


async def test_a_right_password_shows_in_no_log(secure, caplog):
    caplog.set_level(logging.DEBUG)
    for name in ("aiokafka", "aiokafka.conn"):
        caplog.set_level(logging.DEBUG, logger=name)
    await brokers(secure.settings(sasl_mechanism="PLAIN"))
    assert caplog.records
    assert PASSWORD not in caplog.text


async def test_a_broker_that_another_authority_signed_is_refused(secure):
    settings = secure.settings(ssl_cafile=str(secure.tls / "other-ca.crt"))
    with pytest.raises(UnauthorisedError, match="certificate is not trusted"):
        await brokers(settings)


async def test_a_broker_under_another_name_is_refused(secure):
    with pytest.raises(UnauthorisedError, match=r"certificate is not trusted.*localhost"):
        await brokers(secure.settings(bootstrap_servers=f"localhost:{secure.sasl}"))


@pytest.mark.parametrize("certificate", [None, "stranger"])
async def test_without_a_trusted_client_certificate_nobody_is_let_in(secure, certificate):
    with pytest.raises((UnauthorisedError, BrokerUnavailableError)):
        await brokers(secure.mutual(certificate))


async def test_plain_text_to_a_tls_port_ends_in_time(secure):
    settings = KafkaSettings(
        environment="test",
        bootstrap_servers=f"127.0.0.1:{secure.sasl}",
        request_timeout_ms=500,
        start_timeout_ms=1000,
    )
    with pytest.raises(RetriableError):
        await brokers(settings)


def test_tls_starts_at_version_1_2_and_checks_names(secure):
    context = secure.settings().ssl_context()
    assert context.minimum_version.name == "TLSv1_2"
    assert context.check_hostname
    assert context.verify_mode.name == "CERT_REQUIRED"


class _Deaf:
    async def assigned(self, partitions):
        raise AssertionError

    async def revoked(self, partitions):
        raise AssertionError
