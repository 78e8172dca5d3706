"""What a node says of its own parts: one small check for each condition (docs/reference/conditions.md has them all)."""

from functools import partial

from veil.agent.gpus import LIBRARY, Gpus
from veil.agent.pressure import Pressure, Pressures
from veil.chain.endpoints import Endpoints
from veil.mesh.ports import Mesh, PeerState
from veil.node.budget import DecryptionBudget
from veil.node.controllers import ControllersChild
from veil.node.disk import Disk
from veil.node.epochs import EpochKeeper
from veil.node.following import ChainFollower
from veil.node.health import Condition, Verdict
from veil.runtime.ports import Runtime
from veil.store.projection import Projection
from veil.types import PeerId


class NodeConditions:
    """Reads the node's parts, and changes none."""

    def __init__(
        self,
        *,
        peer: PeerId,
        projection: Projection,
        follower: ChainFollower,
        endpoints: Endpoints,
        mesh: Mesh,
        epochs: EpochKeeper,
        budget: DecryptionBudget,
        disk: Disk,
        runtime: Runtime,
        pressures: Pressures,
        gpus: Gpus,
        controllers: ControllersChild,
    ) -> None:
        self._peer = peer
        self._projection = projection
        self._follower = follower
        self._endpoints = endpoints
        self._mesh = mesh
        self._epochs = epochs
        self._budget = budget
        self._disk = disk
        self._runtime = runtime
        self._pressures = pressures
        self._gpus = gpus
        self._controllers = controllers

    def all(self) -> list[Condition]:
        """In the order in which they are shown."""
        return [
            Condition("Registered", "Active", "NotActive", self._registered),
            Condition("ChainSynced", "CaughtUp", "NotSynced", self._synced),
            Condition("ChainEndpointsAgree", "Agree", "EndpointLeft", self._endpoints_agree),
            Condition("MeshJoined", "MembersSeen", "Alone", self._joined),
            Condition("KeysReady", "EpochComplete", "EpochIncomplete", self._keyed),
            Condition("NextKeysReady", "Prepared", "NotPrepared", self._prepared),
            Condition("BudgetLeft", "Enough", "NearlySpent", self._budgeted),
            Condition("FheReady", "InClass", "EvaluatorAway", self._evaluates),
            Condition("JournalWritable", "Writable", "NotWritable", self._journal_writable),
            Condition("ClockRight", "AgreesWithChain", "DiffersFromChain", self._clock_right),
            Condition("RuntimeReady", "Answers", "Away", self._runtime_answers),
            Condition("DiskFree", "Enough", "DiskPressure", partial(self._relaxed, Pressure.DISK)),
            Condition("MemoryFree", "Enough", "MemoryPressure", partial(self._relaxed, Pressure.MEMORY)),
            Condition("PidsFree", "Enough", "PidPressure", partial(self._relaxed, Pressure.PIDS)),
            Condition("GpusReady", "Counted", "NvmlAway", self._gpus_counted),
            Condition("ControllersRunning", "Running", "NotRunning", self._controlled),
        ]

    async def _relaxed(self, pressure: Pressure) -> str:
        return "nothing new is placed here until it has been over for a while" if pressure in self._pressures.active else ""

    async def _gpus_counted(self) -> str | Verdict:
        if self._gpus.problem or self._gpus.seen:
            return self._gpus.problem
        return Verdict(True, "NoGpus", f"this node offers no GPU: {LIBRARY} finds none, or is not there")

    async def _registered(self) -> str | Verdict:
        row = self._projection.node(self._peer)
        if row is None:
            return "the registry does not have this peer: `veil node register`"
        if not row.proven:
            return "the registry has no valid proof of possession of this peer"
        if row.down_incarnation is not None:
            return Verdict(False, "MarkedDown", "others marked this node down; it comes back by itself once it sees most of them")
        if row.status == "Cordoned":
            return Verdict(True, "Cordoned", "it takes nothing new: `veil node uncordon` ends that")
        return "" if row.status == "Active" else f"the registry says {row.status}"

    async def _synced(self) -> str:
        return self._follower.problem

    async def _endpoints_agree(self) -> str:
        return "; ".join(self._endpoints.complaints)

    async def _joined(self) -> str:
        others = [member for member in self._mesh.members() if member.peer != self._peer]
        alive = any(member.state is PeerState.ALIVE for member in others)
        return "" if alive or not others else f"none of {len(others)} other members answers"

    async def _keyed(self) -> str:
        return self._epochs.problem

    async def _prepared(self) -> Verdict:
        return self._epochs.prepared

    async def _budgeted(self) -> str:
        return self._budget.problem

    async def _evaluates(self) -> Verdict:
        return self._epochs.fhe

    async def _journal_writable(self) -> str:
        return self._disk.problem

    async def _clock_right(self) -> str:
        return self._follower.clock_problem

    async def _runtime_answers(self) -> str:
        await self._runtime.version()
        return ""

    async def _controlled(self) -> str:
        return "" if self._controllers.pid else "the controllers' process is not running"
