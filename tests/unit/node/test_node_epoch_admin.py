"""Key epochs on the chain and on disk: which one works, what an activation does, and files that were changed."""

from pathlib import Path

import pytest
from test_node_epochs import others, published

from veil.chain.fake import FAKE_PARTS, FakeChain
from veil.chain.fake_ledger import Ledger
from veil.chain.reading import read_registry
from veil.errors import ConfigInvalid, NotFound
from veil.identity import Identity
from veil.mesh.blobs import BlobStore
from veil.node.dealing import next_number
from veil.node.epoch_admin import activate, retire, states
from veil.node.epoch_files import BLOBS, EPOCH_FILE, blobs_of, hand_over, load_epoch, save_epoch
from veil.types import Address, Digest, Epoch, Generation
from veil.wire.codec import digest, encode
from veil.wire.nodes import NodeInfo, prove_possession
from veil.wire.objects import KINDS, DemandEnvelope, Envelope, demand_id, object_id
from veil.wire.signed import sign

OPERATOR = Address("0x" + "11" * 20)
ADDRESSES = ("/ip4/1.2.3.4/tcp/1",)


class Registry:
    """A fake chain with ``count`` epochs published."""

    def __init__(self, count: int) -> None:
        self.chain = FakeChain(Ledger(OPERATOR), OPERATOR)
        self.count = count

    async def publish(self) -> "Registry":
        for number in range(1, self.count + 1):
            await self.chain.publish_epoch(Epoch(number), Digest(bytes([number]) * 32), FAKE_PARTS)
        return self

    async def said(self) -> dict[int, str]:
        projection = await read_registry(self.chain)
        try:
            return {one.epoch: one.state for one in states(projection)}
        finally:
            projection.close()

    async def activate(self, epoch: int) -> list[Epoch]:
        projection = await read_registry(self.chain)
        return await activate(self.chain, projection, Epoch(epoch))

    async def retire(self, epoch: int, *, force: bool = False) -> None:
        projection = await read_registry(self.chain)
        await retire(self.chain, projection, Epoch(epoch), force=force)


@pytest.mark.looptime
async def test_a_newer_epoch_is_prepared_until_those_before_it_are_retired() -> None:
    registry = await Registry(3).publish()
    assert await registry.said() == {1: "Active", 2: "Prepared", 3: "Prepared"}
    assert await registry.activate(2) == [1]
    assert await registry.said() == {1: "Retired", 2: "Active", 3: "Prepared"}
    assert await registry.activate(2) == []
    assert await registry.activate(3) == [2]
    assert await registry.said() == {1: "Retired", 2: "Retired", 3: "Active"}


@pytest.mark.looptime
async def test_an_activation_over_several_epochs_never_makes_one_between_active() -> None:
    registry = await Registry(3).publish()
    before = len(registry.chain.ledger.blocks)
    assert await registry.activate(3) == [1, 2]
    assert len(registry.chain.ledger.blocks) == before + 1, "one transaction"
    assert await registry.said() == {1: "Retired", 2: "Retired", 3: "Active"}


@pytest.mark.looptime
async def test_an_epoch_in_which_a_workload_cannot_be_placed_is_not_activated() -> None:
    registry = await Registry(2).publish()
    chain, of = registry.chain, object_id("default", "hello")
    space = Envelope(kind="Namespace", namespace="", name="default", uid=b"u" * 16)
    envelope = Envelope(kind="Workload", namespace="default", name="hello", uid=b"u" * 16, resources=b"r" * 32)
    await chain.apply_object(KINDS["Namespace"], object_id("default", ""), Generation(0), encode(space))
    await chain.apply_object(KINDS["Workload"], of, Generation(0), encode(envelope))
    with pytest.raises(ConfigInvalid, match="1 of 1 workloads"):
        await registry.activate(2)
    await chain.apply_object(KINDS["Demand"], demand_id(of, 1), Generation(0), b"no demand")
    for generation, resources in enumerate((b"o" * 32, b"r" * 32)):
        demand = DemandEnvelope(object_id=of, epoch=2, resources=resources, demand=b"d" * 32)
        await chain.apply_object(KINDS["Demand"], demand_id(of, 2), Generation(generation), encode(demand))
        projection = await read_registry(chain)
        assert [(one.demands, one.workloads) for one in states(projection)] == [(0, 1), (generation, 1)]
    assert await registry.activate(2) == [1]


@pytest.mark.looptime
async def test_an_epoch_whose_members_have_not_taken_their_shares_is_not_activated() -> None:
    registry = await Registry(2).publish()
    chain = registry.chain
    for number, count in ((1, 0), (2, 1)):
        identity = Identity.generate()
        await chain.register_node_with_proof(identity.peer_id, OPERATOR, prove_possession(identity, chain.cluster, OPERATOR))
        await chain.approve_node(identity.peer_id)
        journals = ((1, b"j" * 16), (2, b"j" * 16))
        info = NodeInfo(
            peer=identity.peer_id, sequence=1, name=f"n{number}", addresses=("/ip4/1.2.3.4/tcp/1",), journals=journals
        )
        projection = await read_registry(chain)
        assert [one.taken for one in states(projection)] == [count, count]
        with pytest.raises(ConfigInvalid, match=f"{count} members have taken their share of epoch 2, 2 decrypt"):
            await activate(chain, projection, Epoch(2), threshold=2)
        await chain.publish_node_info(identity.peer_id, encode(sign(identity, chain.cluster, info)))
    assert await activate(chain, await read_registry(chain), Epoch(2), threshold=2) == [1]


@pytest.mark.looptime
async def test_what_cannot_be_activated_or_retired() -> None:
    registry = await Registry(2).publish()
    with pytest.raises(NotFound):
        await registry.activate(7)
    await registry.retire(2)
    with pytest.raises(ConfigInvalid, match="for good"):
        await registry.activate(2)
    with pytest.raises(ConfigInvalid, match="already"):
        await registry.retire(2)
    with pytest.raises(ConfigInvalid, match="the only one"):
        await registry.retire(1)
    await registry.retire(1, force=True)
    assert await registry.said() == {1: "Retired", 2: "Retired"}


@pytest.mark.looptime
async def test_numbers_go_on_from_the_registrys_last() -> None:
    registry = await Registry(2).publish()
    projection = await read_registry(registry.chain)
    assert (next_number(projection, None), next_number(projection, 9)) == (3, 9)
    with pytest.raises(ConfigInvalid):
        next_number(projection, 2)


def test_an_epochs_files_come_back_and_reach_a_node(tmp_path: Path) -> None:
    epoch, blobs = published(*others())
    save_epoch(tmp_path / "epoch-1", epoch, blobs)
    found, _ = load_epoch(tmp_path / "epoch-1")
    assert found == epoch
    store = BlobStore(tmp_path / "node")
    assert hand_over(tmp_path / "epoch-1", store) == epoch
    assert all(store.has(wanted) for wanted in [*blobs_of(epoch), digest(epoch)])
    with pytest.raises(ConfigInvalid):
        save_epoch(tmp_path / "epoch-1", epoch, blobs)


@pytest.mark.parametrize("index", range(8))
def test_files_that_were_changed_or_lost_are_noticed(tmp_path: Path, index: int) -> None:
    epoch, blobs = published(*others())
    save_epoch(tmp_path / "epoch", epoch, blobs)
    wanted = [digest(epoch), *blobs_of(epoch)][index]
    path = tmp_path / "epoch" / BLOBS / wanted.hex()
    if index % 2:
        path.unlink()
    else:
        path.write_bytes(b"another")
    with pytest.raises(ConfigInvalid):
        hand_over(tmp_path / "epoch", BlobStore(tmp_path / "node"))


def test_a_directory_that_no_ceremony_left_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid):
        load_epoch(tmp_path)
    (tmp_path / EPOCH_FILE).write_text("no digest")
    with pytest.raises(ConfigInvalid):
        load_epoch(tmp_path)
