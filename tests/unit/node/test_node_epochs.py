"""Key epochs: what is published comes back, and what is not what the chain names is not worked with."""

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from node_world import World

from veil.errors import CiphertextInvalid, ClassUnreachable, ConfigInvalid, FheUnavailable, Untrusted
from veil.fhe import publickey, vectors
from veil.fhe.ceremony import CeremonyResult
from veil.fhe.encoding import default_encoding
from veil.fhe.keyshare import KeyShare
from veil.fhe.material import CircuitMaterial, EpochMaterial
from veil.fhe.ports import Figures
from veil.identity import Identity
from veil.mesh.faults import Hold
from veil.node import epoch_loading
from veil.node.claims import Claim, ShareClaims
from veil.node.epoch_loading import EpochLoader
from veil.node.epochs import OVERLAP_S, EpochKeeper
from veil.node.evaluating import EVALUATOR_RETRY_S
from veil.node.publication import material_digests, material_of, publication
from veil.placement.ports import EpochParts
from veil.store.journal import Journal
from veil.store.rows import EpochRow
from veil.types import Digest, Epoch, PeerId, Secret
from veil.wire.codec import encode, sha256
from veil.wire.nodes import KeyEpoch

pytestmark = pytest.mark.looptime

SECRET = np.random.default_rng(1).integers(0, 2, vectors.DIMENSION).astype(np.int64)
KEY = publickey.generate(SECRET, 2.0**-49.9, 1)
MATERIAL = EpochMaterial(
    epoch=Epoch(1),
    parameters="plain",
    members=2,
    threshold=2,
    public_key=KEY.to_bytes(),
    evaluation_keys=b"evaluation keys",
    circuits=(
        CircuitMaterial(name="digc7-n4-r4", profile="default", shape="choose", candidates=4, server=b"server", client=b"client"),
    ),
    encoding=default_encoding().to_json(),
    known_input=b"known input",
    classes=(Digest(b"c" * 32),),
    flooding_bits=0,
    max_decryptions=1000,
)


def share(member: int) -> Secret:
    values = tuple(range(vectors.DIMENSION))
    pairwise = {3 - member: bytes(32)}
    return KeyShare(key=KEY.name, member=member, members=2, threshold=2, values=values, pairwise=pairwise).to_secret()


def published(*committee: PeerId, number: int = 1) -> tuple[KeyEpoch, dict[Digest, bytes]]:
    material = replace(MATERIAL, epoch=Epoch(number), public_key=publickey.generate(SECRET, 2.0**-49.9, number).to_bytes())
    return publication(CeremonyResult(MATERIAL if number == 1 else material, (share(1), share(2))), committee)


class FakeChild:
    """Stands for the evaluator's process."""

    started: list["FakeChild"] = []
    error: Exception | None = None

    def __init__(self, material: EpochMaterial, *, threads: int | None) -> None:
        self.running = False

    @property
    def child_pid(self) -> int | None:
        return 7 if self.running else None

    async def start(self) -> None:
        self.running = True
        self.started.append(self)
        if self.error is not None:
            raise self.error

    async def close(self) -> None:
        self.running = False


@pytest.fixture(autouse=True)
def children(monkeypatch: pytest.MonkeyPatch) -> type[FakeChild]:
    monkeypatch.setattr(FakeChild, "started", [])
    monkeypatch.setattr(FakeChild, "error", None)
    monkeypatch.setattr(epoch_loading, "ChildEvaluator", FakeChild)
    return FakeChild


class Keeping:
    def __init__(self, world: World, directory: Path) -> None:
        self.world = world
        self.directory = directory
        self.heard: list[EpochParts | None] = []
        self.journal = Journal(directory / "journal.db")
        self.caught_up = True
        self.registry_answers = True
        self.keeper = self.made()

    def made(self, public_key_file: Path | None = None) -> EpochKeeper:
        self.claims = ShareClaims(self.world.identity, self.world.projection, self.journal.id, lambda: self.caught_up)
        loader = EpochLoader(
            identity=self.world.identity,
            mesh=self.world.mesh,
            journal=self.journal,
            claims=self.claims,
            public_key_file=public_key_file,
            evaluator_threads=0,
            on_claim=self.say,
        )
        return EpochKeeper(projection=self.world.projection, loader=loader, on_parts=self.heard.append)

    def say(self) -> None:
        """What membership does: the registry is told, unless it is away."""
        if self.registry_answers:
            self.world.register(self.world.identity, name="node-1", journals=self.claims.wanted())

    def lose_journal(self) -> None:
        """The file is gone; the node starts anew."""
        self.journal.close()
        for path in self.directory.glob("journal.db*"):
            path.unlink()
        self.restart()

    def restart(self) -> None:
        self.journal = Journal(self.directory / "journal.db")
        self.keeper = self.made()

    async def publish(self, *committee: PeerId, change: dict[str, object] | None = None, number: int = 1) -> KeyEpoch:
        """An epoch whose blobs the other node has."""
        epoch, blobs = published(*committee, number=number)
        if change:
            epoch = KeyEpoch(**{name: getattr(epoch, name) for name in epoch.__struct_fields__} | change)  # type: ignore[arg-type]
        for content in [*blobs.values(), encode(epoch)]:
            await self.world.far.put(content)
        self.name(epoch, number=number)
        return epoch

    def name(self, epoch: KeyEpoch, *, active: bool = True, number: int = 1) -> None:
        row = EpochRow(epoch=Epoch(number), digest=sha256(encode(epoch)), active=active)
        self.world.write(lambda writer: writer.put_epoch(row))


@pytest.fixture
async def keeping(tmp_path: Path) -> Keeping:
    return Keeping(await World().start(), tmp_path)


def others() -> tuple[PeerId, PeerId]:
    return Identity.generate().peer_id, Identity.generate().peer_id


# publication


def test_what_is_published_comes_back() -> None:
    first, second = Identity.generate(), Identity.generate()
    epoch, blobs = published(first.peer_id, second.peer_id)
    assert all(sha256(content) == digest for digest, content in blobs.items())
    assert material_of(epoch, blobs) == MATERIAL
    assert blobs[sha256(encode(epoch))] == encode(epoch)
    assert first.open(blobs[Digest(epoch.shares[0])]) == share(1).reveal()
    with pytest.raises(Untrusted):
        second.open(blobs[Digest(epoch.shares[0])])


def test_no_share_is_published_bare() -> None:
    _, blobs = published(*others())
    assert not any(share(member).reveal()[100:200] in content for member in (1, 2) for content in blobs.values())


@pytest.mark.parametrize("index", range(6))
def test_a_blob_that_is_missing_or_another_is_refused(index: int) -> None:
    epoch, blobs = published(*others())
    digest = material_digests(epoch)[index]
    with pytest.raises(Untrusted):
        material_of(epoch, blobs | {digest: b"another"})
    with pytest.raises(Untrusted):
        material_of(epoch, {known: content for known, content in blobs.items() if known != digest})


# the keeper


async def test_a_node_outside_the_committee_encrypts_and_evaluates_nothing(keeping: Keeping) -> None:
    await keeping.publish(*others())
    await keeping.keeper.sync()
    (parts,) = keeping.heard
    assert parts is not None
    assert (keeping.keeper.problem, parts.evaluator, parts.decryptor) == ("", None, None)
    assert keeping.keeper.fhe.reason == "NotInCommittee"
    figures = Figures(cpu_milli=1, memory_bytes=1, disk_bytes=0, gpu_count=0)
    parts.encryptor.check_demand(parts.encryptor.demand(figures))
    await keeping.keeper.sync()
    assert len(keeping.heard) == 1, "once is enough"


async def test_a_member_opens_its_share_once_and_keeps_it(keeping: Keeping, children: type[FakeChild]) -> None:
    epoch = await keeping.publish(Identity.generate().peer_id, keeping.world.identity.peer_id)
    await keeping.keeper.sync()
    parts = keeping.keeper.parts
    assert parts is not None
    assert parts.decryptor is not None
    assert (parts.decryptor.member, len(children.started)) == (2, 1)  # type: ignore[attr-defined]
    kept = keeping.journal.shares.get(Epoch(1))
    assert kept == share(2)
    for mesh in (keeping.world.mesh, keeping.world.far):
        await mesh.drop(Digest(epoch.shares[1]))
    keeping.journal.close()
    keeping.restart()
    await keeping.keeper.sync()
    assert (keeping.keeper.problem, keeping.keeper.fhe.reason) == ("", "InClass")


async def test_a_lost_blob_is_a_problem_until_it_is_found(keeping: Keeping) -> None:
    epoch = await keeping.publish(*others())
    lost = Digest(epoch.evaluation_keys)
    await keeping.world.far.drop(lost)
    with pytest.raises(FheUnavailable):
        await keeping.keeper.sync()
    assert keeping.keeper.problem.startswith("FheUnavailable")
    assert lost.hex()[:16] in keeping.keeper.problem
    assert keeping.keeper.parts is None
    await keeping.world.far.put(MATERIAL.evaluation_keys)
    await keeping.keeper.sync()
    assert keeping.keeper.problem == ""


async def test_a_blob_with_other_bytes_is_refused(keeping: Keeping) -> None:
    epoch = await keeping.publish(*others())
    keeping.world.far.blobs[Digest(epoch.public_key)] = b"another key"
    with pytest.raises(Untrusted):
        await keeping.keeper.sync()
    assert keeping.keeper.problem.startswith("DigestMismatch")
    assert keeping.heard == []


async def test_the_wrong_public_key_file_is_refused_and_the_right_one_is_taken(keeping: Keeping) -> None:
    await keeping.publish(*others())
    path = keeping.directory / "public.key"
    keeper = keeping.made(path)
    with pytest.raises(ConfigInvalid):
        await keeper.sync()
    path.write_bytes(b"another")
    with pytest.raises(Untrusted):
        await keeper.sync()
    assert "VEIL" not in keeper.problem
    assert str(path) in keeper.problem
    assert keeping.heard == []
    path.write_bytes(MATERIAL.public_key)
    await keeper.sync()
    assert keeper.problem == ""


async def test_an_epoch_of_another_number_or_without_all_shares_is_refused(keeping: Keeping) -> None:
    me, other = keeping.world.identity.peer_id, keeping.world.other.peer_id
    await keeping.publish(me, other, change={"epoch": 7})
    with pytest.raises(Untrusted):
        await keeping.keeper.sync()
    await keeping.publish(me, other, change={"mode": "designated"})
    with pytest.raises(Untrusted):
        await keeping.keeper.sync()
    await keeping.publish(me, other, change={"shares": ()})
    with pytest.raises(Untrusted):
        await keeping.keeper.sync()


async def test_a_member_out_of_class_abstains_says_so_and_stays_in_the_epoch(keeping: Keeping, children: type[FakeChild]) -> None:
    await keeping.publish(keeping.world.identity.peer_id, keeping.world.other.peer_id)
    assert keeping.keeper.fhe == (False, "EpochMissing", keeping.keeper.problem)
    children.error = ClassUnreachable("another determinism class")
    for _ in range(3):
        await keeping.keeper.sync()
    assert [child.running for child in children.started] == [False], "tried once, and no process is left"
    parts = keeping.keeper.parts
    assert parts is not None
    assert (keeping.keeper.problem, parts.evaluator, parts.decryptor is not None) == ("", None, True)
    assert keeping.keeper.fhe == (False, "ClassUnreachable", "this member abstains: another determinism class")
    children.error = None
    await asyncio.sleep(EVALUATOR_RETRY_S + 1)
    await keeping.keeper.sync()
    assert keeping.heard[-1] is not None
    assert keeping.heard[-1].evaluator is children.started[-1]
    assert keeping.keeper.fhe == (True, "InClass", "")
    await keeping.keeper.close()
    assert not children.started[-1].running
    assert keeping.heard[-1] is None


async def test_an_evaluator_that_was_killed_is_shown_and_started_again(keeping: Keeping, children: type[FakeChild]) -> None:
    await keeping.publish(keeping.world.identity.peer_id, keeping.world.other.peer_id)
    await keeping.keeper.sync()
    children.started[0].running = False
    assert keeping.keeper.fhe.reason == "EvaluatorAway"
    await keeping.keeper.sync()
    assert keeping.keeper.fhe == (True, "InClass", "")
    assert len(keeping.heard) == 1, "it is the same evaluator: nobody has to be told"
    children.started[0].running, children.error = False, FheUnavailable("no memory")
    await keeping.keeper.sync()
    assert keeping.keeper.fhe == (False, "EvaluatorAway", "this member abstains: no memory")
    assert keeping.heard[-1] is not None
    assert keeping.heard[-1].evaluator is None


async def test_an_evaluator_that_fails_beyond_help_leaves_no_process(keeping: Keeping, children: type[FakeChild]) -> None:
    await keeping.publish(keeping.world.identity.peer_id, keeping.world.other.peer_id)
    children.error = CiphertextInvalid("no circuit")
    with pytest.raises(CiphertextInvalid):
        await keeping.keeper.sync()
    assert [child.running for child in children.started] == [False]
    assert keeping.heard == []


async def test_an_unusable_key_is_found_before_a_process_is_started(keeping: Keeping, children: type[FakeChild]) -> None:
    bad = replace(MATERIAL, public_key=b"no key")
    peers = (keeping.world.identity.peer_id, keeping.world.other.peer_id)
    epoch, blobs = publication(CeremonyResult(bad, (share(1), share(2))), peers)
    for content in blobs.values():
        await keeping.world.far.put(content)
    keeping.name(epoch)
    with pytest.raises(CiphertextInvalid):
        await keeping.keeper.sync()
    assert children.started == []


async def test_a_retired_epoch_is_worked_with_no_more(keeping: Keeping) -> None:
    epoch = await keeping.publish(*others())
    await keeping.keeper.sync()
    keeping.name(epoch, active=False)
    await keeping.keeper.sync()
    assert (keeping.heard[-1], keeping.keeper.problem) == (None, "the registry has no active key epoch")
    keeping.name(epoch)
    await keeping.keeper.sync()
    assert keeping.heard[-1] is not None


async def test_the_problem_is_there_while_the_first_epoch_is_being_fetched(keeping: Keeping) -> None:
    await keeping.publish(*others())
    hold = keeping.world.network.afflict(Hold())
    task = asyncio.create_task(keeping.keeper.sync())
    await asyncio.sleep(1)
    assert keeping.keeper.problem
    hold.heal()
    await task


# the journal that took a share


async def test_a_share_waits_until_the_registry_names_the_journal(keeping: Keeping, children: type[FakeChild]) -> None:
    keeping.registry_answers = False
    await keeping.publish(keeping.world.identity.peer_id, keeping.world.other.peer_id)
    for _ in range(2):
        with pytest.raises(FheUnavailable, match="journal"):
            await keeping.keeper.sync()
    assert (keeping.journal.shares.epochs(), children.started) == ([], [])
    keeping.registry_answers = True
    keeping.say()
    await keeping.keeper.sync()
    assert keeping.keeper.fhe.reason == "InClass"


async def test_a_member_that_lost_its_journal_does_not_decrypt_again_in_that_epoch(
    keeping: Keeping, children: type[FakeChild]
) -> None:
    me, other = keeping.world.identity.peer_id, keeping.world.other.peer_id
    await keeping.publish(me, other)
    await keeping.keeper.sync()
    await keeping.keeper.close()
    keeping.lose_journal()
    await keeping.keeper.sync()
    parts = keeping.keeper.parts
    assert parts is not None
    assert (parts.decryptor, parts.evaluator, keeping.keeper.problem) == (None, None, "")
    assert keeping.keeper.fhe.reason == "JournalLost"
    assert (len(children.started), keeping.journal.shares.epochs()) == (1, [])
    keeping.say()
    await keeping.keeper.close()
    keeping.lose_journal()
    await keeping.keeper.sync()
    assert keeping.keeper.fhe.reason == "JournalLost", "what it publishes later keeps the name of the journal that was lost"


async def test_the_next_epoch_is_open_to_the_new_journal(keeping: Keeping) -> None:
    me, other = keeping.world.identity.peer_id, keeping.world.other.peer_id
    first = await keeping.publish(me, other)
    await keeping.keeper.sync()
    keeping.lose_journal()
    await keeping.keeper.sync()
    await keeping.publish(me, other, number=2)
    keeping.name(first, active=False)
    await keeping.keeper.sync()
    assert keeping.keeper.parts is not None
    assert (keeping.keeper.parts.key_epoch.epoch, keeping.keeper.fhe.reason) == (2, "InClass")
    keeping.say()
    assert keeping.claims.wanted() == ((2, keeping.journal.id),), "a retired epoch's claim is of no use to anybody"


async def test_nothing_is_claimed_before_the_chain_was_read(keeping: Keeping) -> None:
    """A node that replays the chain sees its own old entries first: what they lack, a later one may have."""
    keeping.caught_up = False
    await keeping.publish(keeping.world.identity.peer_id, keeping.world.other.peer_id)
    with pytest.raises(FheUnavailable):
        await keeping.keeper.sync()
    assert keeping.claims.wanted() == ()
    keeping.world.register(keeping.world.identity, name="node-1", journals=((1, b"another journal."),))
    keeping.caught_up = True
    await keeping.keeper.sync()
    assert keeping.keeper.fhe.reason == "JournalLost"


async def test_the_tests_notice_a_member_that_trusts_any_journal(
    keeping: Keeping, children: type[FakeChild], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken twin: without the registry's word, the lost journal's share is used again."""
    monkeypatch.setattr(ShareClaims, "of", lambda self, epoch: Claim.OURS)
    with pytest.raises(AssertionError):
        await test_a_member_that_lost_its_journal_does_not_decrypt_again_in_that_epoch(keeping, children)


# rotation


async def test_the_next_epoch_is_prepared_while_the_active_one_works(keeping: Keeping, children: type[FakeChild]) -> None:
    me, other = keeping.world.identity.peer_id, keeping.world.other.peer_id
    first = await keeping.publish(me, other)
    await keeping.keeper.sync()
    assert keeping.keeper.prepared == (True, "NoNextEpoch", "")
    await keeping.publish(me, other, number=2)
    await keeping.keeper.sync()
    working, prepared = keeping.keeper.parts, keeping.keeper.next_parts
    assert working is not None
    assert prepared is not None
    assert (working.key_epoch.epoch, prepared.key_epoch.epoch) == (1, 2)
    assert [child.running for child in children.started] == [True, True]
    assert keeping.keeper.prepared == (True, "Prepared", "epoch 2")
    keeping.name(first, active=False)
    await keeping.keeper.sync()
    assert keeping.keeper.parts is prepared, "everything was there already"
    assert keeping.keeper.last_parts is working
    assert len(children.started) == 2


async def test_the_last_epochs_evaluator_ends_after_the_overlap(keeping: Keeping, children: type[FakeChild]) -> None:
    me, other = keeping.world.identity.peer_id, keeping.world.other.peer_id
    first = await keeping.publish(me, other)
    await keeping.publish(me, other, number=2)
    await keeping.keeper.sync()
    keeping.name(first, active=False)
    await keeping.keeper.sync()
    await asyncio.sleep(OVERLAP_S - 1)
    await keeping.keeper.sync()
    assert [child.running for child in children.started] == [True, True]
    await asyncio.sleep(2)
    await keeping.keeper.sync()
    assert [child.running for child in children.started] == [False, True]
    assert keeping.keeper.last_parts is None


async def test_there_are_never_more_than_two_evaluators(keeping: Keeping, children: type[FakeChild]) -> None:
    me, other = keeping.world.identity.peer_id, keeping.world.other.peer_id
    epochs = [await keeping.publish(me, other, number=number) for number in range(1, 5)]
    for number in range(1, 5):
        for _ in range(3):
            await keeping.keeper.sync()
            assert sum(child.running for child in children.started) <= 2
            assert keeping.keeper.parts is not None
            assert keeping.keeper.parts.key_epoch.epoch == number
        keeping.name(epochs[number - 1], active=False, number=number)
        await asyncio.sleep(1)
    await keeping.keeper.close()
    assert not any(child.running for child in children.started)


async def test_a_next_epoch_that_is_not_complete_is_shown_and_keeps_nothing_from_working(keeping: Keeping) -> None:
    await keeping.publish(*others())
    await keeping.keeper.sync()
    epoch = await keeping.publish(*others(), number=2)
    await keeping.world.far.drop(Digest(epoch.evaluation_keys))
    await keeping.world.mesh.drop(Digest(epoch.evaluation_keys))
    with pytest.raises(FheUnavailable):
        await keeping.keeper.sync()
    assert (keeping.keeper.problem, keeping.keeper.prepared.reason) == ("", "NotPrepared")
    assert keeping.keeper.parts is not None
    assert keeping.keeper.next_parts is None
    keeping.name(epoch, active=False, number=2)
    await keeping.keeper.sync()
    assert keeping.keeper.prepared.reason == "NoNextEpoch"


async def test_a_retired_epoch_does_not_stand_in_for_one_that_is_not_complete(keeping: Keeping) -> None:
    first = await keeping.publish(*others())
    await keeping.keeper.sync()
    epoch = await keeping.publish(*others(), number=2)
    for mesh in (keeping.world.mesh, keeping.world.far):
        await mesh.drop(Digest(epoch.encoding))
    keeping.name(first, active=False)
    with pytest.raises(FheUnavailable):
        await keeping.keeper.sync()
    assert keeping.heard[-1] is None
    await keeping.world.far.put(MATERIAL.encoding)
    await keeping.keeper.sync()
    assert keeping.heard[-1] is not None
    assert keeping.heard[-1].key_epoch.epoch == 2
