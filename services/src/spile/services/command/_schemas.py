"""`spile schemas`: the schemas of all events, in files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from spile.services.command._catalogue import chosen_catalogue
from spile.spi import ConfigurationError, InvalidTopicError
from spile.topics.schemas import (
    FAMILIES,
    ExportFormat,
    asyncapi,
    avro_schemas,
    check_schemas,
    delete_strays,
    freeze,
    generated_files,
    render,
    to_yaml,
    write_files,
)

_YAML = (".yaml", ".yml")
_ENDINGS = (".json", ".avsc", *_YAML)


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
    """
    Write the schemas that the models make.

    Files that no model stands behind any more are deleted; releases stay as they are.
    """
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
    Check that files are current and versions honest.

    Releases must be untouched. A breaking change needs a new major version, a compatible one a new
    minor version. Ends with 0 when all is well, with 1 when something is wrong.
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
    Freeze versions that are not released yet.

    Of the families that are named, else of all. Releases that are there are never rewritten.
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


@schemas.command()
@click.option(
    "--format",
    "format_",
    required=True,
    type=click.Choice([one.value for one in ExportFormat]),
    help="JSON Schema as json or yaml, avro, or asyncapi: the whole catalogue.",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help="A file (its ending .json, .yaml, .yml or .avsc says so) or a folder; else standard "
    "output.",
)
@click.option("--service", "-s", "services", multiple=True, help="asyncapi: for these services.")
def export(format_: str, output: Path | None, services: tuple[str, ...]) -> None:
    """
    Write the schemas of all events for other tools.

    Into a folder: one file for each family (json, yaml) or event type (avro), or asyncapi.yaml.
    Into one file or standard output: one document; of json, yaml and avro an object that holds
    the schemas by name.
    """
    wanted = ExportFormat(format_)
    try:
        documents = _documents(wanted, services)
        if output is None:
            click.echo(_text(documents, as_yaml=wanted is ExportFormat.YAML), nl=False)
        elif output.suffix in _ENDINGS and not output.is_dir():
            output.parent.mkdir(parents=True, exist_ok=True)
            is_yaml = output.suffix in _YAML or wanted is ExportFormat.YAML
            output.write_text(_text(documents, as_yaml=is_yaml), encoding="utf-8")
            click.echo(f"{output}: written", err=True)
        else:
            written = write_files(output, _files(wanted, documents))
            click.echo(f"{output}: {_counted(len(written), 'file')} written", err=True)
    except OSError as exc:
        raise _unwritable(exc) from exc
    except (ConfigurationError, InvalidTopicError) as exc:
        raise click.UsageError(str(exc)) from exc


def _documents(wanted: ExportFormat, services: tuple[str, ...]) -> dict[str, Any]:
    match wanted:
        case ExportFormat.ASYNCAPI:
            return asyncapi(chosen_catalogue(services))
        case ExportFormat.AVRO:
            return dict(avro_schemas())
        case _:
            return {name: family.schema() for name, family in FAMILIES.items()}


def _text(document: dict[str, Any], *, as_yaml: bool) -> str:
    return to_yaml(document) if as_yaml else render(document)


def _files(wanted: ExportFormat, documents: dict[str, Any]) -> dict[str, str]:
    match wanted:
        case ExportFormat.ASYNCAPI:
            return {"asyncapi.yaml": to_yaml(documents)}
        case ExportFormat.AVRO:
            return {f"{name}.avsc": render(schema) for name, schema in documents.items()}
        case ExportFormat.YAML:
            return {f"{name}.yaml": to_yaml(schema) for name, schema in documents.items()}
        case ExportFormat.JSON:
            return {f"{name}.json": render(schema) for name, schema in documents.items()}


def _unwritable(exc: OSError) -> click.ClickException:
    place = str(exc.filename or "the file")
    return click.ClickException(f"cannot write {place!r}: {exc.strerror}")


def _counted(number: int, noun: str) -> str:
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"
