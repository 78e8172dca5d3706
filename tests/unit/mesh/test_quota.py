"""The disk that others may use."""

import shutil
from collections import namedtuple

import pytest

from veil.config import MeshLimits
from veil.errors import LimitExceeded
from veil.mesh.blobs import BlobStore
from veil.mesh.quota import Quota
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
    limits = Quota(store, peer_max_bytes=100, max_bytes=1000)
    push(limits, store, A, b"x" * 60)
    for again in (limits, Quota(store, peer_max_bytes=100, max_bytes=1000)):
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
    limits = Quota(store, peer_max_bytes=100, max_bytes=1000)
    limits.reserve(A, bytes(32), 60)
    with pytest.raises(LimitExceeded):
        limits.reserve(A, b"1" * 32, 60)


def test_what_was_dropped_or_is_the_nodes_own_does_not_count(store):
    limits = Quota(store, peer_max_bytes=100, max_bytes=1000)
    store.put(b"own" * 1000)
    digest = push(limits, store, A, b"x" * 60)
    store.drop(digest)
    limits.reserve(A, bytes(32), 100)


def test_a_full_disk_takes_nothing_for_others(store, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(510))
    limits = Quota(store, peer_max_bytes=100, max_bytes=1000, free_min_bytes=500)
    limits.reserve(A, bytes(32), 10)
    with pytest.raises(LimitExceeded, match="VEIL_MESH_DISK_FREE_MIB"):
        limits.reserve(A, bytes(32), 11)


def test_the_settings_are_in_mebibytes(store, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1 << 40))
    limits = Quota.within(store, MeshLimits(peer_disk_mib=2, disk_mib=3))
    limits.reserve(A, bytes(32), 2 << 20)
    with pytest.raises(LimitExceeded, match="VEIL_MESH_PEER_DISK_MIB"):
        limits.reserve(A, bytes(32), 1)
    limits.reserve(B, bytes(32), 1 << 20)
    with pytest.raises(LimitExceeded, match="VEIL_MESH_DISK_MIB"):
        limits.reserve(B, b"1" * 32, 1)
