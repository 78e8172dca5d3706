"""Claims that must not be believed. Each test has a broken twin: the same lie, with the one defence taken away, succeeds."""

import math

import pytest

from veil.identity import Identity
from veil.mesh import roster
from veil.mesh.claims import KeySignatory, Signatory
from veil.mesh.messages import Claim, Frame
from veil.mesh.ports import PeerState
from veil.types import ClusterId
from veil.wire.codec import encode
from veil.wire.signed import Signed


@pytest.fixture
def network(simulate):
    network = simulate(5, settled=True)
    network.run(5)
    return network


def incarnation_of(network, subject) -> int:
    return next(m.incarnation for m in network.swims[network.peers[0]].members() if m.peer == subject)


def tell(network, signed: Signed) -> None:
    """The liar (member 4) hands ``signed`` to member 0; what that one sends arrives when the network runs on."""
    receiver = network.peers[0]
    frame = Frame(kind="gossip", claims=(signed,))
    network.carry_out(receiver, network.swims[receiver].receive(network.peers[4], frame, network.now_s))


def signed_by(network, liar: Signatory, **claim: object) -> Signed:
    return liar.sign(Claim(**claim))  # type: ignore[arg-type]


@pytest.mark.parametrize("defended", [True, False])
def test_an_alive_claim_with_anothers_signature_is_refused(network, monkeypatch, defended):
    victim = network.peers[1]
    incarnation = incarnation_of(network, victim) + 5
    claim = Claim(kind="alive", peer=victim, incarnation=incarnation, metadata=b"lie")
    forged = Signed(signer=victim, body=encode(claim), signature=network.signatories[4].sign(claim).signature)
    if not defended:
        monkeypatch.setattr(KeySignatory, "check", lambda self, signed: None)
    tell(network, forged)
    assert (incarnation_of(network, victim) != incarnation) is defended
    assert (network.swims[network.peers[0]].roster.refused == 1) is defended


@pytest.mark.parametrize("defended", [True, False])
def test_an_incarnation_far_ahead_of_the_clock_is_refused(network, monkeypatch, defended):
    liar = network.signatories[4]
    far = 2**62
    if not defended:
        monkeypatch.setattr(roster, "INCARNATION_AHEAD_MAX_S", math.inf)
    tell(network, signed_by(network, liar, kind="alive", peer=liar.peer_id, incarnation=far))
    assert (incarnation_of(network, liar.peer_id) != far) is defended


@pytest.mark.parametrize("defended", [True, False])
def test_one_liar_cannot_kill(network, monkeypatch, defended):
    victim = network.peers[1]
    if not defended:
        monkeypatch.setattr(roster, "DEATH_ACCUSERS_MAX", 1)
    lie = signed_by(network, network.signatories[4], kind="dead", peer=victim, incarnation=incarnation_of(network, victim))
    tell(network, lie)
    assert (network.seen(network.peers[0], victim) is not PeerState.DEAD) is defended


def test_the_accused_refutes_and_stays(network):
    victim = network.peers[1]
    before = incarnation_of(network, victim)
    tell(network, signed_by(network, network.signatories[4], kind="suspect", peer=victim, incarnation=before))
    assert network.seen(network.peers[0], victim) is PeerState.SUSPECT
    network.run(3)
    assert network.states(victim) == {PeerState.ALIVE}
    assert incarnation_of(network, victim) > before
    assert network.deaths() == []


@pytest.mark.parametrize("offset", [-1, 1, 1000])
def test_an_accusation_of_another_incarnation_than_the_present_is_refused(network, offset):
    victim = network.peers[1]
    incarnation = incarnation_of(network, victim) + offset
    for liar in network.signatories[2:]:
        tell(network, signed_by(network, liar, kind="dead", peer=victim, incarnation=incarnation))
    assert network.seen(network.peers[0], victim) is PeerState.ALIVE


def test_the_votes_of_one_accuser_count_once(network):
    victim = network.peers[1]
    for _ in range(5):
        lie = signed_by(network, network.signatories[4], kind="dead", peer=victim, incarnation=incarnation_of(network, victim))
        tell(network, lie)
    assert network.seen(network.peers[0], victim) is not PeerState.DEAD


def test_k_accusers_are_a_death(network):
    victim = network.peers[1]
    for accuser in network.signatories[2:5]:
        tell(
            network,
            signed_by(network, accuser, kind="dead", peer=victim, incarnation=incarnation_of(network, victim)),
        )
    assert network.seen(network.peers[0], victim) is PeerState.DEAD


def test_a_replayed_alive_claim_does_not_raise_the_dead(network):
    victim = network.peers[1]
    old = network.swims[network.peers[0]].roster.get(victim).own
    test_k_accusers_are_a_death(network)
    tell(network, old)
    assert network.seen(network.peers[0], victim) is PeerState.DEAD


def test_nobody_leaves_for_another(network):
    victim = network.peers[1]
    lie = signed_by(network, network.signatories[4], kind="left", peer=victim, incarnation=incarnation_of(network, victim))
    tell(network, lie)
    assert network.seen(network.peers[0], victim) is PeerState.ALIVE


def test_strangers_accuse_nobody(network):
    victim = network.peers[1]
    stranger = KeySignatory(Identity.generate(), ClusterId(b"c" * 32))
    tell(network, signed_by(network, stranger, kind="suspect", peer=victim, incarnation=incarnation_of(network, victim)))
    assert network.seen(network.peers[0], victim) is PeerState.ALIVE


def test_a_claim_signed_for_another_cluster_is_refused(network):
    liar = network.signatories[4]
    incarnation = incarnation_of(network, liar.peer_id) + 1
    abroad = KeySignatory(liar._identity, ClusterId(b"d" * 32))
    tell(network, abroad.sign(Claim(kind="alive", peer=liar.peer_id, incarnation=incarnation)))
    assert incarnation_of(network, liar.peer_id) == incarnation - 1


def test_bytes_that_are_no_claim_are_refused(network):
    before = network.swims[network.peers[0]].roster.refused
    tell(network, Signed(signer=network.peers[4], body=b"\x80", signature=bytes(64)))
    assert network.swims[network.peers[0]].roster.refused == before + 1
