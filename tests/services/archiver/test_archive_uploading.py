"""One object on its way into the archive, after whatever happened before."""

import hashlib

import pytest

from spile.services.archiver import DivergedError, OvertakenError, archive, newest_manifest
from spile.services.archiver.objects import CuttingRule, Manifest
from spile.spi import UndecodableError


@pytest.fixture(params=["folder", "bucket"])
def store(request):
    """Open an archive of each kind."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def sealed(numbered, seal):
    """An object of 100 records."""
    return seal(numbered(100))[0]


@pytest.fixture
def repacked(numbered, seal, monkeypatch):
    """The same records as another release of zstandard would pack them."""
    monkeypatch.setattr("spile.services.archiver.objects._container._LEVEL", 19)
    made = seal(numbered(100))[0]
    monkeypatch.undo()
    return made


def test_an_object_and_its_manifest_are_written(store, sealed, look, topic):
    """Both are there afterwards, and the next position is known."""
    archived = archive(store, sealed)

    assert not archived.present
    assert newest_manifest(store, (topic, 0)) == sealed.manifest == archived.manifest
    assert look(store).offsets() == list(range(100))


def test_the_same_again_changes_nothing(store, sealed, look):
    """A second archiver with the same object finds it there."""
    archive(store, sealed)
    before = look(store).content()

    assert archive(store, sealed).present
    assert look(store).content() == before


def test_an_object_without_manifest_is_completed(store, sealed, look):
    """Whoever comes after one that died between the two writes the manifest."""
    store.put(sealed.manifest.object, sealed.data)

    assert archive(store, sealed).present
    assert look(store).offsets() == list(range(100))


def test_other_bytes_of_the_same_records_are_taken_as_they_are(store, sealed, repacked, look):
    """The present object counts, and the manifest tells of its bytes."""
    assert repacked.data != sealed.data
    store.put(sealed.manifest.object, repacked.data)
    archived = archive(store, sealed)

    assert archived.manifest.sha256 == hashlib.sha256(repacked.data).hexdigest()
    assert archived.manifest.size_bytes == len(repacked.data)
    assert look(store).offsets() == list(range(100))


@pytest.mark.parametrize("other", [b"no object", b""])
def test_a_foreign_object_is_a_divergence(store, sealed, other, look):
    """What is there and is no such object is left alone, and said."""
    store.put(sealed.manifest.object, other)

    with pytest.raises(DivergedError) as found:
        archive(store, sealed)
    assert found.value.key == sealed.manifest.object
    assert list(look(store).content()) == [sealed.manifest.object]


def test_other_records_are_a_divergence(store, sealed, numbered, seal):
    """One changed byte of one record is found."""
    changed = numbered(100)
    changed[50] = numbered(1, first=50, value=b"changed")[0]
    store.put(sealed.manifest.object, seal(changed)[0].data)

    with pytest.raises(DivergedError, match="holds other records"):
        archive(store, sealed)


def test_another_object_from_the_same_position_is_a_divergence(store, sealed, numbered, seal):
    """A manifest of the same rule that tells of something else stops, rather than be believed."""
    archive(store, sealed)
    late = numbered(100, first=1)
    late[0] = numbered(1, first=0, timestamp=late[0].timestamp + 7_200_000)[0]

    with pytest.raises(DivergedError):
        archive(store, seal(late)[0])


def test_another_rule_gives_way(store, sealed, numbered, seal, look):
    """Where one rule has archived a position, an object of another rule is not counted."""
    archive(store, sealed)
    other = seal(numbered(100), CuttingRule(records=10))[0]

    with pytest.raises(OvertakenError):
        archive(store, other)
    assert look(store).offsets() == list(range(100))


def test_a_damaged_newest_manifest_stops(store, sealed, topic):
    """Where to go on is never guessed."""
    archive(store, sealed)
    later = sealed.manifest.model_copy(update={"start_position": 100})
    store.put(later.key, later.to_json()[:-20])

    with pytest.raises(UndecodableError):
        newest_manifest(store, (topic, 0))


def test_the_newest_manifest_is_the_last_one(store, numbered, seal, topic):
    """Objects follow one another by position."""
    for made in seal(numbered(500), CuttingRule(records=100)):
        archive(store, made)
    newest = newest_manifest(store, (topic, 0))

    assert isinstance(newest, Manifest)
    assert (newest.start_position, newest.next_position) == (400, 500)


@pytest.fixture
def forgetful(bucket):
    """A server that does not know conditional puts: it never sees the condition."""
    events, name = bucket._client.meta.events, "before-sign.s3.PutObject"

    def forget(request, **_):
        del request.headers["If-None-Match"]

    events.register(name, forget)
    yield bucket
    events.unregister(name, forget)


def test_a_server_without_conditional_puts_overwrites_nothing(forgetful, sealed, numbered, seal):
    """What is there is compared and left alone, even where the server would write over it."""
    other = seal([*numbered(99), *numbered(1, first=99, value=b"changed")])[0]
    assert forgetful.put(other.manifest.object, other.data)
    with pytest.raises(DivergedError, match="holds other records"):
        archive(forgetful, sealed)
    with forgetful.open(sealed.manifest.object) as stream:
        assert stream.read() == other.data
