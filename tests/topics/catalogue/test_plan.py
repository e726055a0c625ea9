"""The difference between a catalogue and a cluster."""

from __future__ import annotations

from datetime import timedelta

from spile.topics import TopicSpec, TopicState, plan, topic_setup

NAME = "dev.shop.orders.placed.v1"
SPEC = TopicSpec(name="shop.orders.placed.v1", owner="shop", retention=timedelta(days=1))


def state(**changes):
    setup = topic_setup(NAME, SPEC)
    values = {
        "partitions": setup.partitions,
        "replication": setup.replication,
        "config": {**setup.config, "segment.bytes": "1"},
    }
    return TopicState(**{**values, **changes})


def test_a_cluster_as_the_catalogue_says_needs_nothing():
    found = plan({NAME: SPEC}, {NAME: state()})
    assert found.is_empty
    assert found.unknown == ()


def test_a_missing_topic_is_made_with_the_settings_of_its_spec():
    (setup,) = plan({NAME: SPEC}, {}).missing
    assert (setup.topic, setup.partitions, setup.replication) == (NAME, 6, 3)
    assert setup.config == {
        "cleanup.policy": "delete",
        "max.message.bytes": "2000000",
        "min.insync.replicas": "2",
        "retention.ms": "86400000",
    }


def test_a_compacted_topic_has_no_retention_of_ours():
    spec = TopicSpec(name="shop.orders.placed.v1", owner="shop", cleanup="compact")
    assert "retention.ms" not in topic_setup(NAME, spec).config


def test_drift_names_both_sides():
    present = state(config={**state().config, "retention.ms": "5"})
    (found,) = plan({NAME: SPEC}, {NAME: present}).drifted
    assert (found.setting, found.wanted, found.present, found.action) == (
        "retention.ms",
        "86400000",
        "5",
        "set",
    )


def test_growing_needs_leave_and_shrinking_never_happens():
    (grow,) = plan({NAME: SPEC}, {NAME: state(partitions=2)}).drifted
    (shrink,) = plan({NAME: SPEC}, {NAME: state(partitions=9)}).drifted
    assert (grow.action, shrink.action) == ("grow", "never")


def test_replication_is_told_and_never_changed():
    (found,) = plan({NAME: SPEC}, {NAME: state(replication=1)}).drifted
    assert (found.setting, found.action) == ("replication", "never")


def test_topics_of_others_are_told_and_those_of_kafka_are_not():
    found = plan({}, {"legacy": state(), "__consumer_offsets": state()})
    assert found.unknown == ("legacy",)
    assert found.is_empty


def test_in_dev_replication_is_capped_to_the_brokers_with_a_note():
    (setup,) = plan({NAME: SPEC}, {}, brokers=1, environment="dev").missing
    assert (setup.replication, setup.config["min.insync.replicas"]) == (1, "1")
    assert "replication 1 instead of 3" in setup.notes[0]
    small = state(replication=1, config={**state().config, "min.insync.replicas": "1"})
    assert plan({NAME: SPEC}, {NAME: small}, brokers=1, environment="test").is_empty


def test_in_prod_replication_is_never_capped():
    for environment in ("staging", "prod", None):
        (setup,) = plan({NAME: SPEC}, {}, brokers=1, environment=environment).missing
        assert (setup.replication, setup.notes) == (3, ())
