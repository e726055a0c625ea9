"""What every part of the adapters shares: records, headers, backoff, the seams to a transport."""

from spile.adapters.delivery._backoff import (
    Backoff,
)
from spile.adapters.delivery._headers import (
    REQUIRED_HEADERS,
    EventHeaders,
    SemVer,
    check_required,
    decode_headers,
    encode_headers,
    plain_headers,
    utc_text,
)
from spile.adapters.delivery._log_reader import (
    LogReader,
    LogReaderFactory,
)
from spile.adapters.delivery._message import (
    ReceivedMessage,
)
from spile.adapters.delivery._ports import (
    RebalanceListener,
    RecordSender,
    RecordSource,
    Settled,
    SourceFactory,
    check_together,
)
from spile.adapters.delivery._records import (
    OutgoingEvent,
    OutgoingRecord,
    Position,
    Receipt,
    Record,
    WireHeaders,
)
from spile.adapters.delivery._tasks import (
    Tasks,
)
from spile.adapters.delivery._transactions import (
    FencedError,
    RecordTransactions,
    TransactionsFactory,
)

__all__ = [
    "REQUIRED_HEADERS",
    "Backoff",
    "EventHeaders",
    "FencedError",
    "LogReader",
    "LogReaderFactory",
    "OutgoingEvent",
    "OutgoingRecord",
    "Position",
    "RebalanceListener",
    "Receipt",
    "ReceivedMessage",
    "Record",
    "RecordSender",
    "RecordSource",
    "RecordTransactions",
    "SemVer",
    "Settled",
    "SourceFactory",
    "Tasks",
    "TransactionsFactory",
    "WireHeaders",
    "check_required",
    "check_together",
    "decode_headers",
    "encode_headers",
    "plain_headers",
    "utc_text",
]
