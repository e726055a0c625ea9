"""Structured logs of a process: ours and those of libraries through one renderer."""

from __future__ import annotations

import logging
import sys
from typing import Final, Literal, TextIO

import structlog
from structlog.typing import Processor

from spile.services.runtime._scrubbing import Scrubber
from spile.topics.redaction import Redactor, default_redactor

_CHATTY = ("aiokafka", "asyncio", "httpcore", "httpx", "uvicorn")
_SHARED: Final[tuple[Processor, ...]] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.ExtraAdder(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
)


def configure_logging(
    level: str = "info",
    style: Literal["auto", "json", "console"] = "auto",
    *,
    stream: TextIO | None = None,
    redactor: Redactor | bool = True,
) -> None:
    """
    Send all logs of this process to one stream, one event per line.

    Libraries that talk much are heard from WARNING on, and from INFO on at level `debug`. Never
    below: at DEBUG aiokafka writes keys, values and passwords (aiokafka/conn.py, `send`).

    Args:
        level: Lowest level that is logged.
        style: JSON, or coloured text; `auto` is text on a terminal.
        stream: Where to; standard error by default.
        redactor: Takes secrets out of every line, tracebacks included; True is one with the
            built-in rules, False lets them through.
    """
    target = stream or sys.stderr
    console = style == "console" or (style == "auto" and target.isatty())
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    chosen = default_redactor() if redactor is True else redactor or None
    clean = [] if chosen is None else [structlog.processors.format_exc_info, Scrubber(chosen)]
    last: list[Processor] = (
        [structlog.dev.ConsoleRenderer(colors=target.isatty())]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *clean, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    _quieten(number)


def _quieten(number: int) -> None:
    """Let libraries that talk much through this stream alone, and from their own level on."""
    for name in _CHATTY:
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO if number < logging.INFO else max(number, logging.WARNING))
        logger.handlers.clear()
        logger.propagate = True
