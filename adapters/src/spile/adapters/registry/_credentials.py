"""How a client shows the registry who it is."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from spile.spi import ConfigurationError

Secret = SecretStr | Path
"""A secret, or the file that holds it; a file is read at each use, so rotation is picked up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Basic:
    """
    User name and password.

    Attributes:
        username: The user name; no colon.
        password: The password or its file.

    Raises:
        ConfigurationError: The user name is empty or has a colon.

    Source: RFC 7617.
    """

    username: str
    password: Secret = field(repr=False)

    def __post_init__(self) -> None:
        if not self.username or ":" in self.username:
            raise ConfigurationError(
                "SPILE_REGISTRY_USERNAME: expected a user name without a colon",
                setting="SPILE_REGISTRY_USERNAME",
            )

    def header(self) -> str:
        """
        Return the value of the Authorization header.

        Raises:
            ConfigurationError: The file with the password cannot be read.
        """
        password = _revealed(self.password, "SPILE_REGISTRY_PASSWORD_FILE")
        pair = f"{self.username}:{password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bearer:
    """
    A token.

    Attributes:
        token: The token or its file.

    Source: RFC 6750.
    """

    token: Secret = field(repr=False)

    def header(self) -> str:
        """
        Return the value of the Authorization header.

        Raises:
            ConfigurationError: The file with the token cannot be read, or is no token.
        """
        name = "SPILE_REGISTRY_TOKEN_FILE"
        token = _revealed(self.token, name)
        if not token.isascii() or not token.isprintable() or " " in token:
            raise ConfigurationError(f"{name}: what it holds is no token", setting=name)
        return f"Bearer {token}"


def _revealed(secret: Secret, setting: str) -> str:
    if isinstance(secret, SecretStr):
        return secret.get_secret_value()
    try:
        return secret.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8"
        raise ConfigurationError(
            f"{setting}: cannot read {secret} ({reason})", setting=setting
        ) from exc
