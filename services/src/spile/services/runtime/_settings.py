"""Settings of a worker process, beside those of the connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from spile.adapters.kafka import KafkaSettings, load_settings, register_settings
from spile.adapters.publishing import AuditSettings, RedactionSettings
from spile.adapters.registry import RegistrySettings
from spile.spi import ConfigurationError

_Settings = TypeVar("_Settings", bound=BaseSettings)


class WorkerSettings(BaseSettings):
    """
    What every worker reads from `SPILE_` and the name in capitals.

    Attributes:
        http_host: Address of `/healthz`, `/readyz` and `/metrics`; 0.0.0.0 in a container.
        http_port: Its port; 0, the default, takes a free one, which is logged.
        log_level: Lowest level that is logged.
        log_format: `json`, `console`, or `auto`: console on a terminal, JSON elsewhere.
        store: File of the event store, or `sqlite:///<file>`.
        poison_share: Share of failing records above which a worker stops, 0.5.
        ready_max_age_s: Age at which the last sign of life of the bus no longer counts, 30 s.
        stall_after_s: Age of a handler call at which the worker ends with code 70, 300 s.
        debug: Show tracebacks of our own errors.
    """

    model_config = SettingsConfigDict(
        env_prefix="SPILE_", frozen=True, extra="forbid", hide_input_in_errors=True
    )

    http_host: str = "127.0.0.1"
    http_port: int = Field(default=0, ge=0, le=65_535)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"
    store: str = Field(default=".spile/events.db", min_length=1)
    poison_share: float = Field(default=0.5, gt=0, le=1)
    ready_max_age_s: float = Field(default=30.0, gt=0)
    stall_after_s: float = Field(default=300.0, gt=0)
    debug: bool = False


register_settings(WorkerSettings)
register_settings(KafkaSettings)
register_settings(RegistrySettings)
register_settings(RedactionSettings)
register_settings(AuditSettings)


def store_location() -> str:
    """
    Return SPILE_STORE, for commands that need nothing else.

    Raises:
        ConfigurationError: One line per mistake in the settings of a worker.
    """
    return load_settings(WorkerSettings).store


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSettings:
    """
    All settings of a worker process.

    Attributes:
        worker: What is the same for every worker.
        kafka: How to connect.
        registry: Where schemas are.
        redaction: What is taken out of log lines and of errors in dead letters.
    """

    worker: WorkerSettings
    kafka: KafkaSettings
    registry: RegistrySettings
    redaction: RedactionSettings


def load_process_settings() -> ProcessSettings:
    """
    Read all settings of a worker process.

    Raises:
        ConfigurationError: One line per mistake, those of all kinds together.
    """
    lines: dict[str, None] = {}
    worker = _read(WorkerSettings, lines)
    kafka = _read(KafkaSettings, lines)
    registry = _read(RegistrySettings, lines)
    redaction = _read(RedactionSettings, lines)
    if worker is None or kafka is None or registry is None or redaction is None:
        first = next(iter(lines)).partition(":")[0]
        raise ConfigurationError("\n".join(lines), setting=first)
    return ProcessSettings(worker=worker, kafka=kafka, registry=registry, redaction=redaction)


def _read(kind: type[_Settings], lines: dict[str, None]) -> _Settings | None:
    try:
        return load_settings(kind)
    except ConfigurationError as exc:
        lines.update(dict.fromkeys(str(exc).splitlines()))
        return None
