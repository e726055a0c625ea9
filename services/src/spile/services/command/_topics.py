"""`spile topics`: what the catalogue says, what the cluster has, and making them agree."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import click

from spile.adapters.kafka import KafkaAdmin, KafkaSettings, load_settings
from spile.services.command._catalogue import CatalogueSettings, chosen_catalogue
from spile.services.command._options import age_text
from spile.services.command._tables import Column, print_table
from spile.services.runtime import configure_logging
from spile.spi import ConfigurationError, InvalidTopicError
from spile.topics import Plan, TopicSetup, TopicSpec, plan

_DIFFERENT = 3
_UNKNOWN_SHOWN = 20
_TOPIC = Column(name="topic", heads=True)
_PARTITIONS = Column(name="partitions", is_number=True)
_COPIES = Column(name="copies", is_number=True)


def _shared(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--environment", "-e", help="Instead of SPILE_ENVIRONMENT."),
        click.option(
            "--service",
            "-s",
            "services",
            multiple=True,
            help="Service to fill in the templates for; may be repeated.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
    ):
        command = option(command)
    return command


@click.group()
def topics() -> None:
    """
    Show the topics of the catalogue and make the cluster have them.

    The catalogue is that of SPILE_CATALOGUE=module:attribute, else the default one.
    """


@topics.command("list")
@_shared
def list_(environment: str | None, services: tuple[str, ...], *, as_json: bool) -> None:
    """Print the topics of the catalogue; needs no broker."""
    try:
        settings = load_settings(CatalogueSettings)
        wanted = chosen_catalogue(services).topics(environment or settings.environment)
    except (ConfigurationError, InvalidTopicError) as exc:
        raise click.UsageError(str(exc)) from exc
    if as_json:
        rows = [{"topic": name, **_described(spec)} for name, spec in sorted(wanted.items())]
        click.echo(json.dumps(rows, indent=2))
        return
    texts = (Column(name=name) for name in ("retention", "cleanup", "owner"))
    columns = (_TOPIC, _PARTITIONS, _COPIES, *texts, Column(name="key", folds=True))
    shown = ((name, spec, _described(spec)["retention"]) for name, spec in sorted(wanted.items()))
    print_table(
        columns,
        [
            (
                name,
                str(spec.partitions),
                str(spec.replication),
                retention,
                spec.cleanup,
                spec.owner,
                spec.key,
            )
            for name, spec, retention in shown
        ],
    )


@topics.command("plan")
@_shared
def plan_(environment: str | None, services: tuple[str, ...], *, as_json: bool) -> None:
    """Print what `apply` would do; ends with 3 when there is a difference, with 0 otherwise."""
    settings, wanted = _wanted(environment, services)
    found = _ask(_plan(settings, wanted))
    _print(found, as_json=as_json)
    if not found.is_empty:
        raise click.exceptions.Exit(_DIFFERENT)


@topics.command("apply")
@_shared
@click.option(
    "--allow-rekey",
    is_flag=True,
    help="Add partitions too; keys then go to other partitions than before.",
)
def apply_(
    environment: str | None, services: tuple[str, ...], *, as_json: bool, allow_rekey: bool
) -> None:
    """
    Make missing topics and set what has drifted.

    Never deletes a topic, takes partitions away or changes replication. Ends with 3 when a
    difference is left, with 0 otherwise.
    """
    settings, wanted = _wanted(environment, services)
    done, left = _ask(apply_catalogue(settings, wanted, allow_rekey=allow_rekey))
    if as_json:
        click.echo(json.dumps({"done": done, "left": _as_json(left)}, indent=2))
    else:
        for line in done:
            click.echo(line)
        if not done and left.is_empty:
            click.echo("nothing to do")
        _print_differences(left)
    if not left.is_empty:
        raise click.exceptions.Exit(_DIFFERENT)


async def _plan(settings: KafkaSettings, wanted: Mapping[str, TopicSpec]) -> Plan:
    async with KafkaAdmin(settings) as admin:
        return plan(
            wanted,
            await admin.describe(),
            brokers=await admin.broker_count(),
            environment=settings.environment,
        )


async def apply_catalogue(
    settings: KafkaSettings, wanted: Mapping[str, TopicSpec], *, allow_rekey: bool = False
) -> tuple[list[str], Plan]:
    """
    Make a cluster's topics those of the catalogue.

    Args:
        settings: How to connect.
        wanted: Topics by full name.
        allow_rekey: Add partitions too.

    Returns:
        What was done, one line each, and what is left.

    Raises:
        SpileError: The cluster cannot be reached, or refuses.
    """
    first = await _plan(settings, wanted)
    async with KafkaAdmin(settings) as admin:
        done = await admin.apply(first, allow_rekey=allow_rekey)
    left = Plan(
        drifted=tuple(
            difference
            for difference in first.drifted
            if difference.action == "never" or (difference.action == "grow" and not allow_rekey)
        ),
        unknown=first.unknown,
    )
    return done, left


def _wanted(
    environment: str | None, services: tuple[str, ...]
) -> tuple[KafkaSettings, dict[str, TopicSpec]]:
    # What is done is told by the command itself; the adapter's lines would repeat it.
    configure_logging("error")
    try:
        given = {} if environment is None else {"environment": environment}
        settings = KafkaSettings.load(**given)
        return settings, dict(chosen_catalogue(services).topics(settings.environment))
    except (ConfigurationError, InvalidTopicError) as exc:
        raise click.UsageError(str(exc)) from exc


def _ask(work: Any) -> Any:
    try:
        return asyncio.run(work)
    except ConfigurationError as exc:
        raise click.UsageError(str(exc)) from exc


def _print(found: Plan, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(_as_json(found), indent=2))
        return
    if found.missing:
        columns = (Column(name="to create", heads=True), _PARTITIONS, _COPIES)
        note = Column(name="note", folds=True)
        print_table((*columns, note), [_row(setup) for setup in found.missing])
    _print_differences(found)
    if found.unknown:
        names = ", ".join(found.unknown[:_UNKNOWN_SHOWN])
        more = len(found.unknown) - _UNKNOWN_SHOWN
        click.echo(f"not in the catalogue, left alone: {names}{f' and {more} more' * (more > 0)}")
    if found.is_empty:
        click.echo("the cluster is as the catalogue says")


def _print_differences(found: Plan) -> None:
    if not found.drifted:
        return
    told = {
        "set": "will be set",
        "grow": "needs --allow-rekey",
        "never": "is never done: change the catalogue, or move the topic by hand",
    }
    texts = ("setting", "catalogue", "cluster")
    columns = (_TOPIC, *(Column(name=name) for name in texts), Column(name="apply", folds=True))
    print_table(
        columns,
        [
            (each.topic, each.setting, each.wanted, each.present or "-", told[each.action])
            for each in found.drifted
        ],
    )


def _row(setup: TopicSetup) -> tuple[str, ...]:
    notes = "; ".join(setup.notes)
    return setup.topic, str(setup.partitions), str(setup.replication), notes


def _described(spec: TopicSpec) -> dict[str, Any]:
    return {
        "partitions": spec.partitions,
        "replication": spec.replication,
        "retention": age_text(spec.retention) if "delete" in spec.cleanup else "-",
        "cleanup": spec.cleanup,
        "max_message_bytes": spec.max_message_bytes,
        "min_insync_replicas": spec.min_insync_replicas,
        "key": spec.key,
        "owner": spec.owner,
        "event_types": sorted(spec.contracts),
    }


def _as_json(found: Plan) -> dict[str, Any]:
    return {
        "missing": [{**asdict(setup), "config": dict(setup.config)} for setup in found.missing],
        "drifted": [asdict(difference) for difference in found.drifted],
        "unknown": list(found.unknown),
    }
