"""
Start a process that cannot outlive its owner, and end only what is really ours.

An owned process is the child of a small shell that reads from a pipe of ours. When we die, for
whatever reason, the pipe closes and the shell ends its child with SIGKILL. PR_SET_PDEATHSIG would
be shorter, but it fires when the starting *thread* ends, which `asyncio.to_thread` does.
The shell does not reap its child before that, so its process id cannot be given to another.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_OWNED = (
    'exec 3<&0 </dev/null; "$@" >&2 3<&- & echo $!; exec >/dev/null;'
    " read -r word <&3; kill -9 $! 2>/dev/null; wait $!;"
    ' [ "$word" = done ] || [ -z "$0" ] || rm -rf "$0"'
)
_DETACHED = '"$@" </dev/null >&2 & echo $!'
_STATE, _STARTED = 0, 19  # fields of /proc/PID/stat behind the name, see proc(5)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessMark:
    """
    A process that can be told from a later one with the same id.

    Attributes:
        pid: The process id.
        started: Its start time as the system gives it.
    """

    pid: int
    started: str

    @property
    def alive(self) -> bool:
        """True while this very process runs; a zombie does not run."""
        return _start_time(self.pid) == self.started

    def send(self, number: signal.Signals) -> None:
        """Send a signal; a process that is gone, or another one's id, is left alone."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def end(self, *, timeout_s: float = 10.0) -> None:
        """
        Send SIGKILL and wait until the process is gone.

        Args:
            timeout_s: Longest wait in seconds.

        Raises:
            TimeoutError: When the process is still there.
        """
        self.send(signal.SIGKILL)
        deadline = time.monotonic() + timeout_s
        while self.alive:
            if time.monotonic() > deadline:
                raise TimeoutError(f"process {self.pid} did not end within {timeout_s} s")
            time.sleep(0.005)


class OwnedProcess:
    """
    A process that ends when its owner does.

    A child that the owner forks without exec keeps the pipe open, and the process with it.

    Args:
        command: Program and arguments.
        log: File that its output is appended to.
        scratch: Folder to delete when the owner dies before `end`; None deletes nothing.
        environment: Variables of the process; those of the owner by default.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        scratch: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        with log.open("ab") as stream:
            self._guard = subprocess.Popen(  # noqa: S603 - the command is ours
                ["/bin/sh", "-c", _OWNED, str(scratch or ""), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                start_new_session=True,
                env=environment,
            )
        self.mark = _mark_from(self._guard)

    def end(self) -> None:
        """End the process with SIGKILL; returns when it is gone. Safe to call again."""
        self.mark.end()
        if self._guard.stdin is not None and not self._guard.stdin.closed:
            with contextlib.suppress(BrokenPipeError), self._guard.stdin as pipe:
                pipe.write(b"done\n")
        self._guard.wait()


def start_detached(command: Sequence[str], *, log: Path) -> ProcessMark:
    """Start a process that lives on by itself, in a session of its own."""
    with log.open("ab") as stream:
        starter = subprocess.Popen(  # noqa: S603 - the command is ours
            ["/bin/sh", "-c", _DETACHED, "sh", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stream,
            start_new_session=True,
        )
    mark = _mark_from(starter)
    starter.wait()
    return mark


def _mark_from(starter: subprocess.Popen[bytes]) -> ProcessMark:
    """Read the process id that the shell prints first."""
    if starter.stdout is None:
        raise RuntimeError("the starter has no output to read the process id from")
    with starter.stdout as stream:
        pid = int(stream.readline())
    return ProcessMark(pid=pid, started=_start_time(pid) or "gone")


def _start_time(pid: int) -> str | None:
    """Return when the process started, or None when it is gone or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None if Path("/proc/self").exists() else _start_time_by_ps(pid)
    except ProcessLookupError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[_STATE] in {"Z", "X"} else fields[_STARTED]


def _start_time_by_ps(pid: int) -> str | None:
    """Do the same where there is no /proc."""
    answer = subprocess.run(  # noqa: S603 - a number is the only argument
        ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
    )
    state, _, started = answer.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else started.strip()
