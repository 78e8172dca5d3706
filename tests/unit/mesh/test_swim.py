"""SWIM among simulated members in virtual time: every run replays from its seed."""

import pytest

from bench import mesh_sim
from bench.mesh_sim import Network
from veil.errors import LimitExceeded
from veil.mesh import awareness
from veil.mesh.messages import Frame
from veil.mesh.ports import PeerState
from veil.mesh.preset import LAN, LOCAL
from veil.mesh.probing import Prober
from veil.mesh.swim import Swim

ALIVE, SUSPECT, DEAD, LEFT = PeerState.ALIVE, PeerState.SUSPECT, PeerState.DEAD, PeerState.LEFT


def test_everybody_who_starts_is_seen_alive_by_all_within_a_second(simulate):
    network = simulate(30)
    network.run(1)
    assert all(network.states(peer) == {ALIVE} for peer in network.peers)


def test_a_death_is_seen_by_all_and_nobody_else_dies(simulate):
    network = simulate(30)
    network.run(10)
    victim = network.peers[7]
    network.down.add(victim)
    died_s = network.now_s
    network.run(20)
    assert network.states(victim) == {DEAD}
    seen_s = [at - died_s for at, _, _ in network.deaths()]
    assert len(seen_s) == 29
    assert max(seen_s) < 12
    assert max(seen_s) - min(seen_s) < 1.0
    assert {of for _, _, of in network.deaths()} == {victim}


def test_the_local_preset_sees_a_death_among_three_within_five_seconds(simulate):
    network = simulate(3, preset=LOCAL)
    network.run(5)
    victim = network.peers[0]
    network.down.add(victim)
    network.run(5)
    assert network.states(victim) == {DEAD}


@pytest.mark.parametrize("seed", [1, 2])
def test_ten_percent_loss_kills_nobody(simulate, seed):
    network = simulate(30, seed=seed, loss=0.1)
    network.run(60)
    assert network.deaths() == []


def test_an_idle_network_costs_two_messages_a_second_and_member_whatever_its_size(simulate):
    network = simulate(30)
    network.run(10)
    before = network.sent
    network.run(30)
    assert (network.sent - before) / 30 / 30 < 2.5


def test_who_is_cut_off_for_a_while_is_suspected_declared_dead_and_refutes(simulate):
    network = simulate(10)
    network.run(5)
    victim = network.peers[3]
    network.down.add(victim)
    network.run(30)
    assert network.states(victim) == {DEAD}
    network.down.discard(victim)
    network.run(30)
    assert network.states(victim) == {ALIVE}


def test_a_process_that_stood_still_accuses_nobody_when_it_wakes(simulate):
    network = simulate(5)
    network.run(5)
    sleeper = network.peers[2]
    before = network.now_s
    network.down.add(sleeper)
    network.run(3)
    network.down.discard(sleeper)
    network.run(10)
    accused = [of for at, by, of, state in network.changes if at > before and by == sleeper and state is SUSPECT]
    assert accused == []


def test_a_suspicion_does_not_run_out_while_its_holder_stood_still(simulate):
    network = simulate(3)
    network.run(5)
    observer, victim = network.peers[0], network.peers[1]
    network.down.add(victim)
    entry = network.swims[observer].roster.get(victim)
    while observer not in entry.suspects:
        network.run(0.05)
    network.swims[observer].tick(network.now_s + 100)
    assert observer not in entry.deaths
    for step in range(300):
        network.swims[observer].tick(network.now_s + 100 + step / 10)
    assert observer in entry.deaths


def test_a_restarted_member_outbids_its_earlier_life(simulate):
    network = simulate(5)
    network.run(5)
    one = network.signatories[1]
    network.down.add(one.peer_id)
    network.run(30)
    assert network.states(one.peer_id) == {DEAD}
    network.boot(one)
    network.run(2)
    assert network.states(one.peer_id) == {ALIVE}


def test_a_member_whose_clock_went_back_returns_all_the_same(simulate):
    network = simulate(5)
    network.run(5)
    one = network.signatories[1]
    network.now_s -= 3600
    swim = network.boot(one)
    network.now_s += 3600
    network.run(5)
    assert network.states(one.peer_id) == {ALIVE}
    assert swim.members()[0].incarnation > network.now_s - 60


def test_leaving_is_not_dying(simulate):
    network = simulate(5)
    network.run(5)
    leaver = network.peers[4]
    network.carry_out(leaver, network.swims[leaver].leave(network.now_s))
    network.run(0.1)
    network.down.add(leaver)
    network.run(20)
    assert network.states(leaver) == {LEFT}


def test_metadata_reaches_everybody_and_has_a_limit(simulate):
    network = simulate(10)
    network.run(5)
    author = network.peers[0]
    swim = network.swims[author]
    network.carry_out(author, swim.set_metadata(b"m" * 256, network.now_s))
    network.run(3)
    for peer in network.peers[1:]:
        assert next(m.metadata for m in network.swims[peer].members() if m.peer == author) == b"m" * 256
    with pytest.raises(LimitExceeded):
        swim.set_metadata(b"m" * 257, network.now_s)


def test_one_of_two_cannot_declare_the_other_dead(simulate):
    network = simulate(2)
    network.run(5)
    network.down.add(network.peers[1])
    network.run(120)
    assert network.states(network.peers[1]) == {SUSPECT}


def test_a_minority_side_declares_nobody_dead(simulate):
    network = simulate(5)
    network.run(5)
    network.down.update(network.peers[1:])
    network.run(120)
    alone = network.peers[0]
    assert {network.seen(alone, other) for other in network.peers[1:]} == {SUSPECT}


def test_who_was_never_heard_of_is_suspect_and_never_dies(simulate):
    network = simulate(3)
    network.run(1)
    stranger = bytes(31) + b"\x01"
    for peer in network.peers:
        network.carry_out(peer, network.swims[peer].allow([*network.peers, stranger], network.now_s))
    network.swims[stranger] = network.swims[network.peers[0]]
    network.down.add(stranger)
    network.run(60)
    assert {network.seen(peer, stranger) for peer in network.peers} == {SUSPECT}
    assert network.deaths() == []


def test_frames_of_the_unregistered_are_not_answered(simulate):
    network = simulate(3)
    network.run(1)
    swim = network.swims[network.peers[0]]
    assert swim.receive(bytes(32), Frame(kind="ping", sequence=1), network.now_s) == []


def test_one_struck_off_is_forgotten(simulate):
    network = simulate(4)
    network.run(1)
    peer, struck = network.peers[0], network.peers[3]
    network.carry_out(peer, network.swims[peer].allow(network.peers[:3], network.now_s))
    assert struck not in {member.peer for member in network.swims[peer].members()}
    assert network.swims[peer].receive(struck, Frame(kind="pull"), network.now_s) == []


def test_a_killed_process_is_seen_dead_by_all_in_half_the_time_of_a_silent_one(simulate):
    network = simulate(30, settled=True)
    network.run(10)
    killed, silent = network.peers[3], network.peers[4]

    def time_to_all(victim) -> float:
        began_s = network.now_s
        assert network.run(60, lambda: network.states(victim) == {DEAD})
        return network.now_s - began_s

    network.kill(killed)
    killed_s = time_to_all(killed)
    network.down.add(silent)
    assert killed_s < time_to_all(silent) / 2
    assert {of for _, _, of in network.deaths()} == {killed, silent}


def test_whose_connections_break_all_at_once_and_are_made_again_is_not_declared_dead(simulate):
    network = simulate(30, loss=0.1)
    network.run(10)
    victim = network.peers[3]
    for _ in range(5):
        network.kill(victim)
        network.run(0.6)
        network.down.discard(victim)
        for other in network.peers:
            if other != victim:
                network.carry_out(other, network.swims[other].connected(victim, network.now_s))
                network.carry_out(victim, network.swims[victim].connected(other, network.now_s))
        network.run(20)
        assert network.states(victim) <= {ALIVE, SUSPECT}, "of 30 at 10 % loss somebody may just suspect it"
    assert network.deaths() == []


def test_a_connection_that_was_made_again_is_no_hint_any_more(simulate):
    network = simulate(30)
    network.run(10)
    victim = network.peers[3]
    for other in network.peers:
        if other != victim:
            network.carry_out(other, network.swims[other].disconnected(victim, network.now_s))
            network.carry_out(other, network.swims[other].connected(victim, network.now_s))
    network.run(5)
    network.down.add(victim)
    shortest_s, _ = LAN.suspicion_s(30)
    network.run(shortest_s)
    assert DEAD not in network.states(victim)
    network.run(10)
    assert network.states(victim) == {DEAD}


@pytest.mark.parametrize("hurried", [True, False], ids=["", "by gossip alone"])
def test_who_comes_is_known_to_all_within_two_intervals_of_gossip(simulate, monkeypatch, hurried):
    if not hurried:
        monkeypatch.setattr(Swim, "_hurry", lambda self, now_s: None)
    network = simulate(30)
    network.run(10)
    one, met = network.signatories[3], network.peers[4]
    network.down.add(one.peer_id)
    assert network.run(60, lambda: network.states(one.peer_id) == {DEAD})
    network.run(5)
    swim = network.boot(one, meet=False)
    network.carry_out(one.peer_id, swim.connected(met, network.now_s))
    network.carry_out(met, network.swims[met].connected(one.peer_id, network.now_s))
    seen = network.run(2 * LAN.gossip_interval_s, lambda: network.states(one.peer_id) == {ALIVE})
    assert seen is hurried


@pytest.mark.parametrize("patient", [True, False], ids=["", "impatient"])
def test_members_who_meet_one_after_the_other_suspect_nobody_meanwhile(simulate, monkeypatch, patient):
    if not patient:
        monkeypatch.setattr(Prober, "_has_met", lambda self, entry, now_s: True)
    network = simulate(20, settled=True)
    for swim in network.swims.values():
        for entry in swim.roster:
            entry.link = "none"
    pairs = [(a, b) for a in network.peers for b in network.peers if a < b]
    network.rng.shuffle(pairs)
    for a, b in pairs:
        network.carry_out(a, network.swims[a].connected(b, network.now_s))
        network.carry_out(b, network.swims[b].connected(a, network.now_s))
        network.run(15 / len(pairs))
    suspected = [of for _, _, of, state in network.changes if state is SUSPECT]
    assert bool(suspected) is not patient


@pytest.mark.parametrize("probes", ["who has met", "all"])
def test_where_everybody_has_met_a_few_they_watch_each_other_and_a_death_is_seen_by_all(monkeypatch, probes):
    if probes == "all":
        monkeypatch.setattr(Prober, "_has_met", lambda self, entry, now_s: True)
    network = Network(60, settled=True)
    met = {frozenset((peer, other)) for peer in network.peers for other in network.rng.sample(network.peers, 5)}
    for peer, swim in network.swims.items():
        for entry in swim.roster:
            entry.link = "up" if {peer, entry.peer} in met else "none"
    network.run(4 if probes == "all" else 30)
    suspected = [of for _, _, of, state in network.changes if state is SUSPECT]
    assert bool(suspected) is (probes == "all")
    if probes == "who has met":
        victim = network.peers[7]
        network.down.add(victim)
        shortest_s, _ = LAN.suspicion_s(60)
        assert network.run(2 * LAN.probe_interval_s + shortest_s + 3, lambda: network.states(victim) == {DEAD})


@pytest.mark.parametrize("starting", [awareness.STARTING, 0])
def test_who_all_start_at_once_in_slow_machines_do_not_suspect_each_other(simulate, monkeypatch, starting):
    monkeypatch.setattr(awareness, "STARTING", starting)
    monkeypatch.setattr(mesh_sim, "LATENCY_S", (0.4, 0.7))
    network = simulate(30)
    network.run(4)
    monkeypatch.undo()
    network.run(10)
    suspected = [of for _, _, of, state in network.changes if state is SUSPECT]
    assert bool(suspected) is (starting == 0)


def test_a_first_connection_that_was_refused_is_no_hint(simulate):
    network = simulate(5)
    network.run(5)
    swim, late = network.swims[network.peers[0]], network.peers[4]
    entry = swim.roster.get(late)
    entry.link, entry.met, entry.allowed_s = "none", False, network.now_s
    swim.connected(late, network.now_s)
    assert swim.disconnected(late, network.now_s + 0.1) == []
    assert entry.link == "failed"
    swim.connected(late, network.now_s)
    swim.receive(late, Frame(kind="ack", sequence=1), network.now_s)
    effects = swim.disconnected(late, network.now_s + 0.1)
    assert [effect.frame.kind for effect in effects] == ["ping"], "however short it was"
    assert entry.link == "cut"


def test_one_broken_connection_makes_nobody_dead(simulate):
    network = simulate(30)
    network.run(10)
    victim, observer = network.peers[3], network.peers[4]
    network.carry_out(observer, network.swims[observer].disconnected(victim, network.now_s))
    network.run(60)
    assert network.deaths() == []
    assert network.states(victim) == {ALIVE}


def test_the_same_seed_gives_the_same_run_and_another_seed_another(simulate):
    def run(seed: int):
        network = simulate(20, seed=seed, loss=0.1, settled=True)
        network.run(5)
        network.kill(network.peers[0])
        network.run(10)
        return network.changes

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_three_hundred_members_see_a_death_within_the_bound_of_the_formula():
    network = Network(300, settled=True)
    network.run(2)
    victim = network.peers[150]
    network.kill(victim)
    shortest_s, _ = LAN.suspicion_s(300, cut_off=True)
    network.run(1 + shortest_s + 2)
    assert network.states(victim) == {DEAD}
    assert {of for _, _, of in network.deaths()} == {victim}
