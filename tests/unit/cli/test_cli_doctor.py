"""`veil doctor`: every condition has advice; what is down, untrusted or merely unwise is told apart, in words and exit codes."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from veil.api.fake import FakeNode
from veil.chain.rpc import Answer, _Response
from veil.chain.signer import LocalSigner
from veil.cli import local_checks
from veil.cli.doctor import exit_code
from veil.cli.main import run
from veil.cli.node_checks import ADVICE, ADVICE_BY_REASON, Finding, Level, findings, own_node
from veil.client.blocking import unix_config
from veil.client.kubeconfig import write
from veil.config import load_settings, write_settings
from veil.errors import ChainUnavailable
from veil.identity import Identity
from veil.node.disk import FREE_MIN_BYTES
from veil.store.journal import Journal

ROOT = Path(__file__).parents[3]
NOW_S = 1_700_000_000.0
EPOCH = {"epoch": 1, "mode": "threshold", "parameters": "flooded", "threshold": 2, "committee": 3, "holdsShare": True}


def condition(kind: str, value: str = "True", reason: str = "Fine", message: str = "") -> dict[str, str]:
    return {"type": kind, "status": value, "reason": reason, "message": message}


def a_node(name: str, *conditions: dict[str, str], phase: str = "Active", **status: Any) -> dict[str, Any]:
    return {
        "apiVersion": "veil.dev/v1alpha1",
        "kind": "Node",
        "metadata": {"name": name},
        "status": {"phase": phase, "conditions": list(conditions), **status},
    }


HERE = condition("Reachable", reason="SwimAlive")
AWAY = condition("Reachable", "False", "SwimDown")


def told(*nodes: dict[str, Any]) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings(nodes)}


# what a node says


def test_every_condition_of_a_node_has_advice() -> None:
    source = (ROOT / "veil" / "node" / "own_conditions.py").read_text()
    named = set(re.findall(r'Condition\("(\w+)"', source))
    assert len(named) >= 9
    assert named - set(ADVICE) == set()
    verdicts = {
        reason
        for path in (ROOT / "veil" / "node").glob("*.py")
        for reason in re.findall(r'Verdict\(False, "(\w+)"', path.read_text())
    }
    assert verdicts
    assert verdicts - {"NotPrepared"} - set(ADVICE_BY_REASON) == set(), "NextKeysReady has but one reason to be False"


def test_the_node_that_answered_is_the_one_with_conditions_of_its_own() -> None:
    nodes = [a_node("n1", HERE), a_node("n2", HERE, condition("Registered"))]
    assert own_node(nodes) is nodes[1]
    assert own_node(nodes[:1]) is None
    assert told(*nodes[:1])["Registered"].level is Level.FAIL


def test_a_healthy_node_has_nothing_to_do() -> None:
    own = a_node("n1", HERE, condition("Registered"), condition("FheReady", reason="InClass"), keyEpoch=EPOCH)
    found = told(own, a_node("n2", HERE))
    assert {finding.level for finding in found.values()} == {Level.OK}
    assert found["KeyEpoch"].said == "epoch 1, parameter set flooded, 2 of 3 decrypt"
    assert found["Reachable"].said == "all 1 other members are alive"
    assert exit_code(list(found.values())) == 0


def test_a_member_that_abstains_is_told_with_its_reason_and_what_to_do() -> None:
    entry = condition("FheReady", "False", "ClassUnreachable", "this member abstains: no evaluator in the class")
    found = told(a_node("n1", condition("Registered"), entry))
    assert found["FheReady"].level is Level.FAIL
    assert found["FheReady"].said == "ClassUnreachable: this member abstains: no evaluator in the class"
    assert found["FheReady"].todo == "let other members evaluate, or hold a ceremony with another committee"
    assert exit_code(list(found.values())) == 2


@pytest.mark.parametrize("message", ["HeadMismatch: a gap", "DigestMismatch: another key", "Untrusted: another epoch"])
def test_what_is_not_what_it_claims_is_exit_code_3(message: str) -> None:
    found = told(a_node("n1", condition("Registered"), condition("ChainSynced", "False", "NotSynced", message)))
    assert exit_code(list(found.values())) == 3


def test_members_that_are_away_are_named_and_no_failure_of_this_node() -> None:
    own = a_node("n1", HERE, condition("Registered"))
    found = list(findings([own, a_node("n2", AWAY), a_node("n3", HERE), a_node("n4", AWAY, phase="Gone")]))
    away = [finding for finding in found if finding.check == "Reachable"]
    assert [(finding.level, finding.said) for finding in away] == [(Level.WARN, "n2 is not reached (SwimDown)")]
    assert exit_code(found) == 0


def test_a_node_that_members_marked_down_is_named() -> None:
    marked = condition("Eligible", "False", "MarkedDown", "members marked it down")
    own = a_node("n1", HERE, marked, condition("Registered", "False", "MarkedDown", "others marked this node down"))
    found = list(findings([own, a_node("n2", HERE, marked), a_node("n3", HERE, condition("Eligible", "False", "Cordoned"))]))
    about = [(finding.check, finding.level, finding.said) for finding in found if "down" in finding.said]
    assert about == [
        ("Registered", Level.FAIL, "MarkedDown: others marked this node down"),
        ("Eligible", Level.WARN, "n2 is marked down on chain"),
    ]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"parameters": "plain"}, "too little flooding"),
        ({"mode": "designated"}, "nobody checks a designated node"),
        ({"threshold": 3}, "cannot be noticed"),
    ],
)
def test_an_epoch_that_promises_less_is_a_warning(changed: dict[str, Any], said: str) -> None:
    finding = told(a_node("n1", condition("Registered"), keyEpoch=EPOCH | changed))["KeyEpoch"]
    assert (finding.level, said in finding.todo) == (Level.WARN, True)


# what the directory says


class FakeRpc:
    """Answers as an endpoint does: chain 31337, a contract unless ``code`` is 0x, a newest block of ``age_s``."""

    def __init__(self, age_s: float = 1.0, code: str = "0x6080", *, away: bool = False) -> None:
        header = {"number": "0x10", "hash": "0x00", "parentHash": "0x00", "timestamp": hex(int(NOW_S - age_s))}
        self.values: Sequence[Any] = ("0x7a69", code, header)
        self.away = away
        self.closed = False
        self.name = "http://chain"

    async def batch(self, calls: Sequence[tuple[str, Any]]) -> list[Answer]:
        if self.away:
            raise ChainUnavailable("http://x does not answer", hint="start the chain")
        responses = [_Response(id=i, result=msgspec.Raw(msgspec.json.encode(value))) for i, value in enumerate(self.values)]
        return [Answer("http://x", response, method) for response, (method, _) in zip(responses, calls, strict=True)]

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    home = tmp_path / "node"
    home.mkdir()
    Identity.generate().save(home / "peer.key")
    LocalSigner.generate().save(home / "operator.key")
    Journal(home / "journal.db").close()
    values = {"VEIL_NODE_NAME": "n1", "VEIL_CHAIN_RPC": "http://127.0.0.1:1", "VEIL_CONTRACT_ADDRESS": "0x" + "11" * 20}
    write_settings(home, values | {"VEIL_CONTAINERD_SOCKET": str(home / "containerd.sock")})
    return home


def local(directory: Path) -> dict[str, Finding]:
    return {finding.check: finding for finding in local_checks.findings(directory, NOW_S)}


async def chain(directory: Path, rpc: FakeRpc) -> dict[str, Finding]:
    found = await local_checks._chain(load_settings(directory, {}), NOW_S, lambda url: rpc)  # type: ignore[arg-type,return-value]
    assert rpc.closed
    return {finding.check: finding for finding in found}


def test_a_directory_that_is_none_says_which_settings_are_missing(tmp_path: Path) -> None:
    found = local(tmp_path)
    assert list(found) == ["settings"]
    assert "VEIL_CHAIN_RPC" in found["settings"].said


def test_keys_that_are_missing_open_or_another_nodes_are_found(directory: Path) -> None:
    assert local(directory)["keys"].level is Level.OK
    (directory / "peer.key").chmod(0o644)
    assert "chmod 600" in local(directory)["keys"].todo
    (directory / "peer.key").chmod(0o600)
    with (directory / "node.env").open("a") as file:
        file.write("VEIL_NODE_PEERID=12D3KooWother\n")
    assert (local(directory)["keys"].level, local(directory)["keys"].untrusted) == (Level.FAIL, True)
    (directory / "operator.key").unlink()
    assert "operator.key is missing" in local(directory)["keys"].said


def test_a_journal_that_is_damaged_or_has_no_room_is_found(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert local(directory)["journal"].level is Level.OK

    class Usage(NamedTuple):
        free: int

    with monkeypatch.context() as patched:
        patched.setattr(local_checks.shutil, "disk_usage", lambda path: Usage(FREE_MIN_BYTES - 1))
        assert "FREE_MIN_BYTES" in local(directory)["journal"].said
    (directory / "journal.db").write_bytes(b"no database at all" * 400)
    assert (local(directory)["journal"].level, local(directory)["journal"].untrusted) == (Level.FAIL, True)
    (directory / "journal.db").unlink()
    assert local(directory)["journal"].level is Level.WARN


async def test_the_chain_is_asked_directly(directory: Path) -> None:
    found = await chain(directory, FakeRpc())
    assert {name: finding.level for name, finding in found.items()} == dict.fromkeys(("chain", "contract", "clock"), Level.OK)
    assert (await chain(directory, FakeRpc(away=True)))["chain"].todo == "start the chain"
    missing = (await chain(directory, FakeRpc(code="0x")))["contract"]
    assert (missing.level, missing.untrusted) == (Level.FAIL, True)


@pytest.mark.parametrize(("age_s", "said"), [(61, "61 s old"), (-121, "clock is behind")])
async def test_a_block_that_is_old_or_from_the_future_is_told(directory: Path, age_s: float, said: str) -> None:
    finding = (await chain(directory, FakeRpc(age_s)))["clock"]
    assert (finding.level, said in finding.said) == (Level.FAIL, True)


def test_a_runtime_that_takes_no_connections_is_told(directory: Path) -> None:
    assert local(directory)["runtime"].level is Level.FAIL


# the verb


class Ran(NamedTuple):
    code: int
    out: str
    err: str


Veil = Callable[..., Awaitable[Ran]]


@pytest.fixture
def veil(served: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Veil:
    path = tmp_path / "config"
    write(path, {"test": unix_config(served.socket)}, "test")
    monkeypatch.setenv("VEIL_KUBECONFIG", str(path))
    monkeypatch.delenv("VEIL_DIR", raising=False)

    async def call(*arguments: str) -> Ran:
        capsys.readouterr()
        code = await asyncio.to_thread(run, arguments)
        return Ran(code, *capsys.readouterr())

    return call


async def test_doctor_prints_a_table_with_what_to_do(veil: Veil, served: FakeNode) -> None:
    served.store.put(a_node("n1", HERE, condition("Registered"), keyEpoch=EPOCH))
    served.store.put(a_node("n2", AWAY))
    code, out, err = await veil("doctor")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].split() == ["CHECK", "STATE", "WHAT"]
    assert f"do: {ADVICE['Reachable']}" in out
    assert out.splitlines()[-1] == "4 ok, 1 to look at, 0 failed"
    served.store.put(a_node("n1", HERE, condition("Registered"), condition("RuntimeReady", "False", "Away", "no socket")))
    code, out, _ = await veil("doctor", "-o", "json")
    said = json.loads(out)
    assert (code, said["exitCode"]) == (2, 2)
    assert {check["check"]: check["state"] for check in said["checks"]}["RuntimeReady"] == "fail"


async def test_doctor_of_a_node_that_does_not_answer_still_looks_at_its_directory(
    veil: Veil, served: FakeNode, directory: Path
) -> None:
    await served.server.close()
    code, out, _ = await veil("doctor")
    assert (code, "does not answer" in out) == (2, True)
    code, out, _ = await veil("doctor", "--dir", str(directory), "-o", "json")
    states = {check["check"]: check["state"] for check in json.loads(out)["checks"]}
    assert code == 2
    assert states == {
        "settings": "ok",
        "keys": "ok",
        "journal": "ok",
        "chain": "fail",
        "runtime": "fail",
        "api": "fail",
    }
