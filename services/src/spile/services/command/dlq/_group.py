"""`spile dlq`: dead letters, for people."""

from __future__ import annotations

import heapq
import itertools
import json
import re
from dataclasses import replace
from typing import Any

import click
from rich.text import Text

from spile.adapters.dead_letters import DLQ_SUFFIX, DeadLetter, LetterFilter
from spile.adapters.kafka import KafkaAdmin
from spile.services.command._tables import Column, console, print_table
from spile.services.command.dlq._edit import edit
from spile.services.command.dlq._options import Desk, Place, chosen, letter_filters, run
from spile.services.command.dlq._view import (
    Statistics,
    counted_letters,
    prepared,
    print_letters,
    show_letter,
    viewing,
)
from spile.services.command.dlq._work import purge, reprocess

_SHOWN = 20

_topic = click.argument("topic")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, one letter per line.")


@click.group()
def dlq() -> None:
    """
    Look at dead letters, mend them, send them back to the group that failed, or purge them.

    TOPIC is the name of a topic or of its queue, with or without the environment. An id is
    <partition>:<offset> within the queue. Payloads and headers are shown without secrets.
    """


dlq.add_command(reprocess)
dlq.add_command(edit)
dlq.add_command(purge)


@dlq.command("list")
@click.argument("topic", required=False)
@letter_filters
@click.option("--limit", type=click.IntRange(1), default=_SHOWN, show_default=True)
@_json
def list_(topic: str | None, *, limit: int, as_json: bool, **filters: Any) -> None:
    """Print the letters of a queue, the newest last; without TOPIC, all queues that hold some."""
    desk, which = Desk.open(), chosen(**filters)
    if topic is None:
        run(_print_queues(desk, which, as_json=as_json))
    else:
        run(_print_letters(desk, desk.queue(topic), which, limit, as_json=as_json))


@dlq.command()
@_topic
@click.argument("pattern")
@letter_filters
@click.option("--ignore-case", "-i", is_flag=True)
@click.option("--limit", type=click.IntRange(1), default=_SHOWN, show_default=True)
@_json
def grep(
    topic: str, pattern: str, *, ignore_case: bool, limit: int, as_json: bool, **filters: Any
) -> None:
    """
    Print the letters that hold PATTERN, a regular expression of Python.

    Value, key, headers and the error's text are searched as they came; shown without secrets.
    """
    try:
        compiled = re.compile(pattern, re.IGNORECASE if ignore_case else 0)
    except re.error as exc:
        raise click.UsageError(f"{pattern!r} is no regular expression: {exc}") from exc
    desk, which = Desk.open(), chosen(text=compiled, **filters)
    run(_print_letters(desk, desk.queue(topic), which, limit, as_json=as_json))


@dlq.command()
@_topic
@click.argument("place", metavar="ID", type=Place())
@_json
def show(topic: str, place: str, *, as_json: bool) -> None:
    """Print one letter in full."""
    desk = Desk.open()
    queue = desk.queue(topic)

    async def work() -> None:
        async with viewing(desk.catalogue) as (view, opener):
            letter = await desk.letter(queue, place)
            await prepared(opener, letter)
            if as_json:
                click.echo(view.line(letter))
            else:
                show_letter(view, letter, console())

    run(work())


@dlq.command()
@_topic
@letter_filters
@_json
def stats(topic: str, *, as_json: bool, **filters: Any) -> None:
    """Count letters by group, error and event type."""
    desk, which = Desk.open(), chosen(**filters)
    queue = desk.queue(topic)

    async def work() -> None:
        async with viewing(desk.catalogue) as (view, _), desk.browser(queue) as browser:
            state = await browser.look(need_marks=False)
            counted = Statistics()
            async for letter in browser.letters(state, which):
                counted.add(letter)
            if as_json:
                facts = {"queue": queue, "open": counted.total, "kinds": counted.rows(view)}
                click.echo(json.dumps(facts, ensure_ascii=False))
                return
            if not counted.total:
                await desk.look_for(queue, replace(which, places=()))
            click.echo(f"{queue}: {counted_letters(counted.total)}")
            if counted.total:
                counted.print_table(view)

    run(work())


async def _print_letters(
    desk: Desk, queue: str, which: LetterFilter, limit: int, *, as_json: bool
) -> None:
    async with viewing(desk.catalogue) as (view, opener), desk.browser(queue) as browser:
        state = await browser.look(need_marks=False)
        total, numbers = 0, itertools.count()
        newest: list[tuple[Any, int, DeadLetter]] = []
        async for letter in browser.letters(state, which):
            total += 1
            entry = letter.failed_at, next(numbers), letter
            if len(newest) < limit:
                heapq.heappush(newest, entry)
            else:
                heapq.heappushpop(newest, entry)
        letters = [entry[2] for entry in sorted(newest, key=lambda entry: entry[:2])]
        for letter in letters:
            await prepared(opener, letter)
        if as_json:
            for letter in letters:
                click.echo(view.line(letter))
            return
        if not total:
            await desk.look_for(queue, replace(which, places=()))
        more = "" if total <= limit else f", the newest {limit} are shown"
        click.echo(f"{queue}: {counted_letters(total)}{more}")
        if letters:
            out = console()
            print_letters(view, letters, out)
            for letter in letters if which.text is not None else []:
                found = view.found(letter, which.text or re.compile(""))
                out.print(Text.assemble((f"{letter.place}  ", "bold"), found))


async def _print_queues(desk: Desk, which: LetterFilter, *, as_json: bool) -> None:
    found: list[dict[str, Any]] = []
    async with KafkaAdmin(desk.settings) as admin:
        prefix = f"{desk.settings.environment}."
        queues = [
            name
            for name in await admin.topics()
            if name.endswith(DLQ_SUFFIX) and name.startswith(prefix)
        ]
        keys = await admin.partitions(queues)
        ends, starts = await admin.end_offsets(keys), await admin.beginning_offsets(keys)
    for queue in sorted({key[0] for key in keys if starts[key] < ends[key]}):
        async with desk.browser(queue) as browser:
            counted = Statistics()
            async for letter in browser.letters(await browser.look(need_marks=False), which):
                counted.add(letter)
        if counted.total:
            found.append({"queue": queue, "open": counted.total, "last": counted.last})
    if as_json:
        for row in found:
            click.echo(json.dumps(row))
        return
    if not found:
        click.echo(f"no letters in the {len(queues)} queues of {desk.settings.environment}")
        return
    print_table(
        (
            Column(name="queue", heads=True),
            Column(name="letters", is_number=True),
            Column(name="last failed"),
        ),
        [(row["queue"], str(row["open"]), row["last"][:19].replace("T", " ")) for row in found],
    )
