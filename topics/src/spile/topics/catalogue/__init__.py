"""Topic names, the topics that exist, and how a cluster is brought to have them."""

from spile.topics.catalogue._catalogue import Catalogue, Route
from spile.topics.catalogue._default import default_catalogue
from spile.topics.catalogue._groups import ConsumerGroup
from spile.topics.catalogue._names import ENVIRONMENTS, TopicKind, TopicName, kebab
from spile.topics.catalogue._plan import (
    Difference,
    Plan,
    TopicSetup,
    TopicState,
    plan,
    topic_setup,
)
from spile.topics.catalogue._spec import TopicSpec
from spile.topics.catalogue._telemetry import TELEMETRY_SOURCES, telemetry_topic

__all__ = [
    "ENVIRONMENTS",
    "TELEMETRY_SOURCES",
    "Catalogue",
    "ConsumerGroup",
    "Difference",
    "Plan",
    "Route",
    "TopicKind",
    "TopicName",
    "TopicSetup",
    "TopicSpec",
    "TopicState",
    "default_catalogue",
    "kebab",
    "plan",
    "telemetry_topic",
    "topic_setup",
]
