"""How to reach Kafka: one frozen object, read from SPILE_* once at the start."""

from __future__ import annotations

import difflib
import ipaddress
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from spile.adapters.kafka._client import Connection
from spile.adapters.kafka._environment import load_settings, register_settings
from spile.adapters.wire import WireFormat
from spile.spi import ConfigurationError
from spile.topics import ENVIRONMENTS

RELAXED = ("dev", "test")
"""Environments that may run one broker in plain text on an internal network."""

_INTERNAL = frozenset({"internal", "lan", "local", "localhost", "svc", "test"})
"""Last labels of host names that do not leave the network (RFC 6761, RFC 6762, Kubernetes)."""

redpanda_optimized_defaults: Mapping[str, str | int | float | bool] = MappingProxyType(
    {"compression": "lz4", "max_batch_bytes": 262_144, "linger_ms": 1}
)
"""What suits Redpanda better than the defaults. Unverified: no Redpanda was at hand to measure."""


class KafkaSettings(BaseSettings):
    """
    Connection settings; each is read from `SPILE_` and its name in capitals.

    Use `KafkaSettings.load()` at the start of a process: it reports every mistake in one go,
    unknown variables included. Passwords and tokens may come from files, which are read at each
    use, so that a rotated secret is picked up by the next connection.

    Attributes:
        environment: First segment of full topic names; outside of dev and test, TLS is required.
        bootstrap_servers: `host:port`, separated by commas.
        client_id: Name in the brokers' logs and quotas.
        security_protocol: PLAINTEXT in dev and test and SASL_SSL elsewhere, by default.
        sasl_mechanism: SCRAM-SHA-512 by default.
        sasl_username: For PLAIN and SCRAM.
        sasl_password_file: File with the password, instead of SPILE_SASL_PASSWORD.
        sasl_oauth_token_file: File with the token, for OAUTHBEARER.
        ssl_cafile: Certificates to trust, PEM; the system's when not given.
        ssl_certfile: Own certificate, PEM, for mutual TLS.
        ssl_keyfile: Its key, PEM; not given when it stands in `ssl_certfile`.
        ssl_keyfile_password: For an encrypted key.
        auto_offset_reset: Only `none`.
        enable_auto_commit: Only False.
        session_timeout_ms: Time without heartbeat until the group goes on alone, 15 s.
        heartbeat_interval_ms: 3 s; at most a third of the session timeout.
        rebalance_timeout_ms: Time that members get to finish what is in hand, 30 s.
        max_poll_interval_ms: Time without a poll until the member leaves the group, 300 s.
        request_timeout_ms: Time that one request may take, 5 s.
        retry_backoff_ms: Wait between the client's own attempts, 100 ms.
        consumer_metadata_max_age_ms: Age at which consumers look for new partitions, 10 s.
        producer_metadata_max_age_ms: Age at which producers do, 30 s.
        encoding: How publishers encode values: json, msgpack, avro or json-schema; the last two
            need the registry of `SPILE_REGISTRY_URL`.
        compression: Codec of batches, zstd.
        linger_ms: How long a batch may wait for more records, 0.
        max_batch_bytes: Size of a batch before compression, 128 KiB; at most half of what a topic
            takes, since one record too many fails a whole batch.
        delivery_timeout_ms: Limit for all attempts to deliver a record, 30 s.
        start_timeout_ms: Limit for connecting, 30 s.
        close_timeout_ms: Limit for flushing and disconnecting, 20 s.
    """

    model_config = SettingsConfigDict(
        env_prefix="SPILE_",
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        validate_by_name=True,
        validate_by_alias=True,
    )

    environment: str = Field(default="dev", pattern=r"^[a-z][a-z0-9-]*$")
    bootstrap_servers: str = "127.0.0.1:9092"
    client_id: str = Field(default="spile", min_length=1)
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "SASL_SSL"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = (
        "SCRAM-SHA-512"
    )
    sasl_username: str | None = None
    secret_sasl_password: SecretStr | None = Field(
        default=None, validation_alias="SPILE_SASL_PASSWORD"
    )
    sasl_password_file: Path | None = None
    sasl_oauth_token_file: Path | None = None
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_keyfile_password: SecretStr | None = None
    auto_offset_reset: Literal["none"] = "none"
    enable_auto_commit: bool = False
    session_timeout_ms: int = Field(default=15_000, ge=1_000)
    heartbeat_interval_ms: int = Field(default=3_000, ge=100)
    rebalance_timeout_ms: int = Field(default=30_000, ge=1_000)
    max_poll_interval_ms: int = Field(default=300_000, ge=1_000)
    request_timeout_ms: int = Field(default=5_000, ge=100)
    retry_backoff_ms: int = Field(default=100, ge=1)
    consumer_metadata_max_age_ms: int = Field(default=10_000, ge=100, le=30_000)
    producer_metadata_max_age_ms: int = Field(default=30_000, ge=100, le=30_000)
    encoding: WireFormat = WireFormat.JSON
    compression: Literal["none", "gzip", "lz4", "snappy", "zstd"] = "zstd"
    linger_ms: int = Field(default=0, ge=0)
    max_batch_bytes: int = Field(default=131_072, ge=1_024, le=1_000_000)
    delivery_timeout_ms: int = Field(default=30_000, ge=100)
    start_timeout_ms: int = Field(default=30_000, ge=100)
    close_timeout_ms: int = Field(default=20_000, ge=100)

    @classmethod
    def load(cls, **overrides: Any) -> KafkaSettings:
        """
        Read the settings from the environment.

        Args:
            **overrides: Settings that win over the environment.

        Raises:
            ConfigurationError: One line per mistake.
        """
        return load_settings(cls, **overrides)

    @property
    def sasl_password(self) -> str | None:
        """
        The password, from its file when one is set.

        Raises:
            ConfigurationError: The file cannot be read.
        """
        if self.sasl_password_file is not None:
            return _secret_in(self.sasl_password_file, "SPILE_SASL_PASSWORD_FILE")
        return self.secret_sasl_password.get_secret_value() if self.secret_sasl_password else None

    def oauth_token(self) -> str:
        """
        Return the token of the moment.

        Raises:
            ConfigurationError: The file is not set or cannot be read.
        """
        name = "SPILE_SASL_OAUTH_TOKEN_FILE"
        if self.sasl_oauth_token_file is None:
            raise ConfigurationError(f"{name}: not set", setting=name)
        return _secret_in(self.sasl_oauth_token_file, name)

    def ssl_context(self) -> ssl.SSLContext | None:
        """
        Return a context that verifies broker and host name, TLS 1.2 or later; None without TLS.

        Raises:
            ConfigurationError: A file is missing or is no PEM file of the right kind.
        """
        if not self.security_protocol.endswith("SSL"):
            return None
        setting = "SPILE_SSL_CAFILE"
        try:
            context = ssl.create_default_context(cafile=self.ssl_cafile)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if self.ssl_certfile is not None:
                setting = "SPILE_SSL_CERTFILE"
                secret = self.ssl_keyfile_password
                context.load_cert_chain(
                    self.ssl_certfile,
                    self.ssl_keyfile,
                    # Without a password OpenSSL would ask for one at the terminal.
                    secret.get_secret_value() if secret else "",
                )
        except (OSError, ValueError) as exc:
            reason = exc.strerror or str(exc) if isinstance(exc, OSError) else str(exc)
            raise ConfigurationError(f"{setting}: {reason}", setting=setting) from exc
        return context

    def connection(self) -> Connection:
        """
        Return what the clients need to connect, secrets included.

        Raises:
            ConfigurationError: A file with a secret or certificate cannot be used.
        """
        oauth = self.sasl_mechanism == "OAUTHBEARER"
        return Connection(
            bootstrap_servers=self.bootstrap_servers,
            client_id=self.client_id,
            security_protocol=self.security_protocol,
            ssl_context=self.ssl_context(),
            sasl_mechanism=self.sasl_mechanism,
            sasl_username=self.sasl_username,
            sasl_password=None if oauth else self.sasl_password,
            oauth_token=self.oauth_token if oauth else None,
            request_timeout_ms=self.request_timeout_ms,
            retry_backoff_ms=self.retry_backoff_ms,
        )

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        given: dict[str, Any] = dict(values)  # pyright: ignore[reportUnknownArgumentType]
        if "sasl_password" in given:
            given["SPILE_SASL_PASSWORD"] = given.pop("sasl_password")
        given = {name: None if value == "" else value for name, value in given.items()}
        if given.get("security_protocol") is None:
            relaxed = given.get("environment", "dev") in RELAXED
            given["security_protocol"] = "PLAINTEXT" if relaxed else "SASL_SSL"
        defaults = cls.model_fields
        return {
            name: value
            for name, value in given.items()
            if value is not None or name not in defaults
        }

    @model_validator(mode="after")
    def _agree(self) -> KafkaSettings:
        mistakes = [
            *_environment_mistakes(self),
            *_tls_mistakes(self),
            *_time_mistakes(self),
        ]
        if mistakes:
            raise ValueError("\n".join(mistakes))
        return self


register_settings(KafkaSettings)


def _environment_mistakes(settings: KafkaSettings) -> Iterator[str]:
    """Give what does not go with the environment; a name nobody knows may be the mistake."""
    mistakes = [*_server_mistakes(settings), *_sasl_mistakes(settings)]
    name = settings.environment
    if mistakes and name not in ENVIRONMENTS:
        near = difflib.get_close_matches(name, ENVIRONMENTS, n=1)
        yield (
            f"SPILE_ENVIRONMENT: {name} is none of {', '.join(ENVIRONMENTS)}, so the secure"
            f" defaults apply{f'; did you mean {near[0]}?' if near else ''}"
        )
    yield from mistakes


def _server_mistakes(settings: KafkaSettings) -> Iterator[str]:
    protocol, environment = settings.security_protocol, settings.environment
    plain = not protocol.endswith("SSL")
    if plain and environment not in RELAXED:
        yield (
            f"SPILE_SECURITY_PROTOCOL: {protocol} sends events and passwords unencrypted, which is"
            f" for dev and test; in {environment} use SSL or SASL_SSL"
        )
    for server in settings.bootstrap_servers.split(","):
        host, colon, port = server.strip().rpartition(":")
        if not colon or not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
            yield f"SPILE_BOOTSTRAP_SERVERS: {server.strip()!r} is not host:port"
        elif plain and environment in RELAXED and not _is_internal(host.strip("[]")):
            yield (
                f"SPILE_BOOTSTRAP_SERVERS: {host} is not on an internal network, so {protocol} is"
                " refused; use SSL or SASL_SSL"
            )


def _sasl_mistakes(settings: KafkaSettings) -> Iterator[str]:
    given = settings.secret_sasl_password is not None
    if given and settings.sasl_password_file is not None:
        yield "SPILE_SASL_PASSWORD: SPILE_SASL_PASSWORD_FILE is set too; keep one of them"
    if not settings.security_protocol.startswith("SASL"):
        if settings.sasl_username is not None or given:
            yield (
                "SPILE_SASL_USERNAME: credentials are set, but"
                f" SPILE_SECURITY_PROTOCOL={settings.security_protocol} would not use them"
            )
    elif settings.sasl_mechanism == "OAUTHBEARER":
        if settings.sasl_oauth_token_file is None:
            yield "SPILE_SASL_OAUTH_TOKEN_FILE: OAUTHBEARER needs it"
    else:
        if not settings.sasl_username:
            yield f"SPILE_SASL_USERNAME: {settings.security_protocol} needs it"
        if not given and settings.sasl_password_file is None:
            yield (
                f"SPILE_SASL_PASSWORD: {settings.security_protocol} needs it,"
                " or SPILE_SASL_PASSWORD_FILE"
            )
    for name in ("sasl_password_file", "sasl_oauth_token_file"):
        path: Path | None = getattr(settings, name)
        if path is not None and not path.is_file():
            yield f"SPILE_{name.upper()}: there is no file {path}"


def _tls_mistakes(settings: KafkaSettings) -> Iterator[str]:
    files = ("ssl_cafile", "ssl_certfile", "ssl_keyfile")
    if not settings.security_protocol.endswith("SSL"):
        for name in files:
            if getattr(settings, name) is not None:
                yield (
                    f"SPILE_{name.upper()}: SPILE_SECURITY_PROTOCOL={settings.security_protocol}"
                    " does not use TLS"
                )
        return
    for name in files:
        path: str | None = getattr(settings, name)
        if path is not None and not Path(path).is_file():
            yield f"SPILE_{name.upper()}: there is no file {path}"
    if settings.ssl_keyfile is not None and settings.ssl_certfile is None:
        yield "SPILE_SSL_KEYFILE: a key is of no use without SPILE_SSL_CERTFILE"


def _time_mistakes(settings: KafkaSettings) -> Iterator[str]:
    if settings.enable_auto_commit:
        yield "SPILE_ENABLE_AUTO_COMMIT: only false; offsets are committed after handling"
    if settings.heartbeat_interval_ms * 3 > settings.session_timeout_ms:
        yield (
            "SPILE_HEARTBEAT_INTERVAL_MS: must be at most a third of SPILE_SESSION_TIMEOUT_MS"
            f" ({settings.session_timeout_ms})"
        )
    if settings.request_timeout_ms > settings.delivery_timeout_ms:
        yield (
            "SPILE_REQUEST_TIMEOUT_MS: must not exceed SPILE_DELIVERY_TIMEOUT_MS"
            f" ({settings.delivery_timeout_ms})"
        )


def _is_internal(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.rstrip(".").rpartition(".")[2] in _INTERNAL
    return not address.is_global


def _secret_in(path: Path, setting: str) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8"
        raise ConfigurationError(
            f"{setting}: cannot read {path} ({reason})", setting=setting
        ) from exc
