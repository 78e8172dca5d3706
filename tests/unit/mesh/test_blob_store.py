"""A file under a digest's name is whole, or it is not there."""

import contextlib

import pytest

from veil.errors import DigestMismatch, LimitExceeded, NotFound
from veil.mesh import blobs
from veil.mesh.blobs import BlobStore
from veil.wire.codec import sha256


@pytest.fixture
def store(tmp_path):
    return BlobStore(tmp_path / "blobs")


def test_what_is_put_can_be_read_and_dropped(store):
    digest = store.put(b"content")
    assert store.put(b"content") == digest == sha256(b"content")
    assert store.has(digest)
    assert store.read(digest) == b"content"
    store.drop(digest)
    assert not store.has(digest)
    with pytest.raises(NotFound):
        store.read(digest)


def test_a_changed_file_is_found_out_and_removed(store, tmp_path):
    digest = store.put(b"content")
    (tmp_path / "blobs" / digest.hex()).write_bytes(b"other")
    with pytest.raises(DigestMismatch):
        store.read(digest)
    assert not store.has(digest)


def test_wrong_bytes_are_not_kept_nor_is_what_was_begun(store, tmp_path, monkeypatch):
    with pytest.raises(DigestMismatch), store.receive(sha256(b"right")) as receiving:
        receiving.write(b"wrong")
    monkeypatch.setattr(blobs, "BLOB_MAX_BYTES", 3)
    with pytest.raises(LimitExceeded), store.receive(sha256(b"right")) as receiving:
        receiving.write(bytes(4))
    assert list((tmp_path / "blobs").iterdir()) == []


def test_a_blob_over_the_limit_is_refused(store, monkeypatch):
    monkeypatch.setattr(blobs, "BLOB_MAX_BYTES", 3)
    with pytest.raises(LimitExceeded):
        store.put(b"four")


def test_a_sweep_removes_what_a_killed_process_left(store, tmp_path):
    digest = store.put(b"content")
    (tmp_path / "blobs" / ".part-abc").write_bytes(b"half")
    store.sweep()
    assert [path.name for path in (tmp_path / "blobs").iterdir()] == [digest.hex()]


def test_what_was_begun_goes_on_from_there_also_after_a_sweep(store):
    content = b"first" + b"second"
    digest = sha256(content)
    with contextlib.suppress(RuntimeError), store.resume(digest) as receiving:
        receiving.write(b"first")
        raise RuntimeError
    store.sweep()
    with store.resume(digest) as receiving:
        receiving.catch_up()
        assert receiving.size_bytes == 5
        receiving.write(b"second")
    assert store.read(digest) == content


def test_a_beginning_that_proves_wrong_is_thrown_away(store, tmp_path):
    digest = sha256(b"right")
    with pytest.raises(DigestMismatch), store.resume(digest) as receiving:
        receiving.write(b"wrong")
    with contextlib.suppress(RuntimeError), store.resume(digest) as receiving:
        receiving.catch_up()
        assert receiving.size_bytes == 0
        raise RuntimeError
    assert list((tmp_path / "blobs").iterdir()) == []


def test_a_beginning_is_not_kept_for_ever(store, tmp_path, monkeypatch):
    with contextlib.suppress(RuntimeError), store.resume(sha256(b"right")) as receiving:
        receiving.write(b"ri")
        raise RuntimeError
    monkeypatch.setattr(blobs, "BEGUN_KEPT_S", -1)
    store.sweep()
    assert list((tmp_path / "blobs").iterdir()) == []
