"""The parts of SWIM, one at a time."""

from veil.mesh.awareness import Awareness
from veil.mesh.broadcast import PIGGYBACK_MAX, Broadcasts
from veil.mesh.preset import LAN
from veil.mesh.suspicion import Suspicion
from veil.mesh.timers import Timers
from veil.wire.signed import Signed


def signed(number: int) -> Signed:
    return Signed(signer=number.to_bytes(32, "big"), body=b"", signature=bytes(64))


def test_a_suspicion_shrinks_with_each_accuser_from_the_longest_to_the_shortest():
    suspicion = Suspicion(since_s=100.0, shortest_s=4.0, longest_s=24.0, confirmations_wanted=2)
    ends = []
    for accusers in (1, 2, 3, 4):
        suspicion.accusers = accusers
        ends.append(suspicion.ends_s() - 100)
    assert ends[0] == 24.0
    assert 4.0 < ends[1] < 24.0
    assert ends[2] == ends[3] == 4.0


def test_a_suspicion_that_nobody_can_confirm_lasts_the_shortest():
    assert Suspicion(since_s=0.0, shortest_s=4.0, longest_s=24.0, confirmations_wanted=0).ends_s() == 4.0


def test_a_suspicion_gives_back_the_time_its_holder_slept():
    suspicion = Suspicion(since_s=0.0, shortest_s=4.0, longest_s=24.0, confirmations_wanted=0)
    suspicion.forgive(10.0)
    assert suspicion.ends_s() == 14.0


def test_awareness_stays_in_its_bounds_and_scales():
    awareness = Awareness(8)
    awareness.add(-3)
    assert awareness.scale(1.0) == 1.0
    awareness.add(100)
    assert awareness.scale(1.0) == 8.0


def test_news_rides_a_limited_number_of_times_least_told_first():
    news = Broadcasts()
    for number in range(PIGGYBACK_MAX + 2):
        news.add(number.to_bytes(32, "big"), "alive", number.to_bytes(32, "big"), signed(number))
    first = news.take(2)
    second = news.take(2)
    assert len(first) == PIGGYBACK_MAX
    assert set(second) - set(first) == {signed(0), signed(1)}
    while news:
        news.take(2)
    assert news.take(2) == ()


def test_what_a_subject_says_ends_the_rumours_about_it():
    news = Broadcasts()
    subject, accuser = bytes(32), b"a" * 32
    news.add(subject, "suspect", accuser, signed(1))
    news.add(subject, "alive", subject, signed(2))
    assert news.take(9) == (signed(2),)


def test_suspicion_times_grow_with_the_logarithm_of_the_membership():
    assert LAN.suspicion_s(10) == (3.0, 18.0)
    assert LAN.suspicion_s(100) == (6.0, 36.0)
    assert LAN.retransmits(1000) == 16


def test_timers_run_in_the_order_of_time_then_of_setting():
    timers, ran = Timers(), []
    for name, at_s in (("c", 2.0), ("a", 1.0), ("b", 1.0), ("d", 9.0)):
        timers.at(at_s, lambda now_s, name=name: ran.append(name))
    while (action := timers.pop_due(5.0)) is not None:
        action(5.0)
    assert ran == ["a", "b", "c"]
    assert timers.next_s() == 9.0
