"""What `KafkaSettings` takes and refuses."""

from __future__ import annotations

import os

import pytest

from spile.adapters.kafka import KafkaSettings, known_settings, register_settings
from spile.spi import ConfigurationError, ProtocolKafkaConfig

SECURE = {
    "SPILE_BOOTSTRAP_SERVERS": "kafka.example.com:9093",
    "SPILE_SASL_USERNAME": "app",
    "SPILE_SASL_PASSWORD": "hunter2-secret",
}


@pytest.fixture
def load(monkeypatch):
    """Load settings from exactly these variables."""
    for name in [name for name in os.environ if name.startswith("SPILE_")]:
        monkeypatch.delenv(name)

    def load(**variables):
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            return KafkaSettings.load()

    return load


def refused(load, **variables):
    with pytest.raises(ConfigurationError) as caught:
        load(**variables)
    return str(caught.value).splitlines()


def test_the_defaults_serve_a_broker_on_this_machine(load):
    settings = load()
    assert isinstance(settings, ProtocolKafkaConfig)
    assert settings.bootstrap_servers == "127.0.0.1:9092"
    assert settings.security_protocol == "PLAINTEXT"
    assert (settings.auto_offset_reset, settings.enable_auto_commit) == ("none", False)
    assert (settings.session_timeout_ms, settings.heartbeat_interval_ms) == (15_000, 3_000)
    assert settings.request_timeout_ms == 5_000


def test_outside_of_dev_and_test_the_default_is_sasl_over_tls(load):
    settings = load(SPILE_ENVIRONMENT="prod", **SECURE)
    assert settings.security_protocol == "SASL_SSL"
    assert settings.sasl_mechanism == "SCRAM-SHA-512"
    assert settings.sasl_password == "hunter2-secret"


@pytest.mark.parametrize("environment", ["staging", "prod", "eu-prod"])
@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SASL_PLAINTEXT"])
def test_plain_text_is_refused_outside_of_dev_and_test(load, environment, protocol):
    lines = refused(load, SPILE_ENVIRONMENT=environment, SPILE_SECURITY_PROTOCOL=protocol)
    assert any(line.startswith(f"SPILE_SECURITY_PROTOCOL: {protocol}") for line in lines)


@pytest.mark.parametrize("server", ["kafka.example.com:9092", "8.8.8.8:9092"])
def test_plain_text_is_refused_to_servers_outside_of_the_network(load, server):
    (line,) = refused(load, SPILE_BOOTSTRAP_SERVERS=server)
    assert "is not on an internal network" in line


@pytest.mark.parametrize(
    "server", ["kafka:9092", "10.1.2.3:9092", "[::1]:9092", "kafka.bus.svc:9092", "localhost:9092"]
)
def test_plain_text_is_taken_on_an_internal_network(load, server):
    assert load(SPILE_BOOTSTRAP_SERVERS=server).bootstrap_servers == server


@pytest.mark.parametrize("server", ["kafka", "kafka:", ":9092", "kafka:70000", "a:1,,b:2"])
def test_a_server_is_host_and_port(load, server):
    assert any("is not host:port" in line for line in refused(load, SPILE_BOOTSTRAP_SERVERS=server))


def test_a_misspelt_variable_is_reported_with_what_was_meant(load):
    (line,) = refused(load, SPILE_BOOTSTRAP_SERVER="kafka:9092")
    assert line == (
        "SPILE_BOOTSTRAP_SERVER: there is no such setting, did you mean SPILE_BOOTSTRAP_SERVERS?"
    )


def test_other_parts_can_make_their_variables_known(load):
    refused(load, SPILE_TEST_ONLY_PORT="1")
    register_settings(["SPILE_TEST_ONLY_PORT"])
    assert load(SPILE_TEST_ONLY_PORT="1").client_id == "spile"
    assert "SPILE_SASL_PASSWORD" in known_settings()


def test_every_mistake_gets_one_line(load):
    lines = refused(
        load,
        SPILE_ENVIRONMENT="prod",
        SPILE_BOOTSTRAP_SERVERS="kafka",
        SPILE_SECURITY_PROTOCOL="SASL_SSL",
        SPILE_SSL_KEYFILE="/nowhere/key.pem",
        SPILE_HEARTBEAT_INTERVAL_MS="9000",
        SPILE_SESION_TIMEOUT_MS="9000",
    )
    assert [line.partition(":")[0] for line in lines] == [
        "SPILE_SESION_TIMEOUT_MS",
        "SPILE_BOOTSTRAP_SERVERS",
        "SPILE_SASL_USERNAME",
        "SPILE_SASL_PASSWORD",
        "SPILE_SSL_KEYFILE",
        "SPILE_SSL_KEYFILE",
        "SPILE_HEARTBEAT_INTERVAL_MS",
    ]


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"SPILE_AUTO_OFFSET_RESET": "latest"}, "SPILE_AUTO_OFFSET_RESET: Input should be 'none'"),
        (
            {"SPILE_ENABLE_AUTO_COMMIT": "true"},
            "SPILE_ENABLE_AUTO_COMMIT: only false; offsets are committed after handling",
        ),
        (
            {"SPILE_SECURITY_PROTOCOL": "SSL", "SPILE_SSL_CAFILE": "/nowhere/ca.pem"},
            "SPILE_SSL_CAFILE: there is no file /nowhere/ca.pem",
        ),
        (
            {"SPILE_SASL_USERNAME": "app"},
            (
                "SPILE_SASL_USERNAME: credentials are set, but SPILE_SECURITY_PROTOCOL=PLAINTEXT"
                " would not use them"
            ),
        ),
        (
            {"SPILE_SECURITY_PROTOCOL": "SASL_SSL", "SPILE_SASL_MECHANISM": "OAUTHBEARER"},
            "SPILE_SASL_OAUTH_TOKEN_FILE: OAUTHBEARER needs it",
        ),
        (
            {"SPILE_REQUEST_TIMEOUT_MS": "60000"},
            "SPILE_REQUEST_TIMEOUT_MS: must not exceed SPILE_DELIVERY_TIMEOUT_MS (30000)",
        ),
    ],
)
def test_contradictions_stop_the_start_with_one_readable_line(load, variables, line):
    assert refused(load, **variables) == [line]


def test_a_mistyped_environment_is_named_beside_what_it_demands(load):
    """An unknown name gets the secure defaults; the error says so, and which name is near."""
    first, *others = refused(load, SPILE_ENVIRONMENT="devv")
    assert first == (
        "SPILE_ENVIRONMENT: devv is none of dev, test, staging, prod, so the secure defaults apply;"
        " did you mean dev?"
    )
    assert "SPILE_SASL_USERNAME: SASL_SSL needs it" in others
    assert "SPILE_ENVIRONMENT" not in str(refused(load, SPILE_ENVIRONMENT="prod"))


def test_the_password_may_come_from_a_file_that_is_read_at_each_use(load, tmp_path):
    path = tmp_path / "password"
    path.write_text("first\n")
    given = {**SECURE, "SPILE_SASL_PASSWORD_FILE": str(path), "SPILE_SECURITY_PROTOCOL": "SASL_SSL"}
    assert any("keep one of them" in line for line in refused(load, **given))
    del given["SPILE_SASL_PASSWORD"]
    settings = load(**given)
    assert settings.sasl_password == "first"
    path.write_text("second\n")
    assert settings.sasl_password == "second"
    path.unlink()
    with pytest.raises(ConfigurationError, match="SPILE_SASL_PASSWORD_FILE: cannot read"):
        _ = settings.sasl_password


def test_secrets_show_in_no_text(load):
    settings = load(SPILE_SECURITY_PROTOCOL="SASL_SSL", **SECURE)
    shown = f"{settings} {settings!r} {settings.connection()!r} {settings.model_dump_json()}"
    assert "hunter2-secret" not in shown
    lines = refused(load, SPILE_SECURITY_PROTOCOL="PLAIN", **SECURE)
    assert "hunter2-secret" not in "\n".join(lines)


def test_settings_do_not_change_after_the_start(load):
    with pytest.raises(ValueError, match="frozen"):
        load().client_id = "other"


def test_a_file_that_is_no_certificate_is_named(load, tmp_path):
    path = tmp_path / "ca.pem"
    path.write_text("not a certificate")
    settings = load(SPILE_SECURITY_PROTOCOL="SSL", SPILE_SSL_CAFILE=str(path))
    with pytest.raises(ConfigurationError, match="SPILE_SSL_CAFILE"):
        settings.ssl_context()
