"""Lies about partials: one is always noticed and never believed, its author is named where that is possible, and what is not."""

import itertools
import random
from collections import Counter

import pytest
from fhe_committee import BITS, COMBINER, partials, result

from veil.errors import CiphertextInvalid, DecryptionDisputed
from veil.fhe import partials as wire
from veil.fhe.ports import Opened
from veil.fhe.quorum import Subset, check_quorum, subsets, verdict
from veil.fhe.threshold import BIT, FIELD, VALUE_BYTES

HISTORIES = 3000
TRUTH = (1, 0, 1)

Lies = dict[tuple[int, Subset], tuple[int, ...] | None]
"""What a member's lie does to a subset's opening: bits that it flips, or None for no bits at all."""


@pytest.fixture
def rng() -> random.Random:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    return random.Random(seed)


def openings(quorum: Subset, threshold: int, lies: Lies) -> dict[Subset, list[int] | None]:
    found: dict[Subset, list[int] | None] = {}
    for subset in subsets(quorum, threshold):
        bits: list[int] | None = list(TRUTH)
        for member in subset:
            flips = lies.get((member, subset), (0,) * len(TRUTH))
            bits = None if bits is None or flips is None else [a ^ b for a, b in zip(bits, flips, strict=True)]
        found[subset] = bits
    return found


def random_lies(rng: random.Random, quorum: Subset, threshold: int, liar: int) -> Lies:
    """Constant, one bit, one subset only, or anything anywhere."""
    mine = subsets(quorum, threshold, liar)
    everywhere = rng.choice([mine, [rng.choice(mine)], rng.sample(mine, rng.randint(1, len(mine)))])
    constant = rng.choice([(1, 1, 1), (0, 1, 0), None])
    anything = rng.random() < 0.3
    drawn = [rng.choice([None, tuple(rng.randint(0, 1) for _ in TRUTH)]) for _ in everywhere]
    return {(liar, subset): drawn[place] if anything else constant for place, subset in enumerate(everywhere)}


def named_by_hand(found: dict[Subset, list[int] | None]) -> set[int]:
    """The members that all deviating subsets have in common."""
    deviating = [set(subset) for subset, bits in found.items() if bits != list(TRUTH)]
    return set.intersection(*deviating) if deviating else set()


@pytest.mark.parametrize("threshold", [1, 2, 3, 4])
def test_one_liar_never_changes_a_checked_bit(threshold: int, rng: random.Random) -> None:
    seen: Counter[str] = Counter()
    for _ in range(HISTORIES):
        members = rng.sample(range(1, 10), threshold + 2)
        large = tuple(sorted(members))
        small = tuple(sorted(rng.sample(members, threshold + 1)))
        liar = rng.choice(large)
        lies = random_lies(rng, large, threshold, liar)
        try:
            opened = verdict(openings(small, threshold, lies), small, threshold)
            assert opened == Opened(list(TRUTH), checked=True, liars=())
        except DecryptionDisputed:
            seen["disputed"] += 1
        found = openings(large, threshold, lies)
        opened = verdict(found, large, threshold)
        assert opened.bits == list(TRUTH)
        assert opened.checked
        common = named_by_hand(found)
        assert set(opened.liars) == (common if len(common) == 1 else set())
        assert set(opened.liars) <= {liar}
        seen["named" if opened.liars else "unnamed"] += 1
    assert seen["disputed"] > HISTORIES / 10
    assert seen["named"] > HISTORIES / 10


@pytest.mark.parametrize("threshold", [2, 3])
def test_a_liar_in_every_subset_is_named(threshold: int) -> None:
    quorum = tuple(range(1, threshold + 3))
    for liar in quorum:
        lies: Lies = {(liar, subset): (0, 0, 1) for subset in subsets(quorum, threshold, liar)}
        assert verdict(openings(quorum, threshold, lies), quorum, threshold) == Opened(list(TRUTH), checked=True, liars=(liar,))


def test_two_of_three_notice_and_never_name() -> None:
    """A committee of three with threshold two has no larger quorum."""
    lies: Lies = {(2, subset): (1, 0, 0) for subset in subsets((1, 2, 3), 2, 2)}
    with pytest.raises(DecryptionDisputed) as raised:
        verdict(openings((1, 2, 3), 2, lies), (1, 2, 3), 2)
    assert raised.value.exit_code == 3
    assert isinstance(raised.value, CiphertextInvalid)


def test_a_quorum_of_the_threshold_checks_nothing() -> None:
    lies: Lies = {(1, (1, 2, 3)): (1, 1, 1)}
    assert verdict(openings((1, 2, 3), 3, lies), (1, 2, 3), 3) == Opened([0, 1, 0], checked=False, liars=())
    with pytest.raises(DecryptionDisputed):
        verdict({(1, 2, 3): None}, (1, 2, 3), 3)


@pytest.mark.parametrize("extra", [1, 2])
def test_two_liars_that_work_together_can_forge(extra: int) -> None:
    """The limit of the scheme, on purpose asserted: all this is for one liar. With two, an honest member can even be named."""
    quorum, threshold, wrong = tuple(range(1, 4 + extra)), 3, (1, 0, 0)
    lies: Lies = {}
    for subset in subsets(quorum, threshold):
        liars = [member for member in subset if member in (1, 2)]
        if liars:
            lies[liars[0], subset] = wrong
    opened = verdict(openings(quorum, threshold, lies), quorum, threshold)
    assert opened.checked
    assert not set(opened.liars) & {1, 2}
    assert opened.bits != list(TRUTH)


def test_two_liars_that_do_not_work_together_are_disputed() -> None:
    quorum, threshold = (1, 2, 3, 4, 5), 3
    lies: Lies = {(1, subset): (1, 0, 0) for subset in subsets(quorum, threshold, 1)}
    lies |= {(2, subset): (0, 1, 0) for subset in subsets(quorum, threshold, 2)}
    with pytest.raises(DecryptionDisputed):
        verdict(openings(quorum, threshold, lies), quorum, threshold)


@pytest.mark.parametrize("extra", [1, 2])
def test_a_majority_of_openings_would_believe_the_liar(extra: int) -> None:
    """The broken twin: a liar is in most subsets, so counting them lets it outvote everybody."""
    quorum, threshold = tuple(range(1, 4 + extra)), 3
    lies: Lies = {(1, subset): (1, 0, 0) for subset in subsets(quorum, threshold, 1)}
    found = openings(quorum, threshold, lies)
    (majority, _), *_ = Counter(tuple(bits or ()) for bits in found.values()).most_common()
    assert majority != TRUTH
    if extra == 2:
        assert verdict(found, quorum, threshold).bits == list(TRUTH)


# the same on real partials


def changed(data: bytes, count: int, places: list[tuple[int, int]], by: int) -> bytes:
    """``data`` with ``by`` added to the field elements of (subset number, row)."""
    start = wire._HEADER.size
    words = [int.from_bytes(data[at : at + VALUE_BYTES], "big") for at in range(start, len(data), VALUE_BYTES)]
    for subset, row in places:
        words[subset * count + row] = (words[subset * count + row] + by) % FIELD
    return data[:start] + b"".join(word.to_bytes(VALUE_BYTES, "big") for word in words)


def test_real_lies_are_disputed_by_four_and_named_by_five(rng: random.Random) -> None:
    opened = result(BITS)
    four, five = partials(opened, (1, 2, 3, 4)), partials(opened, (1, 2, 3, 4, 5))
    for _ in range(30):
        liar, row = rng.choice((1, 2, 3, 4)), rng.randrange(len(BITS))
        by = rng.choice([BIT, FIELD - BIT, 2 * BIT, BIT + rng.randrange(1 << 40), (rng.randrange(1 << 50) << 64) + BIT])
        small = {**four, liar: changed(four[liar], len(BITS), [(subset, row) for subset in range(3)], by)}
        with pytest.raises(DecryptionDisputed):
            COMBINER.open(opened, (1, 2, 3, 4), small)
        large = {**five, liar: changed(five[liar], len(BITS), [(subset, row) for subset in range(6)], by)}
        found = COMBINER.open(opened, (1, 2, 3, 4, 5), large)
        assert found == Opened(BITS, checked=True, liars=(liar,)), (liar, row, by)
        one = {**five, liar: changed(five[liar], len(BITS), [(rng.randrange(6), row)], by)}
        assert COMBINER.open(opened, (1, 2, 3, 4, 5), one) == Opened(BITS, checked=True, liars=())


def test_quorums_have_threshold_to_threshold_plus_two_members() -> None:
    for size in range(7):
        quorum = range(1, size + 1)
        if 2 <= size <= 4:
            assert check_quorum(list(quorum)[::-1], 2) == tuple(quorum)
        else:
            with pytest.raises(CiphertextInvalid):
                check_quorum(quorum, 2)


def test_subsets_are_those_of_the_member() -> None:
    for quorum in itertools.combinations(range(1, 7), 5):
        assert len(subsets(quorum, 3)) == 10
        for member in quorum:
            assert subsets(quorum, 3, member) == [subset for subset in subsets(quorum, 3) if member in subset]
            assert len(subsets(quorum, 3, member)) == 6
