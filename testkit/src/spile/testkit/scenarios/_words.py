"""The words that fill in parameters, goals and results."""

from __future__ import annotations

import random
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_FILES: Final = (
    "src/orders/pricing.py",
    "src/orders/checkout.py",
    "src/tides/forecast.py",
    "src/tides/stations.py",
    "src/auth/session.py",
    "src/auth/tokens.py",
    "src/api/routes.py",
    "src/api/pagination.py",
    "src/storage/cache.py",
    "src/storage/migrations/0042_index.py",
    "src/jobs/scheduler.py",
    "src/ui/calendar.ts",
)

WORDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "file": _FILES,
        "folder": ("src/orders", "src/tides", "src/auth", "src/api", "src/storage", "src/jobs"),
        "glob": ("src/**/*.py", "tests/**/test_*.py", "**/*.toml", "docs/**/*.md"),
        "symbol": (
            "apply_discount",
            "next_high_tide",
            "refresh_token",
            "parse_cursor",
            "CacheMiss",
            "retry_after",
            "is_expired",
            "lock_timeout",
            "TODO",
        ),
        "command": (
            "git status --short",
            "make build",
            "python -m compileall src",
            "docker compose ps",
            "git log --oneline -20",
            "npm run typecheck",
            "du -sh build",
        ),
        "test": ("tests/orders", "tests/tides", "tests/auth", "tests/api", "tests"),
        "branch": ("fix/rounding", "feature/waitlist", "fix/dst-tides", "perf/cursor-cache"),
        "service": ("orders", "tides", "auth", "gateway", "scheduler"),
        "question": (
            "sqlite busy timeout under concurrent writers",
            "cursor pagination stable order",
            "daylight saving time and local midnight",
            "constant time comparison of tokens",
            "asyncio cancellation in a task group",
        ),
    }
)

MODELS: Final = ("model-large", "model-medium", "model-small")
"""Names of language models."""

_LINES: Final = (
    "def {symbol}(value, *, limit=100):",
    "    if value is None:",
    "        return None",
    "    return {symbol}(value)[:limit]",
    "{file}:118: calls {symbol}",
    "{file}:204: tests {symbol} for an empty input",
    "INFO {service} handled request in 12 ms",
    "WARNING {service} retried {symbol} after 250 ms",
    "@@ -40,7 +40,9 @@ {symbol}",
    "+    assert limit > 0",
    "-    total = round(total, 1)",
)
_COUNT_LIMIT = 30


def word(rng: random.Random, kind: str) -> str | int:
    """Return a word of a kind; a number for `count`."""
    if kind == "count":
        return rng.randint(1, _COUNT_LIMIT)
    return rng.choice(WORDS[kind])


def fill_in(rng: random.Random, text: str) -> str:
    """Return the text with each `{kind}` replaced by a word."""
    return text.format_map({kind: rng.choice(words) for kind, words in WORDS.items()})


def output(rng: random.Random, size: int) -> str:
    """Return lines as tools print them, `size` characters together."""
    lines: list[str] = []
    written = 0
    facts = {kind: rng.choice(words) for kind, words in WORDS.items()}
    while written <= size:  # the last line ends without a line break
        line = rng.choice(_LINES).format_map(facts)
        lines.append(line)
        written += len(line) + 1
    return "\n".join(lines)[: max(size, 1)]
