"""The SPILE_* variables as one namespace that several settings classes share."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import AliasChoices, ValidationError
from pydantic_settings import BaseSettings

from spile.spi import ConfigurationError

PREFIX = "SPILE_"

_KNOWN: set[str] = {
    "SPILE_ARCHIVE",
    "SPILE_ARCHIVE_ADDRESSING",
    "SPILE_ARCHIVE_BUFFER_BYTES",
    "SPILE_ARCHIVE_BYTES",
    "SPILE_ARCHIVE_CA",
    "SPILE_ARCHIVE_ENCRYPTION",
    "SPILE_ARCHIVE_ENDPOINT",
    "SPILE_ARCHIVE_RECORDS",
    "SPILE_ARCHIVE_REGION",
    "SPILE_ARCHIVE_TIMEOUT_S",
    "SPILE_ARCHIVE_UPLOADS",
    "SPILE_ARCHIVE_WINDOW_S",
    "SPILE_AUDIT",
    "SPILE_AUDIT_EVERY_S",
    "SPILE_CACHE_DIR",
    "SPILE_CATALOGUE",
    "SPILE_DEBUG",
    "SPILE_HOME",
    "SPILE_HTTP_HOST",
    "SPILE_HTTP_PORT",
    "SPILE_LOG_FORMAT",
    "SPILE_LOG_LEVEL",
    "SPILE_POISON_SHARE",
    "SPILE_READY_MAX_AGE_S",
    "SPILE_REDACTION",
    "SPILE_REDACTION_FAIL_CLOSED",
    "SPILE_REDACTION_FIELDS",
    "SPILE_REDACTION_KEY",
    "SPILE_REDACTION_PATHS",
    "SPILE_REGISTRY_CACHE_SIZE",
    "SPILE_REGISTRY_CAFILE",
    "SPILE_REGISTRY_PASSWORD",
    "SPILE_REGISTRY_PASSWORD_FILE",
    "SPILE_REGISTRY_RETRIES",
    "SPILE_REGISTRY_TIMEOUT_S",
    "SPILE_REGISTRY_TOKEN",
    "SPILE_REGISTRY_TOKEN_FILE",
    "SPILE_REGISTRY_URL",
    "SPILE_REGISTRY_USERNAME",
    "SPILE_SIM_SEED",
    "SPILE_SIM_SEEDS",
    "SPILE_STALL_AFTER_S",
    "SPILE_STORE",
}
"""
Variables of the other parts of spile: one environment file may serve them all, so an application or
a command that does not load those parts must not take their variables for typing errors.
"""

SettingsT = TypeVar("SettingsT", bound=BaseSettings)


def register_settings(names: Iterable[str] | type[BaseSettings]) -> None:
    """
    Make variables known, so that they are no longer taken for typing errors.

    Args:
        names: Variable names, such as `SPILE_HTTP_PORT`, or a settings class with that prefix.
    """
    _KNOWN.update(_variables(names) if isinstance(names, type) else names)


def known_settings() -> frozenset[str]:
    """Return all variables that somebody has registered."""
    return frozenset(_KNOWN)


def unknown_settings(environ: Mapping[str, str]) -> list[str]:
    """Return one readable line per SPILE_* variable that nobody has registered."""
    lines: list[str] = []
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in _KNOWN:
            near = difflib.get_close_matches(name, _KNOWN, n=1)
            hint = f", did you mean {near[0]}?" if near else ""
            lines.append(f"{name}: there is no such setting{hint}")
    return lines


def load_settings(kind: type[SettingsT], **overrides: Any) -> SettingsT:
    """
    Read a settings class from the environment and report every mistake at once.

    Args:
        kind: Settings class; its variables are registered.
        **overrides: Values that win over the environment.

    Raises:
        ConfigurationError: One line per mistake: unknown variables, wrong and contradictory values.
    """
    register_settings(kind)
    lines = unknown_settings(os.environ)
    settings: SettingsT | None = None
    try:
        settings = kind(**overrides)
    except ValidationError as exc:
        lines += _readable(kind, exc)
    if settings is None or lines:
        first = lines[0].partition(":")[0]
        raise ConfigurationError("\n".join(lines), setting=first)
    return settings


def _readable(kind: type[BaseSettings], error: ValidationError) -> list[str]:
    lines: list[str] = []
    for found in error.errors(include_url=False, include_input=False):
        text = found["msg"].removeprefix("Value error, ")
        if found["loc"]:
            lines.append(f"{_variable(kind, str(found['loc'][0]))}: {text}")
        else:
            lines += text.splitlines()
    return lines


def _variables(kind: type[BaseSettings]) -> set[str]:
    return {_variable(kind, name) for name in kind.model_fields}


def _variable(kind: type[BaseSettings], name: str) -> str:
    if name.upper().startswith(PREFIX):
        return name.upper()
    field = kind.model_fields.get(name)
    alias = field.validation_alias if field is not None else None
    if isinstance(alias, AliasChoices):
        alias = alias.choices[0]
    prefix = kind.model_config.get("env_prefix") or ""
    return str(alias) if alias is not None else f"{prefix}{name}".upper()
