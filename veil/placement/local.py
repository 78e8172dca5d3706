"""What all machines of one node share: who it is, what it sees, its clock, its key epoch."""

from dataclasses import dataclass, field

from veil.identity import Identity
from veil.placement.effects import ROUND, Send
from veil.placement.policies import Traits
from veil.placement.ports import ClusterView, EpochParts, Liveness
from veil.placement.ranking import Ranking
from veil.placement.settings import PlacementSettings
from veil.types import Clock, ClusterId, PeerId, Random
from veil.wire.codec import Message
from veil.wire.signed import Signed, sign


@dataclass(kw_only=True)
class Local:
    """Handed to every machine. Only ``epoch`` and ``last_epoch`` change."""

    identity: Identity
    cluster: ClusterId
    view: ClusterView
    clock: Clock
    random: Random
    liveness: Liveness
    settings: PlacementSettings
    traits: Traits = field(default_factory=Traits)
    epoch: EpochParts | None = None
    """The one that new rounds are of."""
    last_epoch: EpochParts | None = None
    """The one before, for as long as rounds that were begun in it may go on."""
    ranking: Ranking = field(init=False)

    def __post_init__(self) -> None:
        self.ranking = Ranking(self.view, self.cluster)

    @property
    def peer(self) -> PeerId:
        return self.identity.peer_id

    def parts_of(self, epoch: int) -> EpochParts | None:
        """The parts of ``epoch`` if this node works with it, be it only to end what was begun."""
        for parts in (self.epoch, self.last_epoch):
            if parts is not None and parts.key_epoch.epoch == epoch:
                return parts
        return None

    def now(self) -> float:
        """Seconds that never go back."""
        return self.clock.monotonic_s()

    def wall_s(self) -> int:
        """Unix seconds, for what others will read."""
        return int(self.clock.now_s())

    def sign(self, message: Message) -> Signed:
        return sign(self.identity, self.cluster, message)

    def send(self, peer: PeerId, message: Message, *, protocol: str = ROUND) -> Send:
        """``message`` signed by this node."""
        return Send(peer, self.sign(message), protocol)
