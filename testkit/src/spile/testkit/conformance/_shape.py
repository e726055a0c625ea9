"""What a contract says that `isinstance` does not look at: coroutines and signatures."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, cast

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def departures(contract: type, thing: object) -> list[str]:
    """Return in what a thing departs from a protocol, one line each; empty when it conforms."""
    found: list[str] = []
    for name, member in _members(contract):
        wanted = f"{contract.__name__}.{name}"
        if isinstance(member, property):
            # The class tells whether it is there; to ask the object would run the property.
            if not hasattr(type(thing), name) and name not in vars(thing):
                found.append(f"{wanted} is missing")
            continue
        method = getattr(thing, name, None)
        if not callable(method):
            found.append(f"{wanted} is missing")
            continue
        if inspect.iscoroutinefunction(member) and not inspect.iscoroutinefunction(method):
            found.append(f"{wanted} is no coroutine function")
        if not inspect.iscoroutinefunction(member) and inspect.iscoroutinefunction(method):
            found.append(f"{wanted} is a coroutine function, and should not be")
        found += [f"{wanted}: {why}" for why in _signature_departures(member, method)]
    return found


def _members(contract: type) -> Iterator[tuple[str, Any]]:
    seen: set[str] = set()
    for owner in contract.__mro__:
        if not getattr(owner, "_is_protocol", False):
            continue
        for name, member in vars(owner).items():
            is_public = not name.startswith("_") or name in {"__aenter__", "__aexit__"}
            is_member = isinstance(member, property) or inspect.isfunction(member)
            if is_public and is_member and name not in seen:
                seen.add(name)
                yield name, member


def _signature_departures(member: Any, method: Any) -> Iterator[str]:
    wanted = list(inspect.signature(member).parameters.values())[1:]
    given = list(inspect.signature(method).parameters.values())
    by_name = {parameter.name: parameter for parameter in given}
    positional = [parameter.name for parameter in given if parameter.kind in _POSITIONAL]
    takes_any = {parameter.kind for parameter in given} >= set(_VARIABLE)
    for place, parameter in enumerate(wanted):
        found = by_name.get(parameter.name)
        if found is None:
            if not takes_any:
                yield f"parameter {parameter.name} is missing"
        elif parameter.kind in _POSITIONAL and positional[place : place + 1] != [parameter.name]:
            yield f"parameter {parameter.name} is not number {place + 1}"
        elif _is_optional(parameter) and not _is_optional(found):
            yield f"parameter {parameter.name} has no default"
    known = {parameter.name for parameter in wanted}
    for parameter in given:
        if parameter.name not in known and not _is_optional(parameter):
            yield f"parameter {parameter.name} is not in the contract and has no default"


def _is_optional(parameter: inspect.Parameter) -> bool:
    default = cast("object", parameter.default)
    return parameter.kind in _VARIABLE or default is not inspect.Parameter.empty
