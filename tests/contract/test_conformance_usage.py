"""The suite in the hands of a user, whose project is not set up like this one."""

from __future__ import annotations

import subprocess
import sys

import pytest

PAGES = """
from spile.testkit.conformance import Feature
from spile.testkit.conformance.memory import MemoryUnderTest

class Modest(MemoryUnderTest):
    features = frozenset()
"""
OWN_TESTS = """
import pytest
from spile.testkit.conformance.memory import MemoryUnderTest
from spile.testkit.conformance.suite import *

@pytest.fixture(scope="session")
def bus_under_test():
    return MemoryUnderTest()
"""
OWN_MODEST_TESTS = OWN_TESTS.replace("MemoryUnderTest", "Modest").replace(
    "spile.testkit.conformance.memory", "acme"
)


@pytest.fixture
def run(tmp_path):
    """Run Python in a folder of the user's own."""
    (tmp_path / "acme.py").write_text(PAGES)
    (tmp_path / "test_own.py").write_text(OWN_TESTS)
    (tmp_path / "test_modest.py").write_text(OWN_MODEST_TESTS)

    def python(*arguments):
        command = [sys.executable, *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        return done.returncode, done.stdout + done.stderr

    return python


def test_what_a_bus_does_not_claim_is_skipped(run):
    """A bus without extra features is tested for the rest; the skips name what is missing."""
    code, told = run(
        *("-m", "pytest", "--pyargs", "spile.testkit.conformance", "-rs"),
        *("--spile-bus", "acme:Modest", "-k", "shape or breaker_opens or metrics"),
    )
    assert code == 0, told
    assert "2 passed, 5 skipped" in told
    assert "Modest does not claim faults, publisher" in told


def test_suite_joins_the_tests_of_a_user(run):
    """The tests are imported into a user's module, whose fixture names the bus."""
    code, told = run("-m", "pytest", "test_own.py", "-k", "order or shape")
    assert code == 0, told
    assert "skipped" not in told
    code, told = run("-m", "pytest", "test_modest.py", "-k", "batch or breaker or logical")
    assert code == 0, told
    assert "1 passed" in told
    assert "skipped" in told


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "which bus? give --spile-bus MODULE:ATTRIBUTE"),
        (["--spile-bus", "nowhere:Bus"], "--spile-bus nowhere:Bus: No module named 'nowhere'"),
        (["--spile-bus", "acme"], "--spile-bus acme: expected MODULE:ATTRIBUTE"),
        (["--spile-bus", "acme:Lost"], "has no attribute 'Lost'"),
    ],
    ids=["none", "module", "form", "attribute"],
)
def test_bus_that_cannot_be_found_is_told(run, options, expected):
    """Without a bus the suite says in one sentence what is wrong."""
    arguments = ("-m", "pytest", "--pyargs", "spile.testkit.conformance", "-k", "bus_has_the_shape")
    code, told = run(*arguments, *options)
    assert code == 1
    assert expected in told


def test_plugin_imports_no_adapter(run):
    """A pytest run that does not use the suite does not pay for it."""
    code, told = run(
        "-c",
        "import sys, spile.testkit.conformance.plugin; "
        "print([name for name in sys.modules if name.startswith(('spile.adapters', 'spile.topics',"
        " 'aiokafka', 'pydantic', 'msgspec', 'structlog'))])",
    )
    assert (code, told.strip()) == (0, "[]")
