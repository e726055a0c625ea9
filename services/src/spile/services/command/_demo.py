"""`spile demo`: all of it at work."""

from __future__ import annotations

from pathlib import Path

import click

from spile.services.command._catalogue import chosen_catalogue
from spile.services.command._topics import apply_catalogue
from spile.services.demo import DemoOptions, run_demo


@click.command()
@click.option(
    "--rate",
    type=click.FloatRange(0.1, 20_000),
    default=200.0,
    show_default=True,
    help="Made-up events per second.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 3_600),
    default=8.0,
    show_default=True,
    help="How long to publish them.",
)
@click.option("--seed", type=click.IntRange(0), help="Makes the same events again.")
@click.option(
    "--json",
    "json_file",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the summary as JSON too.",
)
@click.option("--stay", is_flag=True, help="Keep agents at work afterwards, until Ctrl-C.")
@click.option("--keep-data", is_flag=True, help="Keep the store, the logs and the broker's data.")
@click.pass_context
def demo(
    context: click.Context,
    *,
    rate: float,
    seconds: float,
    seed: int | None,
    json_file: Path | None,
    stay: bool,
    keep_data: bool,
) -> None:
    """
    Start Kafka and the workers, let agents work, and count what arrives.

    Imports a recorded session of a coding agent, publishes made-up workflows, and compares store
    and archive with what was acknowledged. Uses the Kafka of SPILE_BOOTSTRAP_SERVERS when it is
    set; no other workers may run there. Ends with 1 when an event was lost, stored twice, not
    archived or not acknowledged. Leaves nothing behind, unless told to.
    """
    options = DemoOptions(
        rate=rate,
        seconds=seconds,
        seed=seed,
        json_file=json_file,
        stay=stay,
        keep_data=keep_data,
    )
    good = run_demo(options, chosen_catalogue(), apply_catalogue)
    context.exit(0 if good else 1)
