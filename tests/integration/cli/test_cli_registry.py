"""Running a registry with `veil`, on a real anvil: deploy, register, approve, stake, images, upgrade, leave."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cli_ran import Ran
from eth_account import Account

from veil.chain.client import RegistryChain
from veil.chain.devchain import DevChain
from veil.chain.records import role_address, role_id
from veil.chain.rpc import Rpc
from veil.chain.signer import LocalSigner
from veil.cli.main import run
from veil.config import load_settings, write_settings
from veil.errors import Forbidden
from veil.identity import Identity, peer_id_text
from veil.mesh.blobs import BlobStore
from veil.types import Address, Digest, Generation, Shard
from veil.wire.codec import encode
from veil.wire.merkle import root_of
from veil.wire.nodes import HOSTNAME_LABEL, NodeInfo, labels_digest
from veil.wire.objects import object_id
from veil.wire.rounds import LeafBatch
from veil.wire.signed import sign

pytestmark = pytest.mark.chain
DELAY_S = 3600
DAY_S = 24 * 3600


class Place:
    """A chain, an administrator with an encrypted keystore, a node's directory with an operator's key."""

    def __init__(self, chain: DevChain, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.chain, self.root, self._capsys = chain, root, capsys
        self.home, self.admin = root / "node", root / "admin.json"
        self.peer = ""

    async def veil(self, *arguments: str) -> Ran:
        self._capsys.readouterr()
        code = await asyncio.to_thread(run, arguments)
        return Ran(code, *self._capsys.readouterr())

    async def told(self, *arguments: str) -> Any:
        """What a verb that works says with -o json."""
        code, out, err = await self.veil(*arguments, "-o", "json")
        assert code == 0, err
        return json.loads(out)

    async def node(self, *arguments: str) -> Any:
        return await self.told(*arguments, "--dir", str(self.home))

    async def as_admin(self, *arguments: str) -> Any:
        return await self.node(*arguments, "--keystore", str(self.admin))

    async def refused(self, code: int, said: str, *arguments: str) -> None:
        got, _, err = await self.veil(*arguments, "--dir", str(self.home))
        assert got == code, err
        assert said in err

    @asynccontextmanager
    async def chain_of_operator(self) -> AsyncIterator[RegistryChain]:
        settings, operator = load_settings(self.home, {}), LocalSigner.load(self.home / "operator.key")
        chain = RegistryChain(settings.rpc_urls, Address(settings.contract), operator, deploy_block=settings.contract_block)
        await chain.start()
        yield chain
        await chain.close()

    async def wait(self, seconds: int) -> None:
        rpc = Rpc(self.chain.rpc_url)
        await rpc.find(object, "evm_increaseTime", seconds)
        await rpc.find(object, "evm_mine")
        await rpc.close()


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[Place]:
    chain = DevChain(tmp_path / "chain")
    await chain.start()
    found = Place(chain, tmp_path, capsys)
    admin, operator, identity = LocalSigner.generate(), LocalSigner.generate(), Identity.generate()
    for account in (admin, operator):
        await chain.fund(account.address)
    keystore = Account.encrypt(admin._account.key, "a passphrase", kdf="pbkdf2", iterations=1000)  # quick to open again
    found.admin.write_text(json.dumps(keystore))
    found.admin.chmod(0o600)
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("a passphrase\n")
    passphrase.chmod(0o600)
    monkeypatch.setenv("VEIL_KEYSTORE_PASSPHRASE_FILE", str(passphrase))
    found.home.mkdir()
    identity.save(found.home / "peer.key")
    operator.save(found.home / "operator.key")
    found.peer = peer_id_text(identity.peer_id)
    deployed = await found.told(
        "cluster", "deploy", "--rpc", chain.rpc_url, "--keystore", str(found.admin), "--delay-s", str(DELAY_S)
    )
    settings = {"VEIL_NODE_NAME": "node-1", "VEIL_CHAIN_RPC": chain.rpc_url, "VEIL_CONTRACT_ADDRESS": deployed["registry"]}
    write_settings(found.home, settings | {"VEIL_CONTRACT_BLOCK": str(deployed["block"])})
    yield found
    await chain.stop()


async def test_a_node_joins_and_leaves(place: Place) -> None:
    await place.refused(1, "veil node register", "node", "approve", place.peer, "--keystore", str(place.admin))
    told = await place.node("node", "register")
    assert (told["peer"], told["status"], told["stakeEther"]) == (place.peer, "Pending", "0")
    assert await place.node("node", "register") == told, "again is the same"
    await place.refused(1, "NODE_ADMIN", "node", "approve", place.peer)
    assert (await place.as_admin("node", "approve", place.peer))["status"] == "Active"
    assert (await place.node("node", "stake", "1.5"))["stakeEther"] == "1.5"
    left = await place.node("node", "leave")
    assert left["status"] == "Leaving"
    assert left["stakeFreeAt"] > "2026"
    await place.refused(1, "bonded until", "node", "leave")
    await place.wait(8 * DAY_S)
    gone = await place.node("node", "leave")
    assert (gone["status"], gone["paidOutEther"]) == ("Gone", "1.5")
    await place.refused(1, "nothing to leave", "node", "leave")


async def test_an_administrator_vouches_for_labels(place: Place) -> None:
    await place.node("node", "register")
    await place.as_admin("node", "approve", place.peer)
    await place.refused(1, "not said anything", "node", "vouch", place.peer)
    identity = Identity.load(place.home / "peer.key")
    async with place.chain_of_operator() as chain:
        labels = {HOSTNAME_LABEL: "node-1", "zone": "eu"}
        info = NodeInfo(peer=identity.peer_id, sequence=1, name="node-1", addresses=("/ip4/192.0.2.1/tcp/4001",), labels=labels)
        await chain.publish_node_info(identity.peer_id, encode(sign(identity, chain.cluster, info)))
        vouched = await place.as_admin("node", "vouch", place.peer)
        assert (vouched["labels"], vouched["vouched"]) == (["zone=eu"], True)
        assert await chain.node_labels(identity.peer_id) == labels_digest({"zone": "eu"})
        assert not (await place.as_admin("node", "vouch", place.peer, "--no-more"))["vouched"]
        assert not any(await chain.node_labels(identity.peer_id))


async def test_an_upgrade_waits_for_the_timelock(place: Place) -> None:
    before = await place.node("cluster", "status")
    assert before["roles"]["DEFAULT_ADMIN_ROLE"] == [before["timelock"]], "the timelock alone"
    assert before["delaySeconds"] == DELAY_S
    await place.node("node", "register")
    await place.refused(1, "PROPOSER_ROLE", "cluster", "upgrade")
    scheduled = await place.as_admin("cluster", "upgrade")
    assert scheduled["state"] == "Scheduled"
    execute = ("cluster", "upgrade", "--execute", scheduled["implementation"])
    await place.refused(1, "may be executed in", *execute, "--keystore", str(place.admin))
    await place.refused(1, "is scheduled", *execute[:3], "0x" + "11" * 20, "--keystore", str(place.admin))
    await place.wait(DELAY_S + 1)
    await place.refused(1, "EXECUTOR_ROLE", *execute)
    assert (await place.as_admin(*execute))["state"] == "Upgraded"
    await place.refused(1, "was executed", *execute, "--keystore", str(place.admin))
    after = await place.node("cluster", "status")
    assert after["implementation"] == scheduled["implementation"] != before["implementation"]
    assert (after["resourceVersion"], after["roles"]) == (before["resourceVersion"] + 2, before["roles"])
    assert (await place.as_admin("node", "approve", place.peer))["status"] == "Active", "its storage stayed"


async def test_who_pays_for_a_deployment_keeps_nothing_if_others_are_named(place: Place) -> None:
    admin, guardian, first, second = (LocalSigner.generate().address for _ in range(4))
    arguments = ["cluster", "deploy", "--rpc", place.chain.rpc_url, "--keystore", str(place.admin), "--admin", admin]
    done = await place.told(*arguments, "--guardian", guardian, "--proposer", first, "--proposer", second)
    settings = {"VEIL_NODE_NAME": "node-1", "VEIL_CHAIN_RPC": place.chain.rpc_url, "VEIL_CONTRACT_ADDRESS": done["registry"]}
    write_settings(place.home, settings)
    found = await place.node("cluster", "status")
    assert found["roles"] == {
        "ARBITER": [admin],
        "DEFAULT_ADMIN_ROLE": [done["timelock"]],
        "GUARDIAN": [guardian],
        "KEY_ADMIN": [admin],
        "NODE_ADMIN": [admin],
        "POLICY_ADMIN": [admin],
    }
    assert (await place.veil("cluster", "status", "--dir", str(place.home))).out.count(admin) == 4


async def test_a_proof_that_is_none_is_not_approved(place: Place) -> None:
    """The chain takes any 64 bytes for a proof: whoever approves has to look."""
    squatted = Identity.generate().peer_id
    async with place.chain_of_operator() as chain:
        await chain.register_node_with_proof(squatted, chain.operator, bytes(range(64)))
    text = peer_id_text(squatted)
    await place.refused(3, "no valid proof", "node", "approve", text, "--keystore", str(place.admin))


async def test_policy_is_set_and_read(place: Place) -> None:
    before = await place.node("policy", "get")
    await place.refused(1, "POLICY_ADMIN", "policy", "set", "--profile", "precise")
    changed = await place.as_admin("policy", "set", "--profile", "precise")
    assert changed == {**before, "profile": "precise"}
    assert await place.node("policy", "get") == changed


async def test_terms_of_stakes_are_set_and_read(place: Place) -> None:
    before = await place.node("policy", "stake-terms")
    assert (before["minStakeEther"], before["disputeBondEther"]) == ("0", "0.01")
    await place.refused(1, "POLICY_ADMIN", "policy", "stake-terms", "--min-stake", "2")
    await place.refused(1, "0 or more", "policy", "stake-terms", "--min-stake", "-1")
    changed = await place.as_admin("policy", "stake-terms", "--min-stake", "2", "--dispute-bond", "0")
    assert changed == {**before, "minStakeEther": "2", "disputeBondEther": "0"}
    await place.node("node", "register")
    await place.refused(1, "2000000000000000000 are needed", "node", "approve", place.peer, "--keystore", str(place.admin))


async def test_limits_of_decisions_are_set_and_read(place: Place) -> None:
    await place.refused(1, "POLICY_ADMIN", "policy", "limit", "team", "--decisions", "7")
    await place.refused(1, "whose limit", "policy", "limit", "--decisions", "7")
    assert await place.as_admin("policy", "limit", "--default", "--decisions", "40") == {
        "namespace": "*",
        "decisionsPerEpoch": 40,
    }
    assert (await place.node("policy", "limit", "team"))["decisionsPerEpoch"] == 40
    assert (await place.as_admin("policy", "limit", "team", "--decisions", "7"))["decisionsPerEpoch"] == 7


async def test_images_are_allowed_by_digest(place: Place) -> None:
    first, second = "registry.example/app@sha256:" + "11" * 32, "sha256:" + "22" * 32
    await place.refused(1, "POLICY_ADMIN", "policy", "allow-image", first)
    one = await place.as_admin("policy", "allow-image", first)
    assert one["images"] == ["sha256:" + "11" * 32]
    two = await place.as_admin("policy", "allow-image", second)
    assert two["images"] == ["sha256:" + "11" * 32, second]
    assert await place.as_admin("policy", "allow-image", "--remove", second) == one
    await place.refused(1, "--any", "policy", "allow-image", "--remove", first, "--keystore", str(place.admin))
    assert (await place.as_admin("policy", "allow-image", "--any"))["images"] == []
    await place.refused(1, "names no manifest", "policy", "allow-image", "app:latest")
    await place.refused(1, "which images", "policy", "allow-image")


async def test_a_name_is_pinned_to_a_manifest(place: Place) -> None:
    pinned = "app:1@sha256:" + "33" * 32
    await place.refused(1, "POLICY_ADMIN", "policy", "pin-image", pinned)
    await place.refused(1, "which manifest", "policy", "pin-image", "app:1", "--keystore", str(place.admin))
    name = "docker.io/library/app:1"
    assert await place.as_admin("policy", "pin-image", pinned) == {"image": name, "manifest": "sha256:" + "33" * 32}
    assert await place.as_admin("policy", "pin-image", "app:1", "--remove") == {"image": name, "manifest": ""}


async def test_roles_are_the_timelock_s_to_give(place: Place) -> None:
    who = LocalSigner.generate().address
    grant = ("role", "grant", "NODE_ADMIN", who)
    before = await place.node("role", "list")
    assert before["DEFAULT_ADMIN_ROLE"]["holders"] != [who]
    assert before["NODE_ADMIN"]["admin"] == "DEFAULT_ADMIN_ROLE"
    await place.refused(1, "PROPOSER_ROLE", *grant)
    await place.refused(1, "is scheduled", *grant, "--execute", "--keystore", str(place.admin))
    scheduled = await place.as_admin(*grant)
    assert (scheduled["state"], scheduled["held"]) == ("Scheduled", False)
    await place.refused(1, "may be executed in", *grant, "--execute", "--keystore", str(place.admin))
    await place.wait(DELAY_S + 1)
    done = await place.as_admin(*grant, "--execute")
    assert (done["state"], done["held"]) == ("Done", True)
    assert who in (await place.node("role", "list"))["NODE_ADMIN"]["holders"]
    await place.refused(1, "no account", "role", "grant", "NODE_ADMIN", "0x12")


async def test_a_team_s_lead_gives_its_role(place: Place) -> None:
    lead = (await place.as_admin("role", "set-admin", "TEAM", "NODE_ADMIN"))["state"]
    assert lead == "Scheduled"
    await place.wait(DELAY_S + 1)
    assert (await place.as_admin("role", "set-admin", "TEAM", "NODE_ADMIN", "--execute"))["admin"] == "NODE_ADMIN"
    who = LocalSigner.generate().address
    granted = await place.as_admin("role", "grant", "TEAM", who)
    assert (granted["state"], granted["held"]) == ("Done", True), "an administrator holds NODE_ADMIN itself"
    await place.refused(1, "does not hold NODE_ADMIN", "role", "revoke", "TEAM", who)
    assert not (await place.as_admin("role", "revoke", "TEAM", who))["held"]


async def test_rights_in_a_namespace(place: Place) -> None:
    who = LocalSigner.generate().address
    await place.refused(1, "no namespace", "rights", "list", "team")
    await place.refused(1, "namespace", "rights", "grant", "team", who, "edit")
    async with place.chain_of_operator() as chain:
        await chain.apply_object(1, object_id("team", ""), Generation(0), b"team")
        owner = chain.operator
    assert (await place.node("rights", "grant", "team", who, "edit", "request"))["rights"] == ["edit", "request"]
    assert (await place.node("rights", "grant", "team", who, "view"))["rights"] == ["edit", "request", "view"]
    assert (await place.node("rights", "revoke", "team", who, "edit"))["rights"] == ["request", "view"]
    listed = {"namespace": "team", "owner": owner, "rights": {who: ["request", "view"]}}
    assert await place.node("rights", "list", "team") == listed
    await place.refused(1, "owns team", "rights", "grant", "team", owner, "view")
    await place.refused(1, "no such right", "rights", "grant", "team", who, "view", "--keystore", str(place.admin))
    await place.refused(1, "fly", "rights", "grant", "team", who, "fly")


async def test_a_namespace_is_given_away(place: Place) -> None:
    who = LocalSigner.generate().address
    await place.refused(1, "does not exist", "rights", "transfer", "team", who)
    async with place.chain_of_operator() as chain:
        await chain.apply_object(1, object_id("team", ""), Generation(0), b"team")
    await place.node("rights", "grant", "team", who, "view")
    await place.refused(1, "to whom", "rights", "transfer", "team")
    await place.refused(1, "no such right", "rights", "transfer", "team", who, "--keystore", str(place.admin))
    given = await place.node("rights", "transfer", "team", "--role", "NODE_ADMIN")
    assert (given["role"], given["owner"]) == ("NODE_ADMIN", role_address(role_id("NODE_ADMIN")))
    assert (await place.node("rights", "list", "team"))["rights"] == {}
    await place.refused(1, "no such right", "rights", "transfer", "team", who)
    assert (await place.as_admin("rights", "transfer", "team", who))["owner"] == who, "the administrator holds NODE_ADMIN"


async def test_who_creates_namespaces_is_restricted(place: Place) -> None:
    assert await place.node("policy", "restrict") == {"namespacesRestricted": False}
    await place.refused(1, "POLICY_ADMIN", "policy", "restrict", "--on")
    assert await place.as_admin("policy", "restrict", "--on") == {"namespacesRestricted": True}
    async with place.chain_of_operator() as chain:
        with pytest.raises(Forbidden, match="REQUESTER"):
            await chain.apply_object(1, object_id("team", ""), Generation(0), b"team")
        assert await place.as_admin("policy", "restrict", "--off") == {"namespacesRestricted": False}
        await chain.apply_object(1, object_id("team", ""), Generation(0), b"team")


async def test_a_dispute_is_opened_decided_and_paid_out(place: Place) -> None:
    await place.node("node", "register")
    await place.as_admin("node", "approve", place.peer)
    await place.node("node", "stake", "1")
    leaves = [Digest(bytes([number]) * 32) for number in range(3)]
    batch = BlobStore(place.home / "blobs").put(encode(LeafBatch(shard=7, sequence=1, leaves=tuple(leaves))))
    async with place.chain_of_operator() as chain:
        await chain.append_placements(Shard(7), 1, root_of(leaves), 3, batch)
        await chain.anchor_deployment(Digest(b"n" * 32))
    reason = place.root / "reason.json"
    reason.write_text("{}")
    about = ("--accused", place.peer, "--evidence", str(reason))
    await place.refused(1, "no leaf 7-1-3", "dispute", "open", "7-1-3", *about)
    await place.refused(1, "neither a leaf nor an append", "dispute", "open", "7", *about)
    await place.refused(1, "what is disputed", "dispute", "open", *about)
    opened = await place.as_admin("dispute", "open", "7-1-2", *about)
    assert (opened["status"], opened["accused"], opened["bondEther"]) == ("Open", place.peer, "0.01")
    noted = await place.as_admin("dispute", "open", "--note", "6e" * 32, *about, "--bond", "0.02")
    await place.refused(1, "no append 7-2", "dispute", "open", "7-2", *about)
    stranger = ("--accused", peer_id_text(Identity.generate().peer_id), *about[2:])
    await place.refused(1, "does not operate the accused", "dispute", "open", "7-1", *stranger)
    whole = await place.as_admin("dispute", "open", "7-1", *about)
    which = opened["dispute"]
    assert [one["dispute"] for one in await place.node("dispute", "list")] == [which, noted["dispute"], whole["dispute"]]
    rule = ("dispute", "resolve", whole["dispute"], "--uphold", "--reason", str(reason))
    assert (await place.as_admin(*rule))["stakeEther"] == "1"
    assert await place.node("dispute", "show", which) == opened
    resolve = ("dispute", "resolve", which, "--uphold", "--slash", "0.25", "--reason", str(reason))
    await place.refused(1, "ARBITER", *resolve)
    await place.refused(1, "who is right", *resolve[:3], "--reject", "--slash", "1", "--reason", str(reason))
    decided = await place.as_admin(*resolve)
    assert (decided["status"], decided["stakeEther"]) == ("Upheld", "0.75")
    await place.refused(1, "status Upheld", *resolve, "--keystore", str(place.admin))
    await place.refused(1, "may be decided until", "dispute", "lapse", noted["dispute"])
    await place.wait(4 * DAY_S)
    assert (await place.node("dispute", "lapse", noted["dispute"]))["status"] == "Lapsed"
    assert await place.node("dispute", "list") == []
    assert [one["status"] for one in await place.node("dispute", "list", "--all")] == ["Upheld", "Lapsed", "Upheld"]
    assert (await place.as_admin("node", "withdraw"))["paidOutEther"] == "0.04"
    await place.refused(1, "credited with nothing", "node", "withdraw", "--keystore", str(place.admin))
    await place.refused(1, "ARBITER", "node", "slash", place.peer, "0.5", "--reason", str(reason))
    slashed = await place.as_admin("node", "slash", place.peer, "0.5", "--reason", str(reason))
    assert (slashed["stakeEther"], slashed["poolEther"]) == ("0.25", "0.75")
    pay = ("cluster", "pay-pool", place_account := LocalSigner.generate().address, "0.5")
    await place.refused(1, "PROPOSER_ROLE", *pay)
    assert (await place.as_admin(*pay))["state"] == "Scheduled"
    await place.wait(DELAY_S + 1)
    paid = await place.as_admin(*pay, "--execute")
    assert (paid["state"], paid["account"], paid["creditEther"], paid["poolEther"]) == ("Paid", place_account, "0.5", "0.25")
    await place.refused(1, "no dispute", "dispute", "show", "11" * 32)
    await place.refused(1, "is no digest", "dispute", "show", "11")


async def test_what_is_given_wrongly_is_said(place: Place) -> None:
    for amount, said in (("0", "more than 0"), ("much", "no amount"), ("NaN", "more than 0"), ("1e-19", "at most 18")):
        await place.refused(1, said, "node", "stake", amount)
    await place.refused(1, "no peer ID", "node", "approve", "12D3KooW")
    code, _, err = await place.veil("cluster", "deploy", "--rpc", place.chain.rpc_url)
    assert (code, "--keystore" in err) == (1, True)
    code, _, err = await place.veil("cluster", "deploy", "--rpc", "http://127.0.0.1:9", "--keystore", str(place.admin))
    assert (code, "does not answer" in err) == (2, True)
    code, _, err = await place.veil("cluster", "deploy", "--rpc", "http://127.0.0.1:9", "--keystore", "/nowhere")
    assert (code, "no key can be read" in err) == (1, True)
