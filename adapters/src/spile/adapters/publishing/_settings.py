"""What is replaced in events and whether they are counted, from SPILE_REDACTION and its kin."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from spile.topics.redaction import RedactionRules, Redactor

_SHORTEST_KEY = 16


class AuditSettings(BaseSettings):
    """
    Settings of the audit of publishers; each is read from `SPILE_` and its name in capitals.

    Attributes:
        audit: `on`, or `off` where nobody is to know how many events there were.
        audit_every_s: Seconds between an event and its report at most, 10.
    """

    model_config = SettingsConfigDict(
        env_prefix="SPILE_", frozen=True, extra="forbid", hide_input_in_errors=True
    )

    audit: Literal["on", "off"] = "on"
    audit_every_s: float = Field(default=10.0, gt=0)


class RedactionSettings(BaseSettings):
    """
    Settings of redaction; each is read from `SPILE_` and its name in capitals.

    Attributes:
        redaction: `on`, or `off` for tests and development.
        redaction_key: Secret of the hashes that stand for secrets, 16 characters or more; the same
            in all processes whose events are joined. Without it all secrets become `REDACTED`, and
            an event whose record key holds one is refused.
        redaction_paths: Places to replace, such as `payload.parameters.env.*`, with commas between.
        redaction_fields: Names to treat as secret besides the built-in ones, with commas between.
        redaction_fail_closed: Refuse events that cannot be inspected; else their free payload is
            replaced as a whole.
    """

    model_config = SettingsConfigDict(
        env_prefix="SPILE_", frozen=True, extra="forbid", hide_input_in_errors=True
    )

    redaction: Literal["on", "off"] = "on"
    redaction_key: SecretStr | None = None
    redaction_paths: str = ""
    redaction_fields: str = ""
    redaction_fail_closed: bool = True

    @field_validator("redaction_key")
    @classmethod
    def _long_enough(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and len(key.get_secret_value()) < _SHORTEST_KEY:
            raise ValueError(f"expected {_SHORTEST_KEY} characters or more")
        return key

    def redactor(self) -> Redactor | None:
        """
        Return the redactor of these settings, None when it is off.

        Raises:
            ConfigurationError: A path has an empty segment.
        """
        if self.redaction == "off":
            return None
        rules = RedactionRules(
            fields=_items(self.redaction_fields),
            paths=_items(self.redaction_paths),
            fail_closed=self.redaction_fail_closed,
        )
        key = self.redaction_key
        return Redactor(rules, key=None if key is None else key.get_secret_value().encode())


def _items(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(",") if item.strip())
