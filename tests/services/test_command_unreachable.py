"""What a look says where no broker is."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("arguments", [("topics", "plan"), ("dlq", "list")])
def test_a_look_without_a_broker_says_one_line(tmp_path, arguments):
    """The error says what would be right, and no log line of the client stands before it."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SPILE_")},
        "SPILE_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "spile.services.command", *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    (line,) = done.stderr.splitlines()
    assert "SPILE_BOOTSTRAP_SERVERS names the brokers" in line
    assert (done.returncode == 0, done.stdout) == (False, "")
