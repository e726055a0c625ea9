"""`spile dlq edit`: mend the value of a letter and send the mended copy back."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import click
import msgspec

from spile.adapters.dead_letters import DeadLetter, Reprocessed, ReprocessWish
from spile.adapters.delivery import OutgoingRecord, Record, utc_text
from spile.adapters.kafka import KafkaSender
from spile.adapters.wire import Opener
from spile.services.command._known import hint
from spile.services.command.dlq._options import Desk, Place, responsible, run
from spile.services.command.dlq._view import counted_letters, prepared, viewing
from spile.services.command.dlq._work import report
from spile.services.persistence import Decoder
from spile.spi import RetriableError, UndecodableError
from spile.topics import Catalogue

EDITED = "x-spile-edited"
"""Header of a mended copy: which letter it stands for, when and by whom."""

_JSON = "application/json"
_MOST_PATHS = 2_000
_DEEPEST = 20


@click.command()
@click.argument("topic")
@click.argument("place", metavar="ID", type=Place())
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="PATH=JSON",
    help="Such as payload.tool_name='\"Read\"'; may be repeated.",
)
@click.option("--add", is_flag=True, help="Let --set add a member that the value does not have.")
@click.option(
    "--value-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the whole new value.",
)
@click.option("--dry-run", is_flag=True, help="Check the new value, and write nothing.")
@responsible
@click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON.")
@click.pass_context
def edit(
    context: click.Context,
    *,
    topic: str,
    place: str,
    changes: tuple[str, ...],
    add: bool,
    value_file: Path | None,
    dry_run: bool,
    operator: str,
    reason: str,
    as_json: bool,
) -> None:
    """
    Change the value of a letter and send the copy to the group that failed.

    --set changes a member that the value has; with --add it may be a new one. Without --set and
    --value-file the value opens in $EDITOR, as it is, secrets included. The copy
    is checked against the contract of its topic, written as JSON, and carries the header
    x-spile-edited; the original is marked as done and stays in the log of its queue.
    """
    if changes and value_file:
        raise click.UsageError("give --set or --value-file, not both")
    if add and not changes:
        raise click.UsageError("--add is for --set")
    desk = Desk.open()
    queue = desk.queue(topic)
    wish = ReprocessWish(dry_run=dry_run, operator=operator, reason=reason)

    async def look() -> tuple[DeadLetter, bytes]:
        letter = await desk.letter(queue, place)
        async with viewing(desk.catalogue) as (_, opener):
            await prepared(opener, letter)
            return letter, _opened(letter, opener)

    letter, value = run(look())
    if value_file is not None:
        edited = value_file.read_bytes()
    elif changes:
        edited = with_changes(value, changes, add=add)
    else:
        edited = _in_editor(value)
    if edited == value:
        click.echo(f"{queue}: {counted_letters(0)} edited, the value is as it was", err=True)
        context.exit(1)
    copy = edited_copy(letter, edited, operator=operator)
    check(copy, letter, desk.catalogue, desk.settings.environment)
    tally, unread = run(_send(desk, letter, copy, wish))
    report(tally, queue, dry_run=dry_run, as_json=as_json, unread=unread)
    context.exit(1 if tally.failed else 0)


async def _send(
    desk: Desk, letter: DeadLetter, copy: OutgoingRecord, wish: ReprocessWish
) -> tuple[Reprocessed, list[str]]:
    sender = KafkaSender(desk.settings)
    try:
        tally = await desk.reprocessor(sender).send(letter, copy, wish)
        return tally, await desk.unread(tally.targets)
    finally:
        await sender.close()


def with_changes(value: bytes, changes: tuple[str, ...], *, add: bool = False) -> bytes:
    """
    Return a JSON value with some of its members set.

    Args:
        value: JSON.
        changes: `path=JSON` each.
        add: Whether the last part of a path may be a member that is not there yet.

    Raises:
        click.UsageError: The value is no JSON object, or a change makes no sense.
    """
    try:
        document: Any = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise click.UsageError(
            "the value is no JSON: give a whole new one by --value-file"
        ) from None
    paths = list(itertools.islice(_paths(document, ()), _MOST_PATHS))
    for change in changes:
        path, equals, text = change.partition("=")
        if not path or not equals:
            raise click.UsageError(f"{change[:80]!r} is not PATH=JSON")
        try:
            content = json.loads(text)
        except json.JSONDecodeError:
            raise click.UsageError(
                f"{path} is set to {text[:80]!r}, which is no JSON: texts need quotes"
            ) from None
        try:
            _put(document, path.split("."), content, add=add)
        except LookupError as exc:
            raise click.UsageError(f"{path}: {exc.args[0]}; {hint(path, paths)}") from None
    return msgspec.json.encode(document)


def _put(document: Any, parts: list[str], content: Any, *, add: bool) -> None:
    """Set one member; raises LookupError when there is no such place."""
    *above, last = parts
    holder = document
    for part in above:
        holder = _member(holder, part)
    if not (add and isinstance(holder, dict)):
        _member(holder, last)
    if isinstance(holder, list):
        holder[int(last)] = content
    else:
        holder[last] = content


def _member(holder: Any, part: str) -> Any:
    if isinstance(holder, dict) and part in holder:
        return cast("dict[str, Any]", holder)[part]
    if isinstance(holder, list) and part.isdecimal():
        items = cast("list[Any]", holder)
        if int(part) < len(items):
            return items[int(part)]
    raise LookupError(f"the value has no {part!r} there")


def _paths(document: Any, above: tuple[str, ...]) -> Iterator[str]:
    """Give the path of each member, those nearer to the top first within a branch."""
    if isinstance(document, dict):
        members = list(cast("dict[str, Any]", document).items())
    elif isinstance(document, list):
        members = [(str(index), one) for index, one in enumerate(cast("list[Any]", document))]
    else:
        return
    for name, one in members:
        path = (*above, name)
        yield ".".join(path)
        if len(path) < _DEEPEST:
            yield from _paths(one, path)


def edited_copy(letter: DeadLetter, value: bytes, *, operator: str) -> OutgoingRecord:
    """Return a letter with another value, and headers that say so."""
    origin = f"{letter.record.topic}@{letter.place} {utc_text(datetime.now(UTC))} {operator}"
    headers = [
        (name, _JSON.encode() if name == "content_type" else content)
        for name, content in letter.headers
        if name != EDITED
    ]
    headers.append((EDITED, origin.strip().encode()))
    return OutgoingRecord(letter.origin.topic, letter.record.key, value, headers)


def check(copy: OutgoingRecord, letter: DeadLetter, catalogue: Catalogue, environment: str) -> None:
    """
    Check a mended copy against the contract of its topic, as the event store would.

    Raises:
        click.ClickException: It breaks the contract; names the field.
    """
    origin = letter.origin
    record = Record(
        origin.topic,
        origin.partition,
        origin.offset,
        origin.timestamp,
        copy.key,
        copy.value,
        tuple(copy.headers),
    )
    decoded = Decoder(catalogue, environment).decode([record])
    for _, error in decoded.poison:
        raise click.ClickException(f"the new value would fail again: {error}")


def _opened(letter: DeadLetter, opener: Opener) -> bytes:
    """Return the value as JSON where it can be read, else as it is."""
    value = letter.record.value or b""
    try:
        return opener.open((letter.content_type or _JSON).encode(), value)
    except (UndecodableError, RetriableError):
        return value


def _in_editor(value: bytes) -> bytes:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise click.UsageError(
            "the value is no text: give a whole new one by --value-file"
        ) from None
    try:
        shown = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        shown = text
    changed = click.edit(shown, extension=".json", require_save=True)
    if changed is None or changed.strip() == shown.strip():
        return value
    try:
        return msgspec.json.encode(msgspec.json.decode(changed))
    except msgspec.DecodeError:
        return changed.encode()
