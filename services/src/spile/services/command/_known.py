"""What to say about a name that nothing has, so that a mistyped filter is not taken for nothing."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

import click

from spile.services.command._catalogue import chosen_catalogue
from spile.services.command._options import plain
from spile.topics import TICK

_LISTED = 8
_LONGEST = 100


def hint(name: str, known: Collection[str]) -> str:
    """Return what may have been meant: the nearest known name, else those that there are."""
    near = difflib.get_close_matches(name[:_LONGEST], known, n=1)
    if near:
        return f"did you mean {plain(near[0])}?"
    listed = [plain(one) for one in sorted(known)]
    more = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    return f"there are {', '.join(listed[:_LISTED])}{more}" if listed else "there are none"


def warn_types(types: Iterable[str]) -> None:
    """
    Warn on stderr of event types that the catalogue does not have; a foreign one may be meant.

    Raises:
        ConfigurationError: SPILE_CATALOGUE names no catalogue.
    """
    wanted = sorted(set(types))
    if not wanted:
        return
    known = {TICK, *(kind for spec in chosen_catalogue() for kind in spec.contracts)}
    for name in wanted:
        if name not in known:
            shown = plain(name[:_LONGEST])
            near = difflib.get_close_matches(name[:_LONGEST], known, n=1)
            advice = f": did you mean {near[0]}?" if near else ""
            click.echo(f"warning: the catalogue has no event type {shown}{advice}", err=True)
