"""How much floods hide, and how many decryptions that allows: the figures and the bound, by parameter set.

An output's own noise e depends on the secret key, and an opening shows e plus the floods of the subset's honest members. Whoever
knows the shares of threshold - 1 members knows their floods too. The bound (docs/internals/fhe.md has it at length): for a flood
with Fisher information I, a shift by e changes the square roots of its probabilities by at most e * sqrt(I) / 2 in the
Euclidean norm, the sum of h floods has information I / h at most (Stam), Hellinger affinities of steps multiply, and so what
is seen differs from what could be simulated without e by at most sqrt(I * sum of e^2 over all openings, weighted) / 2.
"""

import math

from veil.fhe.material import Parameters
from veil.fhe.quorum import QUORUM_EXTRA_MAX
from veil.fhe.threshold import HALF_WINDOW

UNIFORMS = 4
"""Terms of a flood. Three are the fewest with a finite Fisher information; more make a hard bound wider than need be."""

FISHER = 1.04
"""Fisher information of a sum of four uniform values times its variance (a Gaussian's is 1); a test computes it."""

OUTPUT_NOISE_LOG2: dict[Parameters, float] = {"plain": 49.0, "flooded": 36.0}
"""Base-2 logarithm of an output's own noise (root mean square), rounded up; a test measures it."""

OUTPUT_NOISE_MAX = 1 << 57
"""Room for an output's own noise beside the floods: 2^8 deviations of the larger."""

WRONG_LOG2 = -64
"""The floods of an opening pass their room with less than this probability (base-2 logarithm): the openings then disagree."""

CARRY_BITS = 55
"""A mask's scalar product is below 2^75; its carry over 2^64 is hidden by a uniform multiple of 2^64 of this many bits."""

CARRY_DISTANCE = 2.0 ** (12 - CARRY_BITS)
"""Statistical distance that a carry leaves for each opening."""

ADVANTAGE_MAX = 2.0**-10
"""What an epoch's decryptions may give, together, to somebody who tells them from simulated ones."""

NATS_MAX = 1.0
"""What they may tell about the noise where ADVANTAGE_MAX is out of reach (``plain``)."""


def uniform_bound(subset: int) -> int:
    """Bound on each term of one member's flood when ``subset`` members open."""
    room, terms = HALF_WINDOW - OUTPUT_NOISE_MAX, UNIFORMS * subset
    tail = math.sqrt(2 * math.log(2) * (1 - WRONG_LOG2))  # a uniform value of -b..b is sub-Gaussian with variance b^2 / 3
    return max(room // terms, int(room / (tail * math.sqrt(terms / 3))))


def flood_deviation_log2(subset: int) -> float:
    """Base-2 logarithm of the standard deviation of one member's flood when ``subset`` members open."""
    return math.log2(uniform_bound(subset)) + 0.5 * math.log2(UNIFORMS / 3)


def openings(members: int, threshold: int) -> int:
    """Subsets in which a bit may be opened when every honest member answers for one largest quorum of its own and its subsets."""
    largest = min(members, threshold + QUORUM_EXTRA_MAX)
    return math.comb(largest, threshold) * (members - threshold + 1)


def averaging(members: int, threshold: int) -> float:
    """By what averaging over all subsets divides the variance of one flood, for somebody with threshold - 1 shares.

    Each honest member answers for one quorum of up to threshold + 2 members and for its subsets, as many as there are, and
    whoever asks may name another quorum to each. A subset with h honest members is averaged with weight 1/h, and needs all
    h to answer, so 1/h of that weight is each one's.
    """
    largest, others = min(members, threshold + QUORUM_EXTRA_MAX), threshold - 1
    honest = largest - others
    each = sum(
        math.comb(honest - 1, count - 1) * math.comb(others, threshold - count) / count**2
        for count in range(1, min(honest, threshold) + 1)
    )
    return (members - others) * each


def flooding_bits(parameters: Parameters, members: int, threshold: int) -> int:
    """By how many bits the floods exceed an output's own noise after averaging over all subsets, rounded down; not below 0."""
    return max(0, int(-0.5 * math.log2(_weight(parameters, members, threshold))))


def advantage(parameters: Parameters, members: int, threshold: int, bits: int) -> float:
    """Bound on the advantage of telling the openings of ``bits`` output bits from simulated ones; above 1 it says nothing."""
    carries = bits * openings(members, threshold) * CARRY_DISTANCE
    return 0.5 * math.sqrt(FISHER * bits * _weight(parameters, members, threshold)) + carries


def max_decryptions(parameters: Parameters, members: int, threshold: int, bits_per_result: int) -> int:
    """Results of ``bits_per_result`` bits that an epoch may open.

    ``flooded``: the most with an advantage of at most ADVANTAGE_MAX. ``plain`` has no such number: for it, the most that tell
    at most NATS_MAX about the noise, which is a stated budget and no proof.
    """
    if parameters == "plain":
        nats = 0.5 * FISHER * bits_per_result * _weight(parameters, members, threshold)
        return int(NATS_MAX / nats)
    low, high = 0, 1 << 40
    while low < high:
        middle = (low + high + 1) // 2
        sound = advantage(parameters, members, threshold, middle * bits_per_result) <= ADVANTAGE_MAX
        low, high = (middle, high) if sound else (low, middle - 1)
    return low


def _weight(parameters: Parameters, members: int, threshold: int) -> float:
    """Variance of an output's own noise over that of the floods, averaged over all openings."""
    ratio = math.exp2(OUTPUT_NOISE_LOG2[parameters] - flood_deviation_log2(threshold))
    return averaging(members, threshold) * ratio * ratio
