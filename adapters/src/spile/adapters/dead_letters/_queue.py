"""The dead letter queue of each topic: `<topic>.dlq`."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import msgspec
import structlog

from spile.adapters.dead_letters._browser import DeadLetterBrowser
from spile.adapters.dead_letters._facts import (
    DLQ_SUFFIX,
    OMITTED,
    PREFIX,
    Burial,
    Origin,
    added_headers,
    inbound_headers,
    origin_of,
    replay_count,
)
from spile.adapters.dead_letters._letter import DeadLetter
from spile.adapters.dead_letters._replay import HandlerRun
from spile.adapters.delivery._backoff import Backoff
from spile.adapters.delivery._headers import encode_headers
from spile.adapters.delivery._log_reader import LogReaderFactory
from spile.adapters.delivery._message import ReceivedMessage
from spile.adapters.delivery._ports import RecordSender
from spile.adapters.delivery._records import OutgoingRecord, Record, WireHeaders
from spile.spi import (
    ConfigurationError,
    MessageTooLargeError,
    ProtocolDLQHandler,
    ProtocolEventMessage,
    ProtocolRecord,
    SpileError,
)
from spile.topics.redaction import default_redactor

log = structlog.get_logger(__name__)


_LONGEST_KEY_BYTES = 65_536
_LONGEST_HEADERS_BYTES = 65_536
"""Of a letter without its value: what is longer is left out too, since it may be what is wrong."""


def _now() -> datetime:
    return datetime.now(UTC)


class DeadLetterQueue(ProtocolDLQHandler):
    """
    Keeps what cannot be handled in `<topic>.dlq`, key, value and headers byte for byte.

    Added headers start with `x-spile-dlq-` and say where the record came from and what went wrong;
    inbound headers of that prefix are replaced, except a replay count, which is kept.

    Args:
        sender: Writes to the queues.
        readers: Makes readers of them; `reprocess_dlq_messages` needs it.
        group: Consumer group that the messages of `send_to_dlq` failed in.
        scrub: Removes secrets from an error's text before it is written; by default as the
            built-in rules of `Redactor` say.
        backoff: Waits between the attempts of reprocessing.
        clock: Aware time.
    """

    def __init__(
        self,
        sender: RecordSender,
        readers: LogReaderFactory | None = None,
        *,
        group: str = "unknown",
        scrub: Callable[[str], str] | None = None,
        backoff: Backoff | None = None,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self._sender = sender
        self._readers = readers
        self._group = group
        self._scrub = scrub or default_redactor().scrub
        self._backoff = backoff or Backoff()
        self._clock = clock

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
            RejectedError: The broker refused the record.
        """
        record = _record_of(original_topic, message, self._clock())
        await self.keep(record, error, group=self._group, attempts=retry_count + 1)

    async def keep(
        self,
        record: ProtocolRecord,
        error: BaseException,
        *,
        group: str,
        attempts: int,
        first_failure: datetime | None = None,
        replays: int | None = None,
    ) -> None:
        """
        Keep a failed record in the queue of its topic.

        Args:
            record: Written byte for byte.
            error: What went wrong last.
            group: Consumer group that failed.
            attempts: How often it was tried.
            first_failure: When it failed first; now when None.
            replays: How often it was reprocessed before; what its header says when None.

        Raises:
            RetriableError: It could not be written now; its offset must not be committed.
            UnknownTopicError: The topic has no dead letter queue.
            RejectedError: The broker refused the record.
        """
        now = self._clock()
        burial = Burial(
            group=group,
            attempts=attempts,
            error=error,
            first_failure=first_failure or now,
            last_failure=now,
            replays=replay_count(record) if replays is None else replays,
        )
        await self._write(record.topic + DLQ_SUFFIX, record, origin_of(record), burial)

    async def keep_refused(self, record: OutgoingRecord, error: SpileError) -> None:
        """
        Keep a record that the broker refused; it has no offset, and its partition is unknown.

        Raises:
            RetriableError: It could not be written now.
            UnknownTopicError: The topic has no dead letter queue.
            RejectedError: The broker refused it here too.
        """
        now = self._clock()
        partition = -1 if record.partition is None else record.partition
        refused = Record(
            topic=record.topic,
            partition=partition,
            offset=-1,
            timestamp=int(now.timestamp() * 1000),
            key=record.key,
            value=record.value,
            headers=tuple(record.headers),
        )
        await self.keep(refused, error, group=self._group, attempts=1)

    async def reprocess_dlq_messages(
        self,
        dlq_topic: str,
        handler: Callable[[ProtocolEventMessage], Awaitable[bool]],
        max_retries: int = 3,
    ) -> dict[str, int]:
        """
        Handle what stands unsettled in a dead letter queue now; see `ProtocolDLQHandler`.

        A letter that is done gets a mark in `<topic>.dlq.done`. One whose attempts are spent is
        written to the end of the queue with its replay count raised, and then marked; it is not
        handled again in the same run. One whose value was too large for a queue is not handled:
        it stays, and counts as failed. Key order does not hold here.

        Args:
            dlq_topic: Full name that ends in `.dlq`.
            handler: Returns whether the message is done; must be idempotent.
            max_retries: Attempts per message, at least 1.

        Raises:
            InvalidTopicError: The name does not end in `.dlq`.
            ConfigurationError: This queue was made without a reader factory.
            UnknownTopicError: There is no such queue, or no topic for its marks.
            RetriableError: The broker is away; run it again.
        """
        if self._readers is None:
            raise ConfigurationError("reprocessing needs a DeadLetterQueue with a reader factory")
        run = HandlerRun(
            self._sender,
            handler,
            self._again,
            max_retries=max_retries,
            backoff=self._backoff,
            clock=self._clock,
        )
        async with DeadLetterBrowser(self._readers, dlq_topic) as browser:
            return await run.over(browser)

    def _again(self, letter: DeadLetter, error: BaseException, attempts: int) -> OutgoingRecord:
        """Return the record that puts a letter at the end of its queue, one replay older."""
        now = self._clock()
        burial = Burial(
            group=letter.group or self._group,
            attempts=attempts,
            error=error,
            first_failure=letter.origin.first_failure or now,
            last_failure=now,
            replays=letter.replays + 1,
        )
        return self._buried(letter.record.topic, letter.record, letter.origin, burial)

    def _buried(
        self, queue: str, record: ProtocolRecord, origin: Origin, why: Burial
    ) -> OutgoingRecord:
        headers = inbound_headers(record) + added_headers(origin, why, self._scrub)
        return OutgoingRecord(queue, record.key, record.value, headers)

    async def _write(self, queue: str, record: ProtocolRecord, origin: Origin, why: Burial) -> None:
        letter = self._buried(queue, record, origin, why)
        try:
            await self._send(letter)
        except MessageTooLargeError:
            # A record that unpacks to more than a queue takes would end every worker that reads it.
            inbound = inbound_headers(record)
            added = added_headers(origin, why, self._scrub)
            await self._send(_without_content(letter, inbound, added))
        log.warning(
            "message went to the dead letter queue",
            topic=origin.topic,
            partition=origin.partition,
            offset=origin.offset,
            group=why.group,
            attempts=why.attempts,
            error_type=type(why.error).__name__,
        )

    async def _send(self, letter: OutgoingRecord) -> None:
        receipt = await self._sender.send([letter])
        for failure in receipt.failures.values():
            raise failure


def _without_content(
    letter: OutgoingRecord, inbound: WireHeaders, added: WireHeaders
) -> OutgoingRecord:
    """
    Return a letter that only tells what it cannot hold; the record stands in its topic still.

    The headers as they came stay with it: without them no other value could take its place.
    """
    value = letter.value or b""
    size = sum(len(name.encode()) + len(content or b"") for name, content in inbound)
    headers = [
        *(inbound if size <= _LONGEST_HEADERS_BYTES else ()),
        *added,
        (OMITTED, str(len(value)).encode()),
        (f"{PREFIX}omitted-sha256", hashlib.sha256(value).hexdigest().encode()),
    ]
    key = letter.key if len(letter.key or b"") <= _LONGEST_KEY_BYTES else None
    return msgspec.structs.replace(letter, key=key, value=None, headers=headers)


def _record_of(topic: str, message: ProtocolEventMessage, now: datetime) -> ProtocolRecord:
    if isinstance(message, ReceivedMessage) and message.record.topic == topic:
        return message.record
    raw = message.record if isinstance(message, ReceivedMessage) else None
    return Record(
        topic=topic,
        partition=-1 if message.partition is None else message.partition,
        offset=int(message.offset) if message.offset is not None else -1,
        timestamp=raw.timestamp if raw else int(now.timestamp() * 1000),
        key=message.key,
        value=raw.value if raw else message.value,
        headers=tuple(raw.headers if raw else encode_headers(message.headers)),
    )
