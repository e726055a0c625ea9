"""Which registry there is: settings of `SPILE_REGISTRY_*`."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from spile.adapters.registry._credentials import Basic, Bearer
from spile.adapters.registry._files import FileSchemaRegistry
from spile.adapters.registry._http import HttpSchemaRegistry
from spile.adapters.registry._registry import CACHE_SIZE, SchemaRegistry
from spile.adapters.registry._transport import checked_url
from spile.spi import ConfigurationError

_RELAXED = ("dev", "test")


class RegistrySettings(BaseSettings):
    """
    Where the schema registry is; each is read from `SPILE_REGISTRY_` and its name in capitals.

    Read it with `spile.adapters.kafka.load_settings`, which reports every mistake in one go.

    Attributes:
        url: `http://host:port/path`, `https://...` or `file:///folder`; empty means no registry.
        username: For basic authentication, with a password.
        password: The password.
        password_file: File with the password instead; read at each request.
        token: For bearer authentication instead.
        token_file: File with the token; read at each request.
        cafile: Certificates to trust, PEM; the system's when not given.
        timeout_s: Seconds that one attempt may take, 5.
        retries: Further attempts after the first, 3.
        cache_size: Number of schemas to keep in memory, 512.
        environment: `SPILE_ENVIRONMENT`; outside of dev and test, TLS is required.
    """

    model_config = SettingsConfigDict(
        env_prefix="SPILE_REGISTRY_",
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        validate_by_name=True,
        validate_by_alias=True,
    )

    url: str = ""
    username: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    token: SecretStr | None = None
    token_file: Path | None = None
    cafile: str | None = None
    timeout_s: float = Field(default=5.0, gt=0, le=60, allow_inf_nan=False)
    retries: int = Field(default=3, ge=0, le=10)
    cache_size: int = Field(default=CACHE_SIZE, ge=1, le=100_000)
    environment: str = Field(
        default="dev", pattern=r"^[a-z][a-z0-9-]*$", validation_alias="SPILE_ENVIRONMENT"
    )

    def open(self) -> SchemaRegistry | None:
        """
        Return the registry, to be used as an async context; None when none is set.

        Raises:
            ConfigurationError: `SPILE_REGISTRY_CAFILE` is no PEM file.
        """
        if not self.url:
            return None
        if self.url.startswith("file:"):
            folder = Path(unquote(urlsplit(self.url).path))
            return FileSchemaRegistry(folder, cache_size=self.cache_size)
        return HttpSchemaRegistry(
            self.url,
            auth=self._auth(),
            timeout_s=self.timeout_s,
            retries=self.retries,
            cache_size=self.cache_size,
            ssl_context=self._ssl_context(),
        )

    def _auth(self) -> Basic | Bearer | None:
        if token := self.token_file or self.token:
            return Bearer(token=token)
        password = self.password_file or self.password
        if self.username is None or password is None:
            return None
        return Basic(username=self.username, password=password)

    def _ssl_context(self) -> ssl.SSLContext | None:
        try:
            return ssl.create_default_context(cafile=self.cafile) if self.cafile else None
        except OSError as exc:
            setting = "SPILE_REGISTRY_CAFILE"
            reason = exc.strerror or str(exc)
            raise ConfigurationError(f"{setting}: {reason}", setting=setting) from exc

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        given: dict[str, Any] = dict(values)  # pyright: ignore[reportUnknownArgumentType]
        return {name: value for name, value in given.items() if value not in ("", None)}

    @model_validator(mode="after")
    def _agree(self) -> RegistrySettings:
        if mistakes := [*_address_mistakes(self), *_credential_mistakes(self)]:
            raise ValueError("\n".join(mistakes))
        return self


def _address_mistakes(settings: RegistrySettings) -> Iterator[str]:
    if not settings.url:
        return
    if settings.url.startswith("file:"):
        parts = urlsplit(settings.url)
        if parts.netloc not in {"", "localhost"} or not parts.path.startswith("/"):
            yield "SPILE_REGISTRY_URL: expected file:///folder with an absolute path"
        return
    try:
        checked_url(settings.url)
    except ConfigurationError as exc:
        yield f"{exc} or file:///folder" if "expected" in str(exc) else str(exc)
        return
    plain = urlsplit(settings.url).scheme == "http"
    if plain and not _is_loopback(urlsplit(settings.url).hostname or ""):
        if settings.environment not in _RELAXED:
            yield (
                "SPILE_REGISTRY_URL: http is for dev, test and loopback; in"
                f" {settings.environment} use https"
            )
        elif settings.token or settings.token_file or settings.username:
            yield ("SPILE_REGISTRY_URL: credentials would be sent unencrypted over http; use https")


def _credential_mistakes(settings: RegistrySettings) -> Iterator[str]:
    given = {
        name
        for name in ("username", "password", "password_file", "token", "token_file")
        if getattr(settings, name) is not None
    }
    if given and not settings.url.startswith("http"):
        yield "SPILE_REGISTRY_URL: credentials are set, but no http or https address"
    for secret in ("password", "token"):
        if {secret, f"{secret}_file"} <= given:
            name = f"SPILE_REGISTRY_{secret.upper()}"
            yield f"{name}: {name}_FILE is set too; keep one of them"
    has_token, has_password = (
        not given.isdisjoint({secret, f"{secret}_file"}) for secret in ("token", "password")
    )
    if has_token and (has_password or "username" in given):
        yield "SPILE_REGISTRY_TOKEN: a user name or password is set too; keep one of them"
    elif has_password != ("username" in given):
        yield "SPILE_REGISTRY_USERNAME: user name and password go together"
    for name in ("password_file", "token_file"):
        path: Path | None = getattr(settings, name)
        if path is not None and not path.is_file():
            yield f"SPILE_REGISTRY_{name.upper()}: there is no file {path}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
