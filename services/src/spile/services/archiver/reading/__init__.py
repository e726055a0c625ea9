"""Reading archives: what is there, whether it is whole, and giving it to somebody again."""

from spile.services.archiver.reading._container import Container, ReadLimits
from spile.services.archiver.reading._decoding import RecordDecoder
from spile.services.archiver.reading._index import (
    ArchiveIndex,
    ListedObjects,
    Problem,
    list_objects,
    read_manifest,
)
from spile.services.archiver.reading._opening import ArchivedObject
from spile.services.archiver.reading._replaying import (
    ArchiveGapError,
    Replay,
    Stretch,
    replay,
    stretches,
)
from spile.services.archiver.reading._resuming import Progress
from spile.services.archiver.reading._selection import Selection, header, is_tick, milliseconds
from spile.services.archiver.reading._targets import (
    REPLAY_HEADER,
    Pace,
    ReplayTarget,
    TopicTarget,
    Written,
)
from spile.services.archiver.reading._verifying import (
    Finding,
    LiveRange,
    PartitionProof,
    Verification,
    compare_live,
    verify,
)

__all__ = [
    "REPLAY_HEADER",
    "ArchiveGapError",
    "ArchiveIndex",
    "ArchivedObject",
    "Container",
    "Finding",
    "ListedObjects",
    "LiveRange",
    "Pace",
    "PartitionProof",
    "Problem",
    "Progress",
    "ReadLimits",
    "RecordDecoder",
    "Replay",
    "ReplayTarget",
    "Selection",
    "Stretch",
    "TopicTarget",
    "Verification",
    "Written",
    "compare_live",
    "header",
    "is_tick",
    "list_objects",
    "milliseconds",
    "read_manifest",
    "replay",
    "stretches",
    "verify",
]
