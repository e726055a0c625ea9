"""
Train the zstd dictionary of stored events; the same code gives the same file.

    .venv/bin/python scripts/train_dictionary.py topics/src/spile/topics/encodings/events-1.zdict

A dictionary that was released is never trained again: a new one gets a new file and a new id, in
`spile.topics.encodings._compression`, and the old one stays.
"""  # noqa: INP001 - a program, no package

from __future__ import annotations

import random
import sys
import typing
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import zstandard
from pydantic import BaseModel

from spile.testkit.scenarios import MockEventGenerator
from spile.topics.encodings import EventSerializer
from spile.topics.encodings._compression import LEVEL, NEWEST_DICTIONARY
from spile.topics.encodings._forms import wire_name
from spile.topics.events import EVENT_MODELS, MODELS

SIZE = 32 * 1024
SEED = 2026
SCENARIO_EVENTS = 24_000
OTHER_EVENTS = 60  # of each model that no scenario makes
START = datetime(2026, 1, 1, tzinfo=UTC)
WORDS = ("plan", "read", "edit", "test", "build", "failed", "completed", "the", "file", "error")


def main() -> None:
    """Train, and write the file that is named."""
    rng = random.Random(SEED)  # noqa: S311 - repeatable, not secret
    samples = [*_scenarios(), *_others(rng)]
    trained = zstandard.train_dictionary(SIZE, samples, dict_id=NEWEST_DICTIONARY, level=LEVEL)
    Path(sys.argv[1]).write_bytes(trained.as_bytes())


def _scenarios() -> Iterator[bytes]:
    serializer = EventSerializer()
    traffic = MockEventGenerator(seed=SEED, start=START).generate_traffic()
    for made in islice(traffic, SCENARIO_EVENTS):
        yield serializer.serialize(made.event)[0]


def _others(rng: random.Random) -> Iterator[bytes]:
    for event_type, model in MODELS.items():
        if model in EVENT_MODELS.values():
            continue
        for _ in range(OTHER_EVENTS):
            value = _made_up(model, rng)
            if wire_name(model) is None:
                value = {"event_type": event_type, "payload": value}
            yield msgspec.msgpack.encode(value)


def _made_up(type_: Any, rng: random.Random) -> Any:  # noqa: PLR0911 - one return a kind
    """Return something in the shape of a type; the trainer looks at bytes, not at meaning."""
    origin, arguments = typing.get_origin(type_), typing.get_args(type_)
    if isinstance(type_, type) and issubclass(type_, BaseModel):
        return {
            name: field.default
            if isinstance(field.default, str)
            else _made_up(field.annotation, rng)
            for name, field in type_.model_fields.items()
        }
    if origin is typing.Literal:
        return rng.choice(arguments)
    if origin is typing.Annotated:
        return _made_up(arguments[0], rng)
    if origin is list:
        return [_made_up(arguments[0], rng) for _ in range(rng.randrange(3))]
    if origin is dict:
        return {}
    if arguments:
        return _made_up(rng.choice(arguments), rng)
    if type_ is UUID:
        return str(UUID(int=rng.getrandbits(128), version=4))
    if type_ is datetime:
        moment = START + timedelta(microseconds=rng.randrange(10**13))
        return moment.isoformat().replace("+00:00", "Z")
    if type_ in {int, float, bool}:
        return type_(rng.randrange(5000))
    return " ".join(rng.choices(WORDS, k=rng.randrange(1, 6))) if type_ is str else None


if __name__ == "__main__":
    main()
