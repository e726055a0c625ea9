"""The `spile` command as a whole."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from spile.services.command import command


def spile(*arguments, **environment):
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", "from spile.services.command import main; main()", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
    )


def test_help_lists_the_commands():
    """The first page names what there is."""
    result = CliRunner().invoke(command, ["--help"])

    assert result.exit_code == 0
    for name in ("up", "topics", "run", "events", "store", "import", "spi"):
        assert f"  {name} " in result.output


def test_help_imports_no_subcommand():
    """Help is quick because nothing heavy is loaded for it."""
    code = (
        "import sys\n"
        "from spile.services.command import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit:\n    pass\n"
        "print([name for name in ('aiokafka', 'pydantic', 'structlog', 'starlette', 'rich')"
        " if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["run", "nonsense"], ["run"], ["events", "query", "--limit", "0"]]
)
def test_wrong_usage_ends_with_two(arguments):
    """Usage errors say what would be right."""
    done = spile(*arguments)

    assert done.returncode == 2
    assert "Usage:" in done.stderr


def test_error_of_ours_is_one_line(tmp_path):
    """No traceback, code 1."""
    done = spile("events", "count", SPILE_STORE=str(tmp_path / "none.db"))

    assert done.returncode == 1
    assert done.stderr.startswith("error: SPILE_STORE: there is no store")
    assert len(done.stderr.splitlines()) == 1


def test_debug_shows_the_traceback(tmp_path):
    """SPILE_DEBUG=1 is for those who look for the cause."""
    done = spile("events", "count", SPILE_STORE=str(tmp_path / "none.db"), SPILE_DEBUG="1")

    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_worker_with_wrong_settings_does_not_start():
    """Each mistake is a line."""
    done = spile("run", "persistence", SPILE_HTTP_PORT="x", SPILE_POISON_SHARE="7")

    assert done.returncode == 1
    assert "SPILE_HTTP_PORT: " in done.stderr
    assert "SPILE_POISON_SHARE: " in done.stderr
    assert "Traceback" not in done.stderr
