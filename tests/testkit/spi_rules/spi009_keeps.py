from __future__ import annotations

from typing import Any, Protocol, TypeAlias, runtime_checkable

ContextValue: TypeAlias = str | int | float | bool | list[str] | dict[str, str] | None


@runtime_checkable
class ProtocolNote(Protocol):
    """Something noted."""

    metadata: dict[str, ContextValue]

    def note(self, text: str, context: dict[str, ContextValue] | None = None) -> None: ...

    async def register_note(self, schema: dict[str, Any]) -> dict[str, Any]: ...
