"""`spile schemas`: the schemas of all events, in files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from spile.spi import ConfigurationError
from spile.topics.schemas import (
    FAMILIES,
    check_schemas,
    delete_strays,
    freeze,
    generated_files,
    write_files,
)


def _folder(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--folder",
        default="schemas",
        show_default=True,
        type=click.Path(file_okay=False, path_type=Path),
        help="Where the committed schemas are.",
    )(command)


@click.group()
def schemas() -> None:
    """Keep the schemas of events in files: current, and released ones unchanged."""


@schemas.command()
@_folder
def generate(folder: Path) -> None:
    """Write the schemas that the models make; releases stay as they are."""
    try:
        written = write_files(folder, generated_files())
        deleted = delete_strays(folder)
    except OSError as exc:
        raise _unwritable(exc) from exc
    for path in written:
        click.echo(f"{folder / path}: written")
    for path in deleted:
        click.echo(f"{folder / path}: deleted, no model stands behind it")
    if not written and not deleted:
        click.echo("nothing to do")


@schemas.command()
@_folder
@click.pass_context
def check(context: click.Context, folder: Path) -> None:
    """
    Check that the files are current, releases untouched, and versions honest.

    A breaking change needs a new major version, a compatible one a new minor version. Ends with 0
    when all is well, with 1 when something is wrong.
    """
    if not folder.is_dir():
        raise click.UsageError(f"there is no folder {str(folder)!r}: say which by --folder")
    try:
        findings = check_schemas(folder)
    except OSError as exc:
        raise click.ClickException(f"cannot read {exc.filename}: {exc.strerror}") from exc
    for finding in findings:
        click.echo(f"{finding}")
    for way_out in dict.fromkeys(finding.way_out for finding in findings):
        click.echo(f"    way out: {way_out}")
    click.echo(f"{_counted(len(FAMILIES), 'family')} checked, {_counted(len(findings), 'finding')}")
    context.exit(1 if findings else 0)


@schemas.command()
@_folder
@click.argument("names", metavar="[FAMILY]...", nargs=-1)
def release(folder: Path, names: tuple[str, ...]) -> None:
    """
    Freeze the schemas of families whose version is not released yet; all of them by default.

    Releases that are there are never rewritten.
    """
    unknown = [name for name in names if name not in FAMILIES]
    if unknown:
        raise click.UsageError(f"no family {unknown[0]!r}, there are {', '.join(FAMILIES)}")
    for name in names or FAMILIES:
        family = FAMILIES[name]
        try:
            frozen = freeze(folder, family)
        except OSError as exc:
            raise _unwritable(exc) from exc
        except ConfigurationError as exc:
            raise click.ClickException(str(exc)) from exc
        told = f"released, {_counted(len(frozen) - 1, 'file')}" if frozen else "released before"
        click.echo(f"{name} {family.version}: {told}")


def _unwritable(exc: OSError) -> click.ClickException:
    place = str(exc.filename or "the file")
    return click.ClickException(f"cannot write {place!r}: {exc.strerror}")


def _counted(number: int, noun: str) -> str:
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"
