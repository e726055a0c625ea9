"""The dead letter queue: where what cannot be handled is kept until somebody looks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, runtime_checkable

from spile.spi._messages import ProtocolEventMessage


@runtime_checkable
class ProtocolDLQHandler(Protocol):
    """
    Keeps failed messages byte for byte in `<topic>.dlq`, and handles them again on request.

    What went wrong stands in added headers; key, value and the headers that came stay as they were.
    """

    async def send_to_dlq(
        self,
        original_topic: str,
        message: ProtocolEventMessage,
        error: Exception,
        retry_count: int,
    ) -> None:
        """
        Keep a failed message; when this returns it is acknowledged by all in-sync replicas.

        Raises:
            RetriableError: It could not be written now; its offset must not be committed.
            UnknownTopicError: The topic has no dead letter queue.
        """
        ...

    async def reprocess_dlq_messages(
        self,
        dlq_topic: str,
        handler: Callable[[ProtocolEventMessage], Awaitable[bool]],
        max_retries: int = 3,
    ) -> dict[str, int]:
        """
        Handle what stands in a dead letter queue now.

        Args:
            dlq_topic: Name that ends in `.dlq`.
            handler: Returns whether the message is done; must be idempotent.
            max_retries: Attempts per message.

        Returns:
            Counts under `processed`, `succeeded` and `failed`.

        Raises:
            UnknownTopicError: There is no such queue.
            RetriableError: The broker is away; run it again.
        """
        ...
