"""The disk that others may use."""

import shutil
from collections import namedtuple

import pytest

from veil.errors import LimitExceeded
from veil.mesh.blobs import BlobStore
from veil.mesh.quota import FREE_MIN_BYTES, Quota
from veil.wire.codec import sha256

A, B = b"a" * 32, b"b" * 32


@pytest.fixture
def store(tmp_path):
    return BlobStore(tmp_path / "blobs")


def push(limits: Quota, store: BlobStore, peer: bytes, content: bytes):
    digest = sha256(content)
    limits.reserve(peer, digest, len(content))
    store.put(content)
    limits.settle(peer, digest, kept=True)
    return digest


def test_a_peer_has_its_share_and_no_more_also_after_a_restart(store):
    limits = Quota(store, peer_max_bytes=100)
    push(limits, store, A, b"x" * 60)
    for again in (limits, Quota(store, peer_max_bytes=100)):
        with pytest.raises(LimitExceeded, match="60 of 100"):
            again.reserve(A, bytes(32), 41)
        again.reserve(B, bytes(32), 100)
        again.settle(B, bytes(32), kept=False)
        assert again.used(B) == 0


def test_all_peers_together_have_a_limit(store):
    limits = Quota(store, peer_max_bytes=100, max_bytes=150)
    push(limits, store, A, b"x" * 90)
    with pytest.raises(LimitExceeded, match="all peers"):
        limits.reserve(B, bytes(32), 61)


def test_what_is_on_its_way_counts(store):
    limits = Quota(store, peer_max_bytes=100)
    limits.reserve(A, bytes(32), 60)
    with pytest.raises(LimitExceeded):
        limits.reserve(A, b"1" * 32, 60)


def test_what_was_dropped_or_is_the_nodes_own_does_not_count(store):
    limits = Quota(store, peer_max_bytes=100)
    store.put(b"own" * 1000)
    digest = push(limits, store, A, b"x" * 60)
    store.drop(digest)
    limits.reserve(A, bytes(32), 100)


def test_a_full_disk_takes_nothing_for_others(store, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(FREE_MIN_BYTES + 10))
    limits = Quota(store)
    limits.reserve(A, bytes(32), 10)
    with pytest.raises(LimitExceeded, match="FREE_MIN_BYTES"):
        limits.reserve(A, bytes(32), 11)
