"""`spile spi`: the checker of service provider interfaces."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from spile.testkit.spi_check import (
    CheckInputError,
    CheckReport,
    Finding,
    check_paths,
    default_path,
    staged_paths,
)


@click.group()
def spi() -> None:
    """Look after the contracts."""


@spi.command()
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--fix", is_flag=True, help="Repair SPI003, SPI004 and SPI013 in the files.")
@click.option(
    "--json-report",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write findings and counts as JSON.",
)
@click.option(
    "--pre-commit",
    is_flag=True,
    help="Quick mode: one line per finding; without PATH only what git has staged.",
)
@click.pass_context
def check(
    context: click.Context,
    paths: tuple[Path, ...],
    json_report: Path | None,
    *,
    fix: bool,
    pre_commit: bool,
) -> None:
    """
    Check that an SPI holds contracts only: rules SPI001 to SPI016.

    PATH is a file or a folder; without one the installed spile.spi is checked. Ends with 0 when
    clean, 1 when something is wrong, 2 when it cannot check.
    """
    try:
        report = _checked(paths, fix=fix, pre_commit=pre_commit)
        if json_report is not None:
            text = json.dumps(report.as_dict(), indent=2, ensure_ascii=False)
            json_report.write_text(f"{text}\n", encoding="utf-8")
    except CheckInputError as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        raise click.UsageError(f"cannot write {error.filename}: {error.strerror}") from error
    _show(report, terse=pre_commit)
    context.exit(0 if report.clean else 1)


def _checked(paths: Sequence[Path], *, fix: bool, pre_commit: bool) -> CheckReport:
    if not paths:
        paths = staged_paths() if pre_commit else [default_path()]
    return check_paths(paths, fix=fix)


def _show(report: CheckReport, *, terse: bool) -> None:
    for finding in report.fixed:
        click.echo(f"{_place(finding)}: fixed {finding.rule} {finding.message}")
    for finding in report.findings:
        click.echo(f"{_place(finding)}: {finding.rule} {finding.message}")
        if not terse:
            click.echo(f"    way out: {finding.way_out}")
    if terse:
        return
    fixable = sum(finding.fixable for finding in report.findings)
    click.echo(
        f"{_counted(len(report.files), 'file')} checked, "
        f"{_counted(len(report.findings), 'finding')}"
        + (f", {len(report.fixed)} fixed" if report.fixed else "")
        + (f", {fixable} of them can be repaired with --fix" if fixable else "")
    )


def _place(finding: Finding) -> str:
    path = finding.path.absolute()
    folder = Path.cwd()
    shown = path.relative_to(folder) if path.is_relative_to(folder) else path
    return f"{shown}:{finding.line}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
