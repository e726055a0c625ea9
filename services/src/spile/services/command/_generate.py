"""`spile generate`: publish made-up workflows."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable

import click

from spile.services.command._publisher import open_publisher
from spile.services.demo import Stopwatch, past_traffic, play
from spile.spi import ConfigurationError, InvalidTopicError
from spile.testkit.scenarios import GeneratedEvent, MockEventGenerator, WorkflowScenario

_COUNT = 100
_SEEDS = 1_000_000


@click.command()
@click.option(
    "--scenario",
    type=click.Choice([scenario.value for scenario in WorkflowScenario]),
    help="One whole workflow of this kind; workflows of all kinds when not given.",
)
@click.option(
    "--count", type=click.IntRange(1), help=f"Events; {_COUNT}, or those of the one workflow."
)
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Events per second.")
@click.option("--seed", type=click.IntRange(0), help="Makes the same events again.")
@click.option("--service", default="agent", show_default=True, help="Publish as this service.")
@click.pass_context
def generate(
    context: click.Context,
    *,
    scenario: str | None,
    count: int | None,
    rate: float | None,
    seed: int | None,
    service: str,
) -> None:
    """
    Publish made-up workflows of agents to the Kafka of the SPILE_* settings.

    The topics must be there: `spile topics apply`. Without --rate as fast as they are acknowledged.
    The same seed gives events with the same ids, which a store keeps once. Ends with 1 when an
    event was not acknowledged.
    """
    seed = random.SystemRandom().randrange(_SEEDS) if seed is None else seed
    events = _events(scenario, seed, count)
    try:
        stopwatch = asyncio.run(_publish(events, service, rate))
    except (ConfigurationError, InvalidTopicError) as exc:
        raise click.UsageError(str(exc)) from exc
    published = len(stopwatch.flights)
    click.echo(f"seed {seed}: {published} published, {stopwatch.acknowledged} acknowledged")
    for kind, reason in stopwatch.failures.items():
        click.echo(f"{kind}: {reason}", err=True)
    context.exit(0 if stopwatch.acknowledged == published else 1)


def _events(scenario: str | None, seed: int, count: int | None) -> Iterable[GeneratedEvent]:
    if scenario is None:
        return past_traffic(seed, count or _COUNT)
    made = MockEventGenerator(seed=seed).generate_workflow(WorkflowScenario(scenario))
    return list(made)[:count]


async def _publish(events: Iterable[GeneratedEvent], service: str, rate: float | None) -> Stopwatch:
    async with open_publisher(service) as publisher:
        stopwatch = Stopwatch(publisher=publisher)
        await play(events, stopwatch, lambda number, _: 0.0 if rate is None else number / rate)
    return stopwatch
