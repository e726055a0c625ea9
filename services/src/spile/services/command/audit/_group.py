"""`spile audit`: events counted at every tier and compared."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import structlog

from spile.adapters.kafka import KafkaAdmin, KafkaLogReader, KafkaSettings, load_settings
from spile.adapters.registry import RegistrySettings, SchemaFraming
from spile.adapters.wire import Opener
from spile.services.archiver.stores import ArchiveSettings, ArchiveStore, open_store
from spile.services.auditing import Auditor, AuditReport, SqliteStoreTier, Window, show
from spile.services.command._options import Moment
from spile.services.command.audit._archive import archive_tier
from spile.services.command.audit._view import print_report
from spile.services.persistence import GROUP, event_topics, is_made, store_path
from spile.services.runtime import WorkerSettings, configure_logging, side_app, side_server
from spile.spi import RejectedError, RetriableError
from spile.topics import ENVIRONMENTS, TopicName

log = structlog.get_logger(__name__)

_UNKNOWN = 3
_REPORTS = "spile.audit.counted.v1"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class _Age(click.ParamType[timedelta]):
    name = "age"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Read an age such as 10m."""
        text = str(value)
        if text == "0":
            return timedelta()
        if not text[:-1].isdecimal() or text[-1:] not in _UNITS:
            self.fail(f"{text!r} is no age such as 90s, 10m or 2h", param, ctx)
        return timedelta(seconds=int(text[:-1]) * _UNITS[text[-1]])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """
    What was asked for.

    Attributes:
        since: Time or age, read anew for each run.
        until: The same; the present when None.
        grace: Before which nothing counts as lost.
        topics: Full or logical names; all when empty.
        as_json: One line of JSON a run instead of tables.
        allow_unknown: What cannot be told any more is no failure.
    """

    since: str
    until: str | None
    grace: timedelta
    topics: tuple[str, ...]
    as_json: bool
    allow_unknown: bool = False

    def window(self) -> Window:
        """Return the minutes to compare, by the present."""
        moment = Moment()
        now = datetime.now(UTC)
        until = now if self.until is None else moment.convert(self.until, None, None)
        since = moment.convert(self.since, None, None)
        if since >= until:
            raise click.UsageError("--since must be before --until")
        return Window(since=since, until=until, grace=self.grace, now=now)


@click.command()
@click.option(
    "--since", default="1h", show_default=True, help="First minute: time or age (15m, 2h, 7d)."
)
@click.option("--until", help="The same; this minute is left out. The present by default.")
@click.option("--topic", "topics", multiple=True, help="Full or logical name; all by default.")
@click.option(
    "--grace",
    type=_Age(),
    default="10m",
    show_default=True,
    help="Younger minutes are 'not yet', not missing.",
)
@click.option(
    "--allow-unknown", is_flag=True, help="End with 0 though some events cannot be told any more."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one line a run.")
@click.option(
    "--every",
    type=click.FloatRange(min=1),
    metavar="SECONDS",
    help="Again and again, until SIGTERM.",
)
@click.option(
    "--http-port", type=click.IntRange(0, 65_535), help="With --every: serve /metrics; 0 is any."
)
@click.pass_context
def audit(
    context: click.Context,
    *,
    since: str,
    until: str | None,
    topics: tuple[str, ...],
    grace: timedelta,
    allow_unknown: bool,
    as_json: bool,
    every: float | None,
    http_port: int | None,
) -> None:
    """
    Compare what was published with bus, store, dead letters and archive, minute by minute.

    Ends with 0 when nothing is missing, with 1 when something is, with 3 when that cannot be told
    because retention or a purge took what would tell. The store is that of SPILE_STORE, the archive
    that of SPILE_ARCHIVE; without these settings what is not there is not compared.
    """
    if http_port is not None and every is None:
        raise click.UsageError("--http-port needs --every")
    wish = _Wish(
        since=since,
        until=until,
        grace=grace,
        topics=topics,
        as_json=as_json,
        allow_unknown=allow_unknown,
    )
    wish.window()
    settings = load_settings(WorkerSettings)
    configure_logging("info" if every else "error", settings.log_format)
    if every is None:
        report = asyncio.run(_once(wish))
        _print(report, as_json=as_json)
        context.exit(_code(report, allow_unknown=allow_unknown))
    asyncio.run(_again(wish, every, host=settings.http_host, port=http_port))


def _code(report: AuditReport, *, allow_unknown: bool) -> int:
    if report.missing:
        return 1
    return _UNKNOWN if report.unknown and not allow_unknown else 0


async def _once(wish: _Wish) -> AuditReport:
    window = wish.window()
    async with _auditor() as (auditor, settings):
        topics = await _topics(wish, settings)
        return await auditor.run(topics, window, all_reported=not wish.topics)


async def _again(wish: _Wish, every_s: float, *, host: str, port: int | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        if port is not None:
            taken = await stack.enter_async_context(side_server(side_app([]), host=host, port=port))
            log.info("audit starts", http=f"http://{host}:{taken}", every_s=every_s)
        while not stop.is_set():
            started = loop.time()
            try:
                report = await _once(wish)
            except (RetriableError, RejectedError) as exc:
                log.warning("audit not made", reason=str(exc))
            else:
                show(report)
                _print(report, as_json=wish.as_json)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, started + every_s - loop.time())):
                    await stop.wait()


@contextlib.asynccontextmanager
async def _auditor() -> AsyncGenerator[tuple[Auditor, KafkaSettings]]:
    """Open the tiers; a store or an archive that no setting names and is not there is left out."""
    settings = KafkaSettings.load()
    store = _store()
    archive = _archive(settings.environment)
    async with contextlib.AsyncExitStack() as stack:
        registry = load_settings(RegistrySettings).open()
        if registry is not None:
            await stack.enter_async_context(registry)
        yield (
            Auditor(
                readers=lambda: KafkaLogReader(settings),
                reports=str(TopicName.parse(_REPORTS).in_environment(settings.environment)),
                store=store,
                archive=None if archive is None else archive_tier(archive),
                opener=Opener(registry and SchemaFraming(registry)),
                group=GROUP,
            ),
            settings,
        )


def _store() -> SqliteStoreTier | None:
    """
    Return the store of the settings; None for the default one that is not there.

    Raises:
        RetriableError: SPILE_STORE names one that is not there, or not yet.
    """
    settings = load_settings(WorkerSettings)
    path = store_path(settings.store)
    if is_made(path):
        return SqliteStoreTier(path)
    if "store" in settings.model_fields_set:
        raise RetriableError(f"SPILE_STORE: there is no event store {path}, so nothing is compared")
    return None


def _archive(environment: str) -> ArchiveStore | None:
    """
    Open the archive of the settings; None for the default folder that is not there.

    Raises:
        RetriableError: SPILE_ARCHIVE names a folder that is not there, or not yet.
    """
    settings = load_settings(ArchiveSettings)
    if "://" not in settings.archive and not Path(settings.archive).is_dir():
        if "archive" in settings.model_fields_set:
            raise RetriableError(
                f"SPILE_ARCHIVE: there is no archive {settings.archive}, so nothing is compared"
            )
        return None
    return open_store(settings, environment=environment, read_only=True)


async def _topics(wish: _Wish, settings: KafkaSettings) -> list[str]:
    """Return the event topics of the cluster that were asked for."""
    pattern = re.compile(event_topics(settings.environment))
    async with KafkaAdmin(settings) as admin:
        found = [
            name
            for name in await admin.topics()
            if pattern.search(name) and _name(name, settings.environment).kind == "topic"
        ]
    if not wish.topics:
        return found
    wanted = {_full(name, settings.environment) for name in wish.topics}
    if missing := sorted(wanted - set(found)):
        raise click.ClickException(f"no event topic {', '.join(missing)} on the cluster")
    return sorted(wanted)


def _name(text: str, environment: str) -> TopicName:
    return TopicName.parse(text, environments={*ENVIRONMENTS, environment})


def _full(text: str, environment: str) -> str:
    name = _name(text, environment)
    return str(name if name.environment else name.in_environment(environment))


def _print(report: AuditReport, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(report.as_json(), ensure_ascii=False))
    else:
        print_report(report)
    sys.stdout.flush()
