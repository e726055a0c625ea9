"""The `spile` command; each subcommand is imported when it is asked for."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence

import click

_COMMANDS = {
    "up": ("_broker", "up", "Start a Kafka broker that stays."),
    "down": ("_broker", "down", "End the broker that `up` started."),
    "status": ("_broker", "status", "Show whether the broker is up."),
    "topics": ("_topics", "topics", "List topics, plan and apply the catalogue."),
    "run": ("_run", "run", "Run a worker, or all of them."),
    "events": ("_events", "events", "Look at stored events."),
    "store": ("_store", "store", "Look after the event store."),
    "archive": ("archive", "archive", "Look at the archive, prove and replay it."),
    "dlq": ("dlq", "dlq", "Look at dead letters, send them back, mend or purge them."),
    "audit": ("audit", "audit", "Compare what was published with what is kept."),
    "import": ("_import", "import_", "Publish what agents left behind."),
    "generate": ("_generate", "generate", "Publish made-up workflows of agents."),
    "schemas": ("_schemas", "schemas", "Keep the schemas of events in files."),
    "spi": ("_spi", "spi", "Look after the contracts."),
    "demo": ("_demo", "demo", "Show it all at work."),
}

_BROKER_HINT = (
    'SPILE_BOOTSTRAP_SERVERS names the brokers; `eval "$(spile up)"` starts one on this machine'
)


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return [name for name, (module, _, _) in _COMMANDS.items() if _exists(module)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        module, attribute, _ = _COMMANDS.get(cmd_name, ("", "", ""))
        if not module or not _exists(module):
            return None
        return getattr(importlib.import_module(f"{__name__}.{module}"), attribute)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name][2]) for name in self.list_commands(ctx)])


def _exists(module: str) -> bool:
    return importlib.util.find_spec(f"{__name__}.{module}") is not None


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="spile-services", prog_name="spile")
def command() -> None:
    """
    Carry what agents do over Kafka, keep it, and look at it.

    Settings are read from SPILE_* variables. Ends with 1 on an error, 2 on wrong usage.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Run the command line and end the process.

    Errors of ours become one clear line; SPILE_DEBUG=1 shows their traceback.

    Args:
        arguments: Those of the process by default.
    """
    from spile.spi import BrokerUnavailableError, SpileError  # noqa: PLC0415 - `--help` needs none

    try:
        code = command.main(arguments, prog_name="spile", standalone_mode=False)
    except click.ClickException as exc:
        exc.show()
        sys.exit(exc.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("aborted", err=True)
        sys.exit(1)
    except SpileError as exc:
        if os.environ.get("SPILE_DEBUG", "") not in {"", "0", "false"}:
            raise
        hint = f"; {_BROKER_HINT}" if isinstance(exc, BrokerUnavailableError) else ""
        click.echo(f"error: {exc}{hint}", err=True)
        sys.exit(1)
    except BrokenPipeError:
        # The reader of the pipe left; without this the interpreter complains at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


__all__ = ["command", "main"]
