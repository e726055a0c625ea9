"""How the families spell their events, and the one form that envelopes and headers use."""

from __future__ import annotations

import re
from typing import Final

_WORD_STARTS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[.\s-]+")

TICK: Final = "TICK"
"""Event type of a record that holds no event: it lets time pass in a partition for the archive."""


def upper_snake(name: str) -> str:
    """
    Return the UPPER_SNAKE form of an event's name in its family.

    `PreToolUse` -> `PRE_TOOL_USE`, `plan.step_started` -> `PLAN_STEP_STARTED`.
    """
    return _WORD_STARTS.sub("_", name).upper()
