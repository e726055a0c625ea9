"""What a record in a dead letter queue says, as a typed value."""

from spile.topics.events.dead_letters._reading import read_dead_letter
from spile.topics.events.dead_letters._record import DeadLetterHeader, DeadLetterRecord, Octets

__all__ = ["DeadLetterHeader", "DeadLetterRecord", "Octets", "read_dead_letter"]
