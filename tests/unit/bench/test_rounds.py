"""What the bench reads out of nodes' logs: which step of which round, and which node's counts."""

from datetime import datetime

from bench.rounds import STEPS, Trial, read_steps, take_steps

LOGS = """\
2026-01-02 03:04:05,000 INFO    veil.placement.coordinator: round 11111111 opened
2026-01-02 03:04:05,100 INFO    veil.placement.coordinator: round 11111111: no eligible node has room for it
2026-01-02 03:04:06,000 INFO    veil.placement.coordinator: round 2a2a2a2a opened
2026-01-02 03:04:06,100 INFO    veil.placement.coordinator: round 2a2a2a2a committed
2026-01-02 03:04:06,200 INFO    veil.placement.member: round 2a2a2a2a checked
2026-01-02 03:04:06,250 INFO    veil.placement.member: round 2a2a2a2a checked
2026-01-02 03:04:07,000 INFO    veil.placement.service: round 2a2a2a2a evaluated in 0.70 s
2026-01-02 03:04:07,200 INFO    veil.placement.service: round 2a2a2a2a evaluated in 0.90 s
2026-01-02 03:04:07,210 INFO    veil.placement.member: round 2a2a2a2a released
2026-01-02 03:04:07,220 INFO    veil.placement.coordinator: round 2a2a2a2a decided
2026-01-02 03:04:07,300 INFO    veil.placement.candidate: round 2a2a2a2a: 1 of 1 taken
2026-01-02 03:04:07,400 INFO    veil.placement.desk: round 2a2a2a2a appended
2026-01-02 03:04:07,450 INFO    veil.placement.holdings: round 2a2a2a2a bound
2026-01-02 03:04:09,000 INFO    veil.placement.coordinator: round 33333333 opened
""".splitlines()


def at(text: str) -> float:
    return datetime.strptime(f"2026-01-02 03:04:{text}", "%Y-%m-%d %H:%M:%S.%f").astimezone().timestamp()


def trial() -> Trial:
    return Trial(at("05.500"), {"admitted": at("05.800"), "running": at("08.000")})


def test_the_slowest_node_counts_and_other_rounds_do_not() -> None:
    one = trial()
    assert take_steps(one, list(read_steps(iter(LOGS))))
    assert round(one.round_s, 3) == 1.4
    assert round(one.apply_s, 3) == 2.5
    assert one.evaluation_s == 0.9
    taken = {step: round(seconds, 3) for step, seconds in one.steps_s().items()}
    assert list(taken) == list(STEPS)
    assert (taken["checked"], taken["evaluated"]) == (0.15, 0.95)
    assert round(sum(taken.values()), 3) == 2.5


def test_a_round_of_which_a_step_was_not_told_is_left_out() -> None:
    assert not take_steps(trial(), [one for one in read_steps(iter(LOGS)) if one[2] != "released"])
