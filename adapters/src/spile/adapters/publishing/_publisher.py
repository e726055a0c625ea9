"""The publisher: validation before, breaker and dead letters around, a transport's sender below."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol, Self

import structlog
from typing_extensions import override

from spile.adapters.delivery._headers import utc_text
from spile.adapters.delivery._ports import RecordSender
from spile.adapters.delivery._records import OutgoingEvent, OutgoingRecord
from spile.adapters.publishing._auditing import PublishAudit, minute_of, runs
from spile.adapters.publishing._breaker import BreakerState, CircuitBreaker
from spile.adapters.publishing._encoding import Encoded, EventEncoder
from spile.adapters.publishing._gathering import Gatherer
from spile.adapters.publishing._metrics import PUBLISHERS, bump
from spile.adapters.publishing._together import Accounts, Fate, Together, Told
from spile.adapters.wire import WireForm
from spile.spi import (
    BrokerUnavailableError,
    ClosedError,
    ContextValue,
    InvalidEventError,
    MessageTooLargeError,
    PermanentError,
    ProtocolBatchPublisher,
    ProtocolEventPublisher,
    RejectedError,
    SpileError,
    UnknownTopicError,
)
from spile.topics import Catalogue
from spile.topics.redaction import Redactor

_log = structlog.get_logger(__name__)
_STATE_VALUE = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}
_BREATHE_EVERY = 1000
_TOGETHER = 50  # divides the above
_SETTLE_LIMIT_S = 0.5
_CLOSE_LIMIT_S = 1.0  # the sender has settled everything by then


class RefusedKeeper(Protocol):
    """Keeps records that the broker refused."""

    async def keep_refused(self, record: OutgoingRecord, error: SpileError) -> None:
        """
        Write a refused record to the dead letter queue of its topic, acknowledged on return.

        Raises:
            SpileError: It could not be kept.
        """
        ...


class EventPublisher(ProtocolEventPublisher, ProtocolBatchPublisher[OutgoingEvent]):
    """
    Publishes events; see `ProtocolEventPublisher` for what is guaranteed.

    Retries are the sender's: it keeps the order of a key while it tries again. The breaker counts
    failed publishes, not attempts, and no refusals; `publish_many` counts as one publish.

    Args:
        sender: Writes records; closed together with the publisher.
        catalogue: Knows topics and contracts.
        environment: Environment of the topics, such as `dev`.
        service: Name of the publishing service.
        instance_id: Tells replicas apart in logs.
        breaker: Its own by default: threshold 5, reset after 30 s.
        refused: Keeps what the broker refused; without it a refusal is only logged and counted.
        on_breaker: Called with the old and new state of the breaker.
        form: How values are encoded; JSON by default. Closed together with the publisher.
        redactor: Takes out secrets before anything is encoded; True is one with the built-in
            rules, False writes events as they are.
        audit: Counts what is published, for `spile audit`; nothing is counted when None.
    """

    def __init__(  # noqa: PLR0913 - wired in one place, all but the first four have defaults
        self,
        sender: RecordSender,
        catalogue: Catalogue,
        *,
        environment: str,
        service: str,
        instance_id: str = "",
        breaker: CircuitBreaker | None = None,
        refused: RefusedKeeper | None = None,
        on_breaker: Callable[[BreakerState, BreakerState], None] | None = None,
        form: WireForm | None = None,
        redactor: Redactor | bool = True,
        audit: PublishAudit | None = None,
    ) -> None:
        self._sender = sender
        self._encoder = EventEncoder(
            catalogue, environment=environment, service=service, form=form, redactor=redactor
        )
        self._form = form
        self._refused = refused
        self._on_breaker = on_breaker
        self._breaker = breaker or CircuitBreaker()
        self._gatherer = Gatherer(sender)
        self._together = Together(
            self._encoder,
            self._gatherer,
            Accounts(
                admit=self._breaker.admit,
                refused=self._note_refusal,
                acknowledged=self._acknowledged,
                failed=self._single_failed,
            ),
        )
        self._opens_seen = self._breaker.opens
        self._breaker.listen(self._breaker_changed)
        self._log = _log.bind(service=service, instance=instance_id)
        self._counts: Counter[str] = Counter()
        self._closed = False
        self._delivering = 0
        self._shown = PUBLISHERS.counts(service)
        self._audit = audit
        if audit is not None:
            audit.attach(self._write_report)

    @override
    async def publish(
        self,
        event_type: str,
        payload: Any,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        metadata: dict[str, ContextValue] | None = None,
        topic: str | None = None,
        partition_key: str | None = None,
    ) -> bool:
        """
        Publish one event.

        Raises:
            CircuitOpenError: The breaker is open (a RuntimeError); nothing was sent.
            InvalidEventError: The event breaks its contract; nothing was sent.
            RedactionError: It may hold a secret that cannot be removed; nothing was sent.
            MessageTooLargeError: Payload over 1,000,000 bytes; nothing was sent.
            UnknownTopicError: No such type or topic; nothing was sent.
            SchemaError: The form is of a registry that refuses the event's schema; nothing was
                sent. `RegistryUnavailableError` when it is away, `UnauthorisedError` when it
                refuses the credentials.
            ClosedError: The publisher is closed.
        """
        event = OutgoingEvent(
            event_type=event_type,
            payload=payload,
            correlation_id=correlation_id,
            causation_id=causation_id,
            metadata=metadata,
            topic=topic,
            partition_key=partition_key,
        )
        return await self.publish_event(event)

    async def publish_event(self, event: OutgoingEvent) -> bool:
        """
        Publish one event that brings its id and time along.

        Raises:
            SpileError: As `publish`.
        """
        self._check_open()
        try:
            if self._form is not None:
                await self._form.prepare(self._encoder.route_of(event))
            encoded = self._encoder.encode(event)
        except SpileError as exc:
            self._note_refusal(exc)
            raise
        ticket = self._breaker.admit()
        started = time.perf_counter()
        try:
            await self._gatherer.submit(encoded.record)
        except BaseException as exc:  # noqa: BLE001 - raised again unless it is ours
            return await self._single_failed(encoded, ticket, exc)
        self._shown.took(time.perf_counter() - started)
        self._breaker.succeeded(ticket)
        self._counts["published"] += 1
        bump(self._shown.published, encoded.route.topic)
        if self._audit is not None:
            self._audit.acknowledged(encoded.route.topic, minute_of(encoded.record))
        return True

    def publish_soon(self, event: OutgoingEvent, told: Told) -> None:
        """
        Publish one event together with all that are handed in within this turn of the loop.

        Costs about half of as many calls of `publish_event`. It cannot be taken back.

        Args:
            event: Its payload must not change before it is encoded, at the end of the turn.
            told: Called once, and not by this call, with what `publish_event` would return or
                raise; must not raise.

        Raises:
            ClosedError: The publisher is closed.
        """
        self._check_open()
        if self._form is None:
            self._together.add(event, told)
        else:
            self._gatherer.run(self._publish_told(event, told), "publish")

    async def _publish_told(self, event: OutgoingEvent, told: Told) -> None:
        fate: Fate = BrokerUnavailableError(
            "the publish ended without news; the event may or may not be written"
        )
        try:
            fate = await self.publish_event(event)
        except SpileError as exc:
            fate = exc
        finally:
            told(fate)

    @override
    async def publish_many(self, events: Sequence[OutgoingEvent]) -> list[bool]:
        """
        Publish events with one await; those of one key in the order given.

        All are checked before the first is sent: an error means that none was. A call with very
        many events lets other tasks run after each 1,000.

        Raises:
            InvalidEventError: Names the index of the first wrong event.
            SpileError: As `publish`.
        """
        self._check_open()
        now = utc_text(datetime.now(UTC))
        batch: list[Encoded] = []
        together = _TOGETHER if self._form is None else 1
        try:
            for start in range(0, len(events), together):
                if self._form is not None:
                    await self._form.prepare(self._encoder.route_of(events[start]))
                self._encode(events[start : start + together], now, batch)
                if len(batch) % _BREATHE_EVERY == 0:
                    await asyncio.sleep(0)
        except SpileError as exc:
            self._note_refusal(exc)
            if isinstance(exc, InvalidEventError):
                exc.index = len(batch)
            exc.add_note(f"event {len(batch)} of {len(events)}; nothing was sent")
            raise
        return await self._deliver(batch) if batch else []

    @override
    async def get_metrics(self) -> dict[str, Any]:
        """Return the counters since the start; the keys are stable."""
        return {
            "events_published": self._counts["published"],
            "events_failed": self._counts["failed"],
            "events_refused": self._counts["refused"],
            "events_sent_to_dlq": self._counts["dlq"],
            "retries_attempted": self._counts["retries"],
            "circuit_breaker_status": self._breaker.state.value,
            "circuit_breaker_opens": self._breaker.opens,
        }

    @override
    async def close(self) -> None:
        """Flush within the sender's close deadline; calling it again is a no-op."""
        if not self._closed:
            self._closed = True
            try:
                self._together.flush()
                await self._gatherer.hand_over()
                await self._close_audit()
                await self._sender.close()
                await self._gatherer.close(_CLOSE_LIMIT_S)
            finally:
                if self._form is not None:
                    await self._form.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def note_retry(self, records: int) -> None:
        """Count records that the sender tries again; meant as its `on_retry`."""
        self._counts["retries"] += records
        self._shown.retries += records

    def _encode(self, events: Sequence[OutgoingEvent], now: str, batch: list[Encoded]) -> None:
        """
        Add encoded events to a batch, with one look for secrets at all of them.

        Where that look finds something to suspect, each is encoded again and looked at by itself.
        """
        encode, before = self._encoder.encode, len(batch)
        unseen: list[bytes] = []
        for event in events:
            batch.append(encode(event, now, unseen))  # noqa: PERF401 - an error counts those before
        if unseen and self._encoder.suspects(unseen):
            del batch[before:]
            for event in events:
                batch.append(encode(event, now))  # noqa: PERF401 - the same

    async def _deliver(self, batch: list[Encoded]) -> list[bool]:
        ticket = self._breaker.admit()
        started = time.perf_counter()
        self._delivering += 1
        try:
            receipt = await self._sender.send([encoded.record for encoded in batch])
        except BaseException as exc:
            self._breaker.abandoned(ticket)
            if isinstance(exc, SpileError):
                self._note_refusal(exc)
            else:
                self._note_unknown(batch)
            raise
        finally:
            self._delivering -= 1
        self._shown.took(time.perf_counter() - started)
        if not receipt.failures:
            self._breaker.succeeded(ticket)
            self._note_published(batch)
            return [True] * len(batch)
        self._judge(ticket, receipt.failures.values())
        failures = receipt.failures
        self._note_published([b for index, b in enumerate(batch) if index not in failures])
        await asyncio.gather(
            *(self._note_failure(batch[index], error) for index, error in failures.items())
        )
        return [index not in failures for index in range(len(batch))]

    async def _single_failed(self, encoded: Encoded, ticket: int, error: BaseException) -> bool:
        """
        Account for a single event that is not acknowledged.

        Raises:
            SpileError: It was refused before sending.
        """
        if not isinstance(error, SpileError):
            self._breaker.abandoned(ticket)
            self._note_unknown([encoded])
            raise error
        if isinstance(error, ClosedError | UnknownTopicError | MessageTooLargeError):
            self._breaker.abandoned(ticket)
            self._note_refusal(error)
            raise error
        self._judge(ticket, [error])
        await self._note_failure(encoded, error)
        return False

    def _judge(self, ticket: int, errors: Iterable[SpileError]) -> None:
        """Tell the breaker; what the broker refused is no sign of its health either way."""
        if any(error.retriable for error in errors):
            self._breaker.failed(ticket)
        else:
            self._breaker.abandoned(ticket)

    async def _note_failure(self, encoded: Encoded, error: SpileError) -> None:
        reason = _reason(error)
        self._counts["failed"] += 1
        place = (encoded.route.topic, reason)
        self._shown.failed[place] = self._shown.failed.get(place, 0) + 1
        self._log.warning(
            "event not confirmed",
            event_id=encoded.event_id,
            topic=encoded.route.topic,
            event_type=encoded.route.event_type,
            reason=reason,
            error=str(error),
        )
        if reason == "rejected":
            await self._keep_refused(encoded, error)
        elif reason == "indefinite" and self._audit is not None:
            self._audit.indefinite(encoded.record)

    async def _keep_refused(self, encoded: Encoded, error: SpileError) -> None:
        if self._refused is None:
            return
        try:
            await self._refused.keep_refused(encoded.record, error)
        except SpileError as exc:
            self._log.error("refused event not kept", event_id=encoded.event_id, error=str(exc))
            bump(self._shown.not_kept, encoded.route.topic)
            return
        if self._audit is not None:
            self._audit.dead_lettered(encoded.record)
        self._counts["dlq"] += 1
        bump(self._shown.dead_lettered, encoded.route.topic)

    def _acknowledged(
        self, batch: Sequence[Encoded], tickets: Sequence[int], took_s: float
    ) -> None:
        self._shown.took(took_s)
        for ticket in tickets:
            self._breaker.succeeded(ticket)
        self._note_published(batch)

    def _note_published(self, batch: Sequence[Encoded]) -> None:
        self._counts["published"] += len(batch)
        published, audit = self._shown.published, self._audit
        for topic, minute, count in runs(batch):
            published[topic] = published.get(topic, 0) + count
            if audit is not None:
                audit.acknowledged(topic, minute, count)

    async def _close_audit(self) -> None:
        if self._audit is not None:
            reachable = self._breaker.state is BreakerState.CLOSED
            settled = reachable and await self._gatherer.settled(_SETTLE_LIMIT_S)
            await self._audit.close(whole=settled and not self._delivering, reachable=reachable)

    def _note_unknown(self, batch: Sequence[Encoded]) -> None:
        """Account for events whose publishing was cancelled: they may be on the bus."""
        if self._audit is not None:
            for encoded in batch:
                self._audit.indefinite(encoded.record)

    async def _write_report(self, event: OutgoingEvent) -> None:
        """
        Write a report of the audit, past the breaker: it is no publish of the caller.

        Raises:
            SpileError: It is not acknowledged.
        """
        if self._form is not None:
            await self._form.prepare(self._encoder.route_of(event))
        receipt = await self._sender.send([self._encoder.encode(event).record])
        for failure in receipt.failures.values():
            raise failure

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the publisher is closed; nothing was sent")

    def _note_refusal(self, error: SpileError) -> None:
        self._counts["refused"] += 1
        bump(self._shown.refused, type(error).__name__)

    def _breaker_changed(self, before: BreakerState, after: BreakerState) -> None:
        self._shown.breaker_state = _STATE_VALUE[after]
        self._shown.breaker_opens += self._breaker.opens - self._opens_seen
        self._opens_seen = self._breaker.opens
        self._log.warning("circuit breaker changed", before=before.value, after=after.value)
        if self._on_breaker is not None:
            self._on_breaker(before, after)


def _reason(error: SpileError) -> str:
    """Say why an event is not confirmed; only what was refused itself becomes a dead letter."""
    if isinstance(error, RejectedError | MessageTooLargeError):
        return "rejected"
    return "refused" if isinstance(error, PermanentError) else "indefinite"
