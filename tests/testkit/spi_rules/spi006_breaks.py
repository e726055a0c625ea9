from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, runtime_checkable

Hook: TypeAlias = Callable[..., Any]  # expect: SPI006


@runtime_checkable
class ProtocolHooks(Protocol):
    """Keeps hooks."""

    on_open: Callable  # expect: SPI006

    def add(self, hook: Callable[..., None]) -> None: ...  # expect: SPI006

    def all(self) -> list[Callable | None]: ...  # expect: SPI006
