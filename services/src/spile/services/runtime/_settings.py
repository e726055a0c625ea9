"""Settings of a worker process, beside those of the connection."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from spile.adapters.kafka import KafkaSettings, load_settings, register_settings
from spile.spi import ConfigurationError


class WorkerSettings(BaseSettings):
    """
    What every worker reads from `SPILE_` and the name in capitals.

    Attributes:
        http_host: Address of `/healthz`, `/readyz` and `/metrics`; 0.0.0.0 in a container.
        http_port: Its port; 0, the default, takes a free one, which is logged.
        log_level: Lowest level that is logged.
        log_format: `json`, `console`, or `auto`: console on a terminal, JSON elsewhere.
        store: File of the event store, or `sqlite:///<file>`.
        poison_share: Share of unreadable records above which a worker stops.
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


def store_location() -> str:
    """
    Return SPILE_STORE, for commands that need nothing else.

    Raises:
        ConfigurationError: One line per mistake in the settings of a worker.
    """
    register_settings(KafkaSettings)
    return load_settings(WorkerSettings).store


def load_worker_settings() -> tuple[WorkerSettings, KafkaSettings]:
    """
    Read all settings of a worker process.

    Raises:
        ConfigurationError: One line per mistake, those of both kinds together.
    """
    lines: dict[str, None] = {}
    worker: WorkerSettings | None = None
    kafka: KafkaSettings | None = None
    try:
        worker = load_settings(WorkerSettings)
    except ConfigurationError as exc:
        lines.update(dict.fromkeys(str(exc).splitlines()))
    try:
        kafka = KafkaSettings.load()
    except ConfigurationError as exc:
        lines.update(dict.fromkeys(str(exc).splitlines()))
    if worker is None or kafka is None:
        first = next(iter(lines)).partition(":")[0]
        raise ConfigurationError("\n".join(lines), setting=first)
    return worker, kafka
