"""Objects, namespaces, kinds, labels, images and the parts of an epoch."""

from dataclasses import replace

import pytest
from eth_hash.auto import keccak

from chain_conformance.setting import NAMESPACE, SPACE, WEB, WORKLOAD, Bench, digest, join, replay
from veil.chain.fake import FAKE_PARTS
from veil.chain.ports import (
    EpochPublished,
    EpochRetired,
    ImageCommitted,
    ImageRootChanged,
    NodeLabelsChanged,
    ObjectApplied,
    ObjectDeleted,
    PolicyChanged,
)
from veil.chain.records import EpochRecord, EpochStatus, Right
from veil.errors import Conflict, Forbidden, InvalidInput, LimitExceeded, NotFound
from veil.types import Digest, Epoch, Generation
from veil.wire.merkle import proof_of, root_of


async def object_lifecycle(bench: Bench) -> None:
    chain = await bench.client()
    first = (await chain.head()).rv
    with pytest.raises(NotFound):
        await chain.apply_object(WORKLOAD, WEB, Generation(0), b"no namespace yet")
    assert await chain.apply_object(NAMESPACE, SPACE, Generation(0), b"space") == 1
    assert await chain.apply_object(WORKLOAD, WEB, Generation(0), b"one") == 1
    assert await chain.apply_object(WORKLOAD, WEB, Generation(1), b"two", finalizers=3) == 2
    await chain.delete_object(WORKLOAD, WEB, Generation(2))
    with pytest.raises(Conflict):
        await chain.apply_object(WORKLOAD, WEB, Generation(3), b"while it is being deleted")
    await chain.remove_finalizer(WORKLOAD, WEB, 1)
    await chain.remove_finalizer(WORKLOAD, WEB, 2)
    with pytest.raises(NotFound):
        await chain.delete_object(WORKLOAD, WEB, Generation(3))
    assert await chain.apply_object(WORKLOAD, WEB, Generation(0), b"again") == 4
    events = (await replay(chain)).since(first)
    assert [type(event).__name__ for event in events] == [
        "ObjectApplied",
        "ObjectApplied",
        "ObjectApplied",
        "ObjectApplied",
        "OtherEvent",
        "ObjectDeleted",
        "ObjectApplied",
    ]
    assert events[3] == ObjectApplied(
        rv=first + 4, kind=WORKLOAD, object_id=WEB, generation=Generation(3), owner=chain.operator, envelope=b"", deleting=True
    )
    assert events[5] == ObjectDeleted(rv=first + 6, kind=WORKLOAD, object_id=WEB, generation=Generation(3))
    assert events[6] == ObjectApplied(
        rv=first + 7, kind=WORKLOAD, object_id=WEB, generation=Generation(4), owner=chain.operator, envelope=b"again"
    )


async def generation_conflicts(bench: Bench) -> None:
    chain = await bench.client()
    first = (await chain.head()).rv
    await chain.apply_object(NAMESPACE, SPACE, Generation(0), b"space")
    await chain.apply_object(WORKLOAD, WEB, Generation(0), b"one")
    for expected in (0, 2, 7):
        with pytest.raises(Conflict):
            await chain.apply_object(WORKLOAD, WEB, Generation(expected), b"stale")
        with pytest.raises(Conflict):
            await chain.delete_object(WORKLOAD, WEB, Generation(expected))
    with pytest.raises(Conflict):
        await chain.delete_object(NAMESPACE, SPACE, Generation(1))  # not empty
    with pytest.raises(LimitExceeded):
        await chain.apply_object(WORKLOAD, WEB, Generation(1), bytes(513))
    with pytest.raises(InvalidInput):
        await chain.apply_object(7, WEB, Generation(0), b"no such kind")
    with pytest.raises(InvalidInput):
        await chain.apply_object(NAMESPACE, WEB, Generation(0), b"not a namespace's id")
    assert await chain.apply_object(WORKLOAD, WEB, Generation(1), bytes(512)) == 2
    assert (await chain.head()).rv == first + 3


async def namespaces_belong_to_their_creator(bench: Bench) -> None:
    owner, other = await bench.client(1), await bench.client(2)
    await owner.apply_object(NAMESPACE, SPACE, Generation(0), b"mine")
    for refused in (
        other.apply_object(WORKLOAD, WEB, Generation(0), b"x"),
        other.apply_object(NAMESPACE, SPACE, Generation(1), b"x"),
        other.delete_object(NAMESPACE, SPACE, Generation(1)),
        other.set_access(SPACE[:16], other.operator, Right.WRITE),
    ):
        with pytest.raises(Forbidden):
            await refused
    await owner.set_access(SPACE[:16], other.operator, Right.WRITE)
    assert await other.apply_object(WORKLOAD, WEB, Generation(0), b"as editor") == 1
    with pytest.raises(Forbidden):
        await other.apply_object(NAMESPACE, SPACE, Generation(1), b"an editor is no owner")
    await owner.set_access(SPACE[:16], other.operator, Right.NONE)
    with pytest.raises(Forbidden):
        await other.apply_object(WORKLOAD, WEB, Generation(1), b"no longer")
    await owner.delete_object(WORKLOAD, WEB, Generation(1))
    await owner.set_access(SPACE[:16], other.operator, Right.WRITE)
    await owner.delete_object(NAMESPACE, SPACE, Generation(1))
    third = await bench.client(3)
    assert await third.apply_object(NAMESPACE, SPACE, Generation(0), b"a new owner") == 2
    with pytest.raises(Forbidden):
        await other.apply_object(WORKLOAD, WEB, Generation(0), b"the old owner's editor")


async def policy_and_epochs(bench: Bench) -> None:
    admin, other = await bench.client(0), await bench.client(1)
    first = (await admin.head()).rv
    assert await admin.get_policy() == b""
    await admin.set_policy(b"policy" * 20)
    assert await other.get_policy() == b"policy" * 20
    with pytest.raises(LimitExceeded):
        await admin.set_policy(bytes(4097))
    for refused in (other.set_policy(b"x"), other.publish_epoch(Epoch(1), digest("keys"), FAKE_PARTS), other.set_down_signers(1)):
        with pytest.raises(Forbidden):
            await refused
    await admin.publish_epoch(Epoch(1), digest("keys"), FAKE_PARTS)
    with pytest.raises(Conflict):
        await admin.publish_epoch(Epoch(1), digest("other keys"), FAKE_PARTS)
    await admin.publish_epoch(Epoch(2), digest("new keys"), FAKE_PARTS)
    await admin.retire_epoch(Epoch(1))
    with pytest.raises(Conflict):
        await admin.retire_epoch(Epoch(1))
    assert (await replay(other)).since(first) == [
        PolicyChanged(rv=first + 1, policy=b"policy" * 20),
        EpochPublished(rv=first + 2, epoch=1, digest=digest("keys")),
        EpochPublished(rv=first + 3, epoch=2, digest=digest("new keys")),
        EpochRetired(rv=first + 4, epoch=1),
    ]


async def kinds_with_their_own_functions(bench: Bench) -> None:
    chain = await bench.client(1)
    await chain.apply_object(NAMESPACE, SPACE, Generation(0), b"space")
    for kind in (0, 7, 8, 9, 10):
        with pytest.raises(InvalidInput):
            await chain.apply_object(kind, WEB, Generation(0), b"x")


async def labels_images_and_epoch_parts(bench: Bench) -> None:
    node = await join(bench, 1)
    admin, operator, other = await bench.client(0), await bench.client(1), await bench.client(2)
    with pytest.raises(Forbidden):
        await other.set_node_labels(node, digest("labels"))
    await operator.set_node_labels(node, digest("own"))
    await admin.set_node_labels(node, digest("labels"))
    assert await other.node_labels(node) == digest("labels")
    images = [digest(f"image {n}") for n in range(4)]
    leaves = [Digest(bytes(keccak(keccak(image)))) for image in images]
    assert await other.is_image_allowed(images[0], [])
    await admin.set_image_root(root_of(leaves), digest("list"))
    assert await other.is_image_allowed(images[2], proof_of(leaves, 2))
    assert not await other.is_image_allowed(images[1], proof_of(leaves, 2))
    await admin.commit_image(digest("name"), images[0])
    assert await other.image_manifest(digest("name")) == images[0]
    for refused in (other.set_image_root(digest("x"), digest("x")), other.commit_image(digest("name"), images[1])):
        with pytest.raises(Forbidden):
            await refused
    told = [e for e in (await replay(other)).events if isinstance(e, NodeLabelsChanged | ImageRootChanged | ImageCommitted)]
    assert [replace(event, rv=0) for event in told] == [
        NodeLabelsChanged(rv=0, peer=node, labels=digest("own"), by=operator.operator),
        NodeLabelsChanged(rv=0, peer=node, labels=digest("labels"), by=admin.operator),
        ImageRootChanged(rv=0, root=root_of(leaves), images=digest("list")),
        ImageCommitted(rv=0, name=digest("name"), manifest=images[0]),
    ]
    await admin.publish_epoch(Epoch(3), digest("three"), FAKE_PARTS)
    for wrong in ({"threshold": 4}, {"threshold": 0}, {"circuits": Digest(bytes(32))}, {"size": 65}):
        with pytest.raises(InvalidInput):
            await admin.publish_epoch(Epoch(4), digest("four"), replace(FAKE_PARTS, **wrong))  # type: ignore[arg-type]
    for number in (4, 5, 6):
        await admin.publish_epoch(Epoch(number), digest(str(number)), FAKE_PARTS)
    assert await other.get_epoch(Epoch(4)) == EpochRecord(EpochStatus.PREPARED, digest("4"), FAKE_PARTS)
    await admin.activate_epoch(Epoch(5))
    with pytest.raises(Conflict):
        await admin.activate_epoch(Epoch(4))
    await admin.retire_epoch(Epoch(5))
    assert await other.active_epoch() == 6
    statuses = [(await other.get_epoch(Epoch(number))).status for number in range(2, 7)]
    assert statuses == ["None", "Retired", "Retired", "Retired", "Active"]
