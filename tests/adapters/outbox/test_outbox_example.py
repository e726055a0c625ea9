"""The example runs as it is written down."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.kafka

PROGRAM = Path(__file__).parents[3] / "examples" / "outbox" / "shop.py"


async def _run(bootstrap, environment, folder, *arguments):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", str(PROGRAM), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=folder,
        env={
            **os.environ,
            "SPILE_BOOTSTRAP_SERVERS": bootstrap,
            "SPILE_ENVIRONMENT": environment,
        },
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()[-2000:]
    return [line for line in out.decode().splitlines() if '"customer"' in line]


async def test_example(kafka, postgres_dsn, tmp_path):
    """The example publishes the four good orders from either database, in order per customer."""
    shown = await asyncio.gather(
        _run(kafka, "dev", tmp_path), _run(kafka, "test", tmp_path, postgres_dsn)
    )
    for lines in shown:
        assert len(lines) == 4
        ada = [line.rpartition(":")[2] for line in lines if '"ada"' in line]
        assert ada == ["3}", "7}"]
