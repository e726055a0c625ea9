"""What the commands on dead letters share: the connection, the queue, and which letters."""

from __future__ import annotations

import asyncio
import getpass
import re
from collections.abc import Callable, Coroutine, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import click

from spile.adapters.dead_letters import (
    DeadLetter,
    DeadLetterBrowser,
    LetterFilter,
    Reprocessor,
    is_settled,
)
from spile.adapters.kafka import (
    KafkaAdmin,
    KafkaLogReader,
    KafkaSender,
    KafkaSettings,
    KafkaTransactions,
)
from spile.services.command._catalogue import chosen_catalogue
from spile.services.command._known import warn_types
from spile.services.command._options import Moment, event_type, plain
from spile.services.runtime import configure_logging
from spile.spi import ConfigurationError, InvalidTopicError
from spile.topics import ENVIRONMENTS, Catalogue, TopicName

Command = Callable[..., Any]
_T = TypeVar("_T")
_GROUPS = 20
_PLACE = re.compile(r"(0|[1-9][0-9]{0,9}):(0|[1-9][0-9]{0,18})")


class Place(click.ParamType[str]):
    """Id of a letter: `<partition>:<offset>`."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Read an id."""
        text = str(value)
        if not _PLACE.fullmatch(text):
            self.fail(f"{text!r} is no id of a letter, such as 0:12", param, ctx)
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """
    Where dead letters are worked on.

    Attributes:
        settings: How to connect.
        catalogue: Knows the retry topics of groups.
    """

    settings: KafkaSettings
    catalogue: Catalogue

    @classmethod
    def open(cls) -> Desk:
        """
        Read the settings; connects to nothing.

        Raises:
            click.UsageError: A setting is wrong.
        """
        # What is done is told by the command itself; the adapter's lines would repeat it.
        configure_logging("error")
        try:
            return cls(settings=KafkaSettings.load(), catalogue=chosen_catalogue())
        except ConfigurationError as exc:
            raise click.UsageError(str(exc)) from exc

    @property
    def environments(self) -> tuple[str, ...]:
        """The known environments."""
        return (*ENVIRONMENTS, self.settings.environment)

    def queue(self, topic: str) -> str:
        """
        Return the dead letter queue of a topic, given with or without environment and `.dlq`.

        Raises:
            click.UsageError: It is no name of a topic.
        """
        try:
            name = TopicName.parse(topic, environments=self.environments)
            if name.environment is None:
                name = name.in_environment(self.settings.environment)
            return TopicName.parse(name.address, environments=self.environments).dlq.address
        except InvalidTopicError as exc:
            raise click.UsageError(str(exc)) from exc

    def browser(self, queue: str) -> DeadLetterBrowser:
        """Return a browser of a queue."""
        return DeadLetterBrowser(self.reader, queue)

    async def letter(self, queue: str, place: str) -> DeadLetter:
        """
        Return one letter that is not settled.

        Raises:
            click.ClickException: There is none of this id.
        """
        async with self.browser(queue) as browser:
            state = await browser.look(need_marks=False)
            which = LetterFilter(places={place})
            async with aclosing(browser.letters(state, which)) as letters:
                async for letter in letters:
                    return letter
        mark = state.marks.get(place)
        done = f"; it is settled: {mark.what} at {mark.at}" if mark else ""
        raise click.ClickException(f"{queue} holds no open letter {place}{done}")

    async def look_for(self, queue: str, which: LetterFilter) -> None:
        """
        Say on stderr what ids and the group of a filter miss; that may be a mistyped name.

        Raises:
            click.ClickException: An id is that of no letter in the queue.
        """
        if not which.places and which.group is None:
            return
        groups: set[str] = set()
        async with self.browser(queue) as browser:
            state = await browser.look(need_marks=False)
            lacking = set(which.places)
            async for letter in browser.all_letters(state):
                lacking.discard(letter.place)
                mark = state.marks.get(letter.place)
                if not is_settled(letter, state.marks):
                    groups.add(letter.group or "")
                elif mark is not None and letter.place in which.places:
                    click.echo(f"{letter.place} is settled: {mark.what} at {mark.at}", err=True)
        if lacking:
            ids = ", ".join(sorted(lacking))
            raise click.ClickException(f"{queue} holds no letter {ids}; nothing was done")
        if which.group is not None and which.group not in groups:
            found = ", ".join(plain(group) for group in sorted(groups - {""})[:_GROUPS])
            there = f"there are letters of {found}" if found else "there are letters of no group"
            click.echo(f"{queue} holds no open letter of {plain(which.group)}: {there}", err=True)

    def reader(self) -> KafkaLogReader:
        """Return a reader, not connected yet."""
        return KafkaLogReader(self.settings)

    def reprocessor(self, sender: KafkaSender) -> Reprocessor:
        """Return what sends letters back."""
        return Reprocessor(
            self.reader,
            sender,
            self.retry_topic,
            transactions=lambda name: KafkaTransactions(self.settings, name),
        )

    async def unread(self, targets: Iterable[str]) -> list[str]:
        """Return the retry topics that their group has never read; what goes there waits."""
        found: list[str] = []
        async with KafkaAdmin(self.settings) as admin:
            for topic in sorted(targets):
                group = TopicName.parse(topic, environments=self.environments).retry_group
                places = await admin.partitions([topic])
                if group is None or not await admin.committed(group, places):
                    found.append(topic)
        return found

    def retry_topic(self, topic: str, group: str, /) -> str | None:
        """Return where failed events of a group wait, by the catalogue."""
        return self.catalogue.retry_topic(topic, group, environments=self.environments)


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a command's coroutine; a wrong setting that shows only now is wrong usage too."""
    try:
        return asyncio.run(work)
    except ConfigurationError as exc:
        raise click.UsageError(str(exc)) from exc


def letter_filters(command: Command) -> Command:
    """Add the options that choose letters; `chosen` reads them."""
    moment = Moment()
    for option in (
        click.option("--id", "places", type=Place(), multiple=True, help="Id; may be repeated."),
        click.option("--group", help="Consumer group that failed."),
        click.option("--correlation-id", type=click.UUID, help="Correlation id."),
        click.option("--key", help="Record key."),
        click.option(
            "--type",
            "event_type",
            type=event_type,
            metavar="TYPE",
            help="Event type, such as PRE_TOOL_USE; PreToolUse is read too.",
        ),
        click.option("--until", type=moment, help="The same; this moment is left out."),
        click.option(
            "--since", type=moment, help="Failed since (UTC unless it says), or age: 15m, 2h, 7d."
        ),
        click.option("--error-type", metavar="CLASS", help="Such as UndecodableError."),
    ):
        command = option(command)
    return command


def chosen(
    *,
    places: tuple[str, ...],
    group: str | None,
    correlation_id: object,
    key: str | None,
    event_type: str | None,
    until: datetime | None,
    since: datetime | None,
    error_type: str | None,
    text: re.Pattern[str] | None = None,
) -> LetterFilter:
    """Return what the options of `letter_filters` choose; warns of an unknown event type."""
    if event_type is not None:
        warn_types([event_type])
    return LetterFilter(
        places=frozenset(places),
        group=group,
        correlation_id=None if correlation_id is None else str(correlation_id),
        key=None if key is None else key.encode(),
        event_type=event_type,
        until=until,
        since=since,
        error_type=error_type,
        text=text,
    )


def responsible(command: Command) -> Command:
    """Add the options that say who does something, and why."""
    for option in (
        click.option("--reason", default="", help="Why; noted beside each letter."),
        click.option("--operator", default=_user, help="Who; the user of this system by default."),
    ):
        command = option(command)
    return command


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return ""
