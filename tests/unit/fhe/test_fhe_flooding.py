"""The bound behind maxDecryptions: its constants computed, its count of openings found by trying, its figures."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from veil.fhe import flooding
from veil.fhe.flooding import ADVANTAGE_MAX, FISHER, UNIFORMS, averaging, flooding_bits, max_decryptions, uniform_bound
from veil.fhe.threshold import HALF_WINDOW


def sum_of_uniforms(width: int, terms: int = UNIFORMS) -> np.ndarray:
    found = np.ones(1)
    for _ in range(terms):
        found = np.convolve(found, np.full(width, 1 / width))
    return np.pad(found, width)


def variance(width: int, terms: int = UNIFORMS) -> float:
    return terms * (width * width - 1) / 12


def information(probabilities: np.ndarray) -> float:
    """The Fisher information of shifts by one, in the form that the bound uses."""
    return float(4 * np.square(np.diff(np.sqrt(np.maximum(probabilities, 0)))).sum())


@pytest.mark.parametrize("width", [101, 501, 2001])
def test_the_information_of_a_flood_is_the_stated_one(width: int) -> None:
    measured = information(sum_of_uniforms(width)) * variance(width)
    assert 1 <= measured <= FISHER


def test_fewer_terms_tell_more() -> None:
    """Why floods have four terms: the ends of one uniform value tell a shift with certainty, in proportion to the shift."""
    scaled = [information(sum_of_uniforms(501, terms)) * variance(501, terms) for terms in (1, 2, 4)]
    assert scaled[0] > 50
    assert scaled[0] > scaled[1] > 2 * scaled[2]


@pytest.mark.parametrize("shift", [1, 5, 40, 200])
def test_a_shift_changes_what_is_seen_by_no_more_than_the_bound(shift: int) -> None:
    probabilities = sum_of_uniforms(401)
    shifted = np.roll(probabilities, shift)
    distance = 0.5 * np.abs(shifted - probabilities).sum()
    hellinger = math.sqrt(np.square(np.sqrt(np.maximum(shifted, 0)) - np.sqrt(np.maximum(probabilities, 0))).sum())
    bound = shift * math.sqrt(FISHER / variance(401)) / 2
    assert hellinger <= bound
    assert distance <= hellinger
    assert distance <= bound


def test_a_sum_of_floods_has_its_share_of_information() -> None:
    alone = information(sum_of_uniforms(201))
    for members in (2, 3):
        assert information(sum_of_uniforms(201, UNIFORMS * members)) <= alone / members


@pytest.mark.parametrize("size", range(1, 65))
def test_floods_leave_room_for_the_bit(size: int) -> None:
    """Either always, or but for a chance of 2^-64 (sub-Gaussian tail)."""
    room, bound, terms = HALF_WINDOW - flooding.OUTPUT_NOISE_MAX, uniform_bound(size), UNIFORMS * size
    tail_log2 = 1 - (room / bound) ** 2 / (2 * terms / 3) / math.log(2)
    assert terms * bound <= room or tail_log2 <= flooding.WRONG_LOG2 + 0.01


@pytest.mark.parametrize(("members", "threshold"), [(1, 1), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)])
def test_averaging_over_all_subsets_is_the_worst_that_can_be_asked(members: int, threshold: int) -> None:
    """Whoever has threshold - 1 shares asks every honest member for a largest quorum of its choice; all choices are tried."""
    bad = frozenset(range(1, threshold))
    honest = [member for member in range(1, members + 1) if member not in bad]
    size = min(members, threshold + 2)
    worst = Fraction(0)
    choices = [[q for q in itertools.combinations(range(1, members + 1), size) if bad | {one} <= set(q)] for one in honest]
    for quorums in itertools.product(*choices):
        total = Fraction(0)
        for subset in itertools.combinations(range(1, members + 1), threshold):
            good = [member for member in subset if member not in bad]
            if all(set(subset) <= set(quorums[honest.index(member)]) for member in good):
                total += Fraction(1, len(good))
        worst = max(worst, total)
    assert float(worst) <= averaging(members, threshold) + 1e-9
    if size == members:
        assert float(worst) == pytest.approx(averaging(members, threshold))


@pytest.mark.parametrize(("members", "threshold"), [(3, 2), (5, 3), (7, 4), (20, 11)])
@pytest.mark.parametrize("bits", [5, 65])
def test_the_count_is_the_largest_within_the_advantage(members: int, threshold: int, bits: int) -> None:
    most = max_decryptions("flooded", members, threshold, bits)
    assert most >= 1
    assert flooding.advantage("flooded", members, threshold, most * bits) <= ADVANTAGE_MAX
    assert flooding.advantage("flooded", members, threshold, (most + 1) * bits) > ADVANTAGE_MAX


def test_plain_has_no_such_count() -> None:
    assert flooding.advantage("plain", 3, 2, 5) > ADVANTAGE_MAX
    assert max_decryptions("plain", 3, 2, 5) > 10_000
    assert max_decryptions("plain", 64, 33, 65) == 0


def test_the_stated_figures() -> None:
    """As in docs/internals/fhe.md."""
    quorums = [(3, 2), (5, 3), (7, 4)]
    assert [flooding_bits("plain", *quorum) for quorum in quorums] == [8, 7, 6]
    assert [flooding_bits("flooded", *quorum) for quorum in quorums] == [21, 20, 19]
    counts = {quorum: [max_decryptions("flooded", *quorum, bits) for bits in (5, 17, 65)] for quorum in quorums}
    print(counts)
    assert counts[5, 3][0] > 500_000 > counts[5, 3][1] > 100_000 > counts[5, 3][2] > 40_000
    plain = {quorum: [max_decryptions("plain", *quorum, bits) for bits in (5, 17, 65)] for quorum in quorums}
    print(plain)
    assert plain[5, 3][0] > 8_000
    assert max_decryptions("flooded", 3, 2, 5) > max_decryptions("flooded", 5, 3, 5) > max_decryptions("flooded", 5, 3, 65)
