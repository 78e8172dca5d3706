"""Committee files: who may be named, whose word counts, and which committees could never check each other."""

import base64
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from veil.errors import ConfigInvalid, FheUnavailable, ManifestInvalid
from veil.fhe.probe import Reachable
from veil.identity import Identity, peer_id_text
from veil.node.committee import Committee, agree, entry, read_committee, sign_report
from veil.types import ClusterId, Digest
from veil.wire.codec import encode
from veil.wire.nodes import CircuitInfo, ClassReport
from veil.wire.signed import sign

CLUSTER = ClusterId(b"c" * 32)
COMMON, OTHER, THIRD = (Digest(bytes([number]) * 32) for number in (1, 2, 3))
MACHINE = Reachable(parameters="plain", inputs=Digest(b"i" * 32), classes=(COMMON,), pinned=True)
HEAD = "apiVersion: veil.dev/v1alpha1\nkind: Committee\nmetadata: {name: test}\nspec:\n  members:\n"


def member(identity: Identity, *classes: Digest, cluster: ClusterId = CLUSTER) -> str:
    found = replace(MACHINE, classes=classes or (COMMON,))
    return entry(identity.peer_id, sign_report(identity, cluster, found))


@pytest.fixture
def peers() -> list[Identity]:
    return [Identity.generate() for _ in range(5)]


@pytest.fixture
def written(tmp_path: Path, peers: list[Identity]) -> Callable[..., Committee]:
    def write(*entries: str, known: list[Identity] | None = None) -> Committee:
        path = tmp_path / "committee.yaml"
        path.write_text(HEAD + "".join(entries))
        return read_committee(path, CLUSTER, {one.peer_id for one in (peers if known is None else known)})

    return write


def test_members_come_in_the_order_of_the_file(peers: list[Identity], written: Callable[..., Committee]) -> None:
    order = [peers[2], peers[0], peers[1]]
    committee = written(*map(member, order))
    assert committee.peers == tuple(one.peer_id for one in order)
    assert agree(committee, MACHINE, needed=3).known == COMMON


def test_every_wrong_entry_is_told_with_its_line(peers: list[Identity], written: Callable[..., Committee]) -> None:
    first, second, third, fourth, _ = peers
    stolen = member(second).replace(peer_id_text(second.peer_id), peer_id_text(third.peer_id))
    elsewhere = member(fourth, cluster=ClusterId(b"d" * 32))
    stranger = Identity.generate()
    with pytest.raises(ManifestInvalid) as caught:
        written(member(first), member(first), stolen, elsewhere, member(stranger))
    told = [(error.path, error.line, error.message) for error in caught.value.errors]
    assert [(path, line) for path, line, _ in told] == [
        ("spec.members[1].peer", 8),
        ("spec.members[2].report", 11),
        ("spec.members[3].report", 13),
        ("spec.members[4].peer", 14),
    ]
    assert [
        words in message for (_, _, message), words in zip(told, ("line 6", "signed by", "signature", "registry"), strict=True)
    ]
    assert all(error.file.endswith("committee.yaml") for error in caught.value.errors)


@pytest.mark.parametrize("report", ["", "no base64!", base64.b64encode(b"something").decode()])
def test_what_is_no_report_is_refused(peers: list[Identity], written: Callable[..., Committee], report: str) -> None:
    with pytest.raises(ManifestInvalid) as caught:
        written(entry(peers[0].peer_id, f'"{report}"'))
    assert caught.value.errors[0].line == 7


def test_another_signed_message_is_no_report(peers: list[Identity], written: Callable[..., Committee]) -> None:
    other = CircuitInfo(name="x", profile="default", shape="choose", candidates=4, server=b"s" * 32, client=b"c" * 32)
    text = base64.b64encode(encode(sign(peers[0], CLUSTER, other))).decode()
    with pytest.raises(ManifestInvalid):
        written(entry(peers[0].peer_id, text))


def test_a_report_about_somebody_else_is_refused(peers: list[Identity], written: Callable[..., Committee]) -> None:
    about = ClassReport(peer=peers[1].peer_id, parameters="plain", inputs=MACHINE.inputs, classes=(COMMON,))
    text = base64.b64encode(encode(sign(peers[0], CLUSTER, about))).decode()
    with pytest.raises(ManifestInvalid, match="another peer"):
        written(entry(peers[0].peer_id, text))


def test_unknown_fields_and_other_kinds_are_refused(tmp_path: Path, peers: list[Identity]) -> None:
    path = tmp_path / "committee.yaml"
    for text in (HEAD + member(peers[0]) + "    share: mine\n", HEAD.replace("Committee", "Namespace"), HEAD + "  []\n", ""):
        path.write_text(text)
        with pytest.raises((ManifestInvalid, ConfigInvalid)):
            read_committee(path, CLUSTER, {peers[0].peer_id})
    with pytest.raises(ConfigInvalid):
        read_committee(tmp_path / "none.yaml", CLUSTER, ())


# classes


def test_a_committee_without_enough_members_in_one_class_is_refused(
    peers: list[Identity], written: Callable[..., Committee]
) -> None:
    committee = written(member(peers[0]), member(peers[1]), member(peers[2], OTHER))
    assert agree(committee, MACHINE, needed=2).abstaining == (peers[2].peer_id,)
    with pytest.raises(ConfigInvalid) as caught:
        agree(committee, MACHINE, needed=3)
    assert "at most 2 members share" in caught.value.message
    assert all(peer_id_text(one.peer_id) in caught.value.message for one in peers[:3])


def test_a_member_that_reaches_several_classes_counts_in_each(peers: list[Identity], written: Callable[..., Committee]) -> None:
    committee = written(member(peers[0], OTHER, COMMON), member(peers[1]), member(peers[2], OTHER, THIRD))
    assert agree(committee, MACHINE, needed=2).abstaining == (peers[2].peer_id,)


def test_the_dealer_must_be_in_the_members_class(peers: list[Identity], written: Callable[..., Committee]) -> None:
    committee = written(*(member(one, OTHER) for one in peers[:3]))
    with pytest.raises(ConfigInvalid, match="this machine is not in"):
        agree(committee, MACHINE, needed=3)
    with pytest.raises(FheUnavailable, match="by chance"):
        agree(committee, replace(MACHINE, classes=(COMMON, OTHER), pinned=False), needed=3)


def test_reports_that_cannot_be_compared_are_refused(peers: list[Identity], written: Callable[..., Committee]) -> None:
    committee = written(*map(member, peers[:3]))
    with pytest.raises(ConfigInvalid, match="another probe"):
        agree(committee, replace(MACHINE, inputs=Digest(b"j" * 32)), needed=3)
    with pytest.raises(ConfigInvalid, match="parameter set"):
        agree(committee, replace(MACHINE, parameters="flooded"), needed=3)
