"""`spile up`, `down` and `status`: a broker that stays when the command is over."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import click

from spile.spi import BrokerUnavailableError, ConfigurationError
from spile.testkit.broker import (
    KAFKA_VERSION,
    BrokerSettings,
    ClusterFolder,
    EmbeddedBroker,
    cluster_view,
    remember_standing_folder,
    standing_folder,
)


@click.command()
@click.option("--brokers", type=click.IntRange(1, 9), help="How many; default 1.")
@click.option("--port", type=click.IntRange(1024, 32767), help="First port; default: free ones.")
@click.option(
    "--data",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for data and logs; default .spile/broker.",
)
def up(brokers: int | None, port: int | None, data: Path | None) -> None:
    """
    Start a Kafka broker, or a cluster, that stays until `spile down`.

    Prints the line that lets programs find it, so that `eval "$(spile up)"` sets it. When it is
    up already, that is all it does. The data stay between `down` and `up`.
    """
    settings = BrokerSettings()
    if settings.bootstrap_servers:
        _require_answer(settings.bootstrap_servers)
        click.echo("SPILE_BOOTSTRAP_SERVERS is set and answers: nothing to start", err=True)
        _print_export(settings.bootstrap_servers)
        return
    with _alone(settings.home):
        folder = standing_folder(settings.home) if data is None else ClusterFolder(path=data)
        try:
            _require_one_home(settings.home, folder)
            started = _ensure_up(settings.home, folder, brokers, port)
        except (ConfigurationError, BrokerUnavailableError) as error:
            raise click.ClickException(str(error)) from error
    _print_summary(folder, "is up" if started else "was up already")


@click.command()
@click.option("--delete-data", is_flag=True, help="Also delete topics, records and logs.")
def down(*, delete_data: bool) -> None:
    """End the broker that `spile up` started; its data stay."""
    home = BrokerSettings().home
    with _alone(home):
        folder = standing_folder(home)
        ended = folder.end()
        known = bool(folder.addresses())
        if delete_data and known:
            shutil.rmtree(folder.path)
    click.echo(f"ended {_brokers(len(ended))}" if ended else "no broker was running")
    if known:
        click.echo(f"{'deleted' if delete_data else 'kept'} the data in {folder.path}")


@click.command()
@click.pass_context
def status(context: click.Context) -> None:
    """Say whether the broker runs: exit code 0 when all of it answers, else 1."""
    settings = BrokerSettings()
    if settings.bootstrap_servers:
        _require_answer(settings.bootstrap_servers)
        click.echo(f"SPILE_BOOTSTRAP_SERVERS answers: {settings.bootstrap_servers}")
        return
    folder = standing_folder(settings.home)
    addresses = folder.addresses()
    answering = 0
    for address in addresses:
        mark = folder.mark(address.node)
        answers = mark is not None and cluster_view(address.client) is not None
        answering += answers
        state = "runs" if answers else "does not answer" if mark else "is down"
        process = f" (process {mark.pid})" if mark else ""
        click.echo(f"broker {address.node} at {address.client} {state}{process}")
    if not addresses:
        click.echo("no broker was started here; `spile up` starts one")
    if not addresses or answering < len(addresses):
        context.exit(1)
    _print_export(folder.bootstrap_servers())


def _require_one_home(home: Path, folder: ClusterFolder) -> None:
    """Refuse a second broker beside one that runs from another folder."""
    other = standing_folder(home)
    if other.path.resolve() != folder.path.resolve() and other.running():
        raise ConfigurationError(
            f"a broker with its data in {other.path} is up; end it with `spile down` first"
        )


def _ensure_up(home: Path, folder: ClusterFolder, brokers: int | None, port: int | None) -> bool:
    """Start what does not run; say whether anything was started."""
    known = folder.addresses()
    count = brokers or len(known) or 1
    if known and len(folder.running()) == len(known):
        if len(known) != count or (port is not None and known[0].port != port):
            raise ConfigurationError(
                f"{_brokers(len(known))} at {folder.bootstrap_servers()} already up; `spile down`"
                " first to change that"
            )
        return False
    folder.end()
    EmbeddedBroker(brokers=count, port=port, data=folder.path, detached=True).release()
    remember_standing_folder(home, folder.path)
    return True


@contextmanager
def _alone(home: Path) -> Generator[None]:
    """Keep a second `up` or `down` of the same home waiting."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "broker.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _require_answer(bootstrap_servers: str) -> None:
    """Stop with one line when none of the given brokers answers."""
    addresses = [address.strip() for address in bootstrap_servers.split(",")]
    if not any(cluster_view(address, timeout_s=3.0) for address in addresses):
        raise click.ClickException(
            f"SPILE_BOOTSTRAP_SERVERS is {bootstrap_servers}, and nothing there speaks Kafka in"
            " plain text; unset it to use a broker of spile's own"
        )


def _print_summary(folder: ClusterFolder, verb: str) -> None:
    """Tell a person what runs where; standard output gets the export line alone."""
    addresses = folder.addresses()
    click.echo(f"kafka {KAFKA_VERSION} {verb}: {_brokers(len(addresses))}", err=True)
    click.echo(f"address: {folder.bootstrap_servers()}", err=True)
    click.echo(f"data and logs: {folder.path.resolve()}", err=True)
    _print_export(folder.bootstrap_servers())


def _print_export(bootstrap_servers: str) -> None:
    click.echo(f"export SPILE_BOOTSTRAP_SERVERS={bootstrap_servers}")


def _brokers(count: int) -> str:
    return f"{count} broker{'' if count == 1 else 's'}"
