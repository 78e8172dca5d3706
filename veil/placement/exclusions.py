"""What a committee member makes of the reasons for which a coordinator leaves nodes out of a round.

It takes no word for what it can know itself: that SWIM holds a node alive, that the telemetry said to be missing is here, that
nobody asked it for the keys of an offer said to be refused. A reason that comes from an earlier round counts only for members
that were asked in that round, of the same workload, and for as long as one more round may take: so that whoever wants to keep a
node out has to let it take part in between.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from veil.errors import SignatureInvalid, WireInvalid
from veil.placement import reasons
from veil.placement.local import Local
from veil.types import Digest, PeerId, RoundId
from veil.wire.rounds import Exclusion, Exclusions, Open, Withheld
from veil.wire.signed import Signed, open_signed


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What this member knows of an earlier round, because it was asked in it."""

    open: Open
    commits: Mapping[PeerId, Digest]
    held: Mapping[PeerId, Digest]
    """Digests of the telemetry of that round which is here."""
    named: frozenset[PeerId]
    """Whom this member itself named when it withheld its part."""
    released: bool
    chosen: frozenset[PeerId]
    """Nodes that the round decided for and whose keys this member was asked for."""


def read_exclusions(local: Local, opened: Open, signed: Signed, by: PeerId) -> tuple[Exclusion, ...]:
    """A reason for each node that ``opened`` leaves out. Raises SignatureInvalid or WireInvalid."""
    exclusions = open_signed(signed, local.cluster, Exclusions, by=by)
    named = tuple(exclusion.peer for exclusion in exclusions.exclusions)
    if exclusions.round != opened.round or named != opened.excluded:
        raise WireInvalid("exclusions of another round, or not of exactly the nodes that the opening leaves out")
    return exclusions.exclusions


def is_founded(
    exclusion: Exclusion, opened: Open, known: Mapping[RoundId, Known], local: Local, committee: tuple[bytes, ...]
) -> bool:
    """False when this member knows better, or would have to know and does not."""
    if exclusion.reason == reasons.GONE:
        return local.liveness.gone(PeerId(exclusion.peer))
    earlier = known.get(RoundId(exclusion.round))
    if earlier is None or not _is_before(earlier.open, opened, local):
        return False
    peer = PeerId(exclusion.peer)
    if peer not in earlier.commits:
        return False
    if exclusion.reason == reasons.REFUSED:
        return peer in earlier.chosen or not earlier.released
    if exclusion.reason not in reasons.SPOILT:
        return False
    if peer in earlier.named:
        return True
    if exclusion.reason == reasons.TELEMETRY_MISSING:
        return earlier.held.get(peer) != earlier.commits[peer]
    return _says(exclusion, local, committee)


def _is_before(earlier: Open, opened: Open, local: Local) -> bool:
    """Of the same replicas' workload, and not long over."""
    same = (earlier.object_id, earlier.generation, earlier.epoch) == (opened.object_id, opened.generation, opened.epoch)
    recent = local.wall_s() <= earlier.expires_s + local.settings.round_s
    return same and recent and earlier.round != opened.round


def _says(exclusion: Exclusion, local: Local, committee: tuple[bytes, ...]) -> bool:
    """Whether a committee member says so in writing: what one member has seen, others need not have."""
    if exclusion.word is None or exclusion.word.signer not in committee:
        return False
    try:
        word = open_signed(exclusion.word, local.cluster, Withheld)
    except (SignatureInvalid, WireInvalid):
        return False
    return (word.round, word.reason) == (exclusion.round, exclusion.reason) and exclusion.peer in word.peers
