"""What the commands on archives share: opening the archive, and which records are meant."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from spile.adapters.kafka import load_settings
from spile.services.archiver.reading import ArchiveIndex, Selection, milliseconds
from spile.services.archiver.stores import ArchiveSettings, ArchiveStore, open_store
from spile.services.command._catalogue import CatalogueSettings
from spile.services.command._known import hint, warn_types
from spile.services.command._options import Moment, event_type
from spile.spi import PartitionKey
from spile.topics import TopicName

Command = Callable[..., Any]


def opened_archive() -> ArchiveStore:
    """
    Open the archive of SPILE_ARCHIVE; it is not made when there is none.

    Raises:
        ConfigurationError: The settings name no archive.
        click.ClickException: There is no such folder.
    """
    settings = load_settings(ArchiveSettings)
    if "://" not in settings.archive and not Path(settings.archive).is_dir():
        raise click.ClickException(
            f"there is no archive {settings.archive}: SPILE_ARCHIVE names it, "
            "`spile run archiver` makes it"
        )
    return open_store(settings, environment=environment(), read_only=True)


def environment() -> str:
    """Return the environment of this process."""
    return CatalogueSettings().environment


def place_filters(command: Command) -> Command:
    """Add the options that choose topics and partitions."""
    for option in (
        click.option(
            "--partition", "partitions", type=click.IntRange(0), multiple=True, help="Its number."
        ),
        click.option(
            "--topic",
            "topics",
            multiple=True,
            metavar="TOPIC",
            help="With its environment or without; all when not given.",
        ),
    ):
        command = option(command)
    return command


def record_filters(command: Command) -> Command:
    """Add the options that choose records."""
    moment = Moment()
    for option in (
        click.option("--key", "keys", multiple=True, help="Record key."),
        click.option(
            "--type",
            "event_types",
            type=event_type,
            multiple=True,
            metavar="TYPE",
            help="Such as PRE_TOOL_USE; PreToolUse and plan.step_started are read too.",
        ),
        click.option("--until", type=moment, help="The same; this moment is left out."),
        click.option(
            "--since",
            type=moment,
            help="Record time (UTC unless it says), or age: 15m, 2h, 7d.",
        ),
    ):
        command = option(command)
    return place_filters(command)


def selection(
    *,
    topics: tuple[str, ...] = (),
    partitions: tuple[int, ...] = (),
    since: datetime | None = None,
    until: datetime | None = None,
    event_types: tuple[str, ...] = (),
    keys: tuple[str, ...] = (),
) -> Selection:
    """
    Return what the options choose.

    Warns of an event type that the catalogue does not have.

    Raises:
        InvalidTopicError: A topic is none.
    """
    warn_types(event_types)
    return Selection(
        topics=frozenset(full_name(topic) for topic in topics),
        partitions=frozenset(partitions),
        since_ms=milliseconds(since),
        until_ms=milliseconds(until),
        event_types=frozenset(event_types),
        keys=frozenset(key.encode() for key in keys),
    )


def require_topics(
    store: ArchiveStore, which: Selection, found: Iterable[PartitionKey] | None = None
) -> None:
    """
    Refuse topics that were asked for and are not there: a mistyped name is no empty archive.

    Args:
        store: The archive.
        which: What was asked for.
        found: Partitions of that selection that are there; listed when None.

    Raises:
        click.ClickException: The archive does not have one; says what may have been meant.
    """
    if not which.topics:
        return
    places = ArchiveIndex(store, which).partitions if found is None else found
    lacking = which.topics - {topic for topic, _ in places}
    if not lacking:
        return
    name = min(lacking)
    numbers = sorted(number for topic, number in ArchiveIndex(store).partitions if topic == name)
    if numbers:
        advice = f"partition {', '.join(map(str, sorted(which.partitions)))} of {name}: there "
        advice += f"{'is' if len(numbers) == 1 else 'are'} {', '.join(map(str, numbers))}"
    else:
        known = {topic for topic, _ in ArchiveIndex(store).partitions}
        advice = f"topic {name}: {hint(name, known)}"
    raise click.ClickException(f"archive {store.place} has no {advice}")


def full_name(topic: str) -> str:
    """
    Return a topic's name with its environment: the one that it states, else that of the process.

    Raises:
        InvalidTopicError: It is no name of a topic.
    """
    own = environment()
    name = TopicName.parse(topic, environments={own, "dev", "test", "staging", "prod"})
    return str(name if name.environment is not None else name.in_environment(own))


@contextmanager
def progress_bar(what: str, total: Callable[[], int]) -> Generator[Callable[[int], None]]:
    """
    Show a bar on a terminal; on anything else nothing.

    Args:
        what: Stands before the bar.
        total: Counts what is to be done; only asked when there is a bar.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total())
        yield lambda count: bar.update(task, advance=count)
