"""
All tests of the suite, to be imported with `*` into a test module that has `bus_under_test`.

Each test takes the marks of its own module along, so that the importing module may set others.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, cast

import pytest

from spile.testkit.conformance import test_batches as _batches
from spile.testkit.conformance import test_breaker as _breaker
from spile.testkit.conformance import test_handling as _handling
from spile.testkit.conformance import test_messages as _messages
from spile.testkit.conformance import test_publisher as _publisher
from spile.testkit.conformance import test_shape as _shape


def _tests(module: ModuleType) -> dict[str, Any]:
    given: Any = module.pytestmark
    marks = cast("list[pytest.MarkDecorator]", given if isinstance(given, list) else [given])
    found = {name: test for name, test in vars(module).items() if name.startswith("test_")}
    for mark in marks:
        found = {name: mark(test) for name, test in found.items()}
    return found


for _module in (_messages, _handling, _batches, _publisher, _breaker, _shape):
    globals().update(_tests(_module))
