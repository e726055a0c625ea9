"""The events of a shell's session: who began where, and when it ended."""

from __future__ import annotations

import getpass
import os
import platform
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Self
from uuid import uuid4

from pydantic import Field

from spile.topics._json import JsonObject
from spile.topics._strict import now
from spile.topics._wire import Instant
from spile.topics.sessions._fields import (
    EVENT_VERSION,
    ComponentName,
    EventVersion,
    ProcessId,
    Text100,
    Text500,
    UuidV4,
)
from spile.topics.sessions._schemas import WithSchema


class UserInfo(WithSchema, frozen=True):
    """Who runs the shell; the name is cut at 100 characters, the home at 500."""

    username: Text100
    home: Text500

    @classmethod
    def create(cls) -> Self:
        """Return the user of this process; what the system does not tell is `unknown`."""
        return cls(username=_told(getpass.getuser), home=_told(lambda: str(Path.home())))

    @classmethod
    def from_system(cls) -> Self:
        """Return the same as `create`."""
        return cls.create()


class EnvironmentInfo(WithSchema, frozen=True):
    """Where the shell runs; the folder is cut at 500 characters."""

    python_version: str
    platform: str
    cwd: Text500

    @classmethod
    def create(cls) -> Self:
        """Return where this process runs; what the system does not tell is `unknown`."""
        return cls(
            python_version=platform.python_version(),
            platform=platform.platform(),
            cwd=_told(lambda: str(Path.cwd())),
        )

    @classmethod
    def from_system(cls) -> Self:
        """Return the same as `create`."""
        return cls.create()


class SessionStartEvent(WithSchema, frozen=True):
    """
    A shell began.

    Attributes:
        event_version: `1.0`, and nothing else.
        event_id: The text of a UUID of version 4.
        component_name: Letters, digits, `_` and `-`.
        shell_type: Class of the shell.
        timestamp: When, in UTC.
        pid: The process, 1 to 4194304.
        metadata: More facts, defined by the caller.
    """

    event_version: EventVersion
    event_id: UuidV4
    event_type: Literal["session_start"] = "session_start"
    component_name: ComponentName
    shell_type: str
    timestamp: Instant
    pid: ProcessId
    user: UserInfo
    hostname: str
    environment: EnvironmentInfo
    metadata: JsonObject = Field(default_factory=dict)

    @classmethod
    def create(
        cls,
        component_name: str,
        shell_type: str,
        metadata: Mapping[str, Any] | None = None,
    ) -> Self:
        """
        Make the event of a shell in this process, now.

        Raises:
            pydantic.ValidationError: The component's name or the metadata break the model.
        """
        return cls(
            event_version=EVENT_VERSION,
            event_id=str(uuid4()),
            component_name=component_name,
            shell_type=shell_type,
            timestamp=now(),
            pid=os.getpid(),
            user=UserInfo.create(),
            hostname=_told(socket.gethostname),
            environment=EnvironmentInfo.create(),
            metadata=dict(metadata or {}),
        )


class SessionEndEvent(WithSchema, frozen=True):
    """
    A shell ended.

    Attributes:
        session_id: What the start was answered with.
        timestamp: When, in UTC.
        metadata: More facts, defined by the caller.
    """

    event_type: Literal["session_end"] = "session_end"
    session_id: str = Field(min_length=1)
    timestamp: Instant
    metadata: JsonObject = Field(default_factory=dict)

    @classmethod
    def create(cls, session_id: str, metadata: Mapping[str, Any] | None = None) -> Self:
        """
        Make the event of a session that ends now.

        Raises:
            pydantic.ValidationError: The session id is empty, or the metadata is no JSON.
        """
        return cls(session_id=session_id, timestamp=now(), metadata=dict(metadata or {}))


def _told(ask: Callable[[], str]) -> str:
    # No entry in the password file, a folder that is gone: a session starts none the less.
    try:
        found = ask()
    except (OSError, KeyError, RuntimeError, ImportError):
        return "unknown"
    return found.encode("utf-8", "replace").decode()
