"""Where a development cluster keeps its things, and what it remembers of what it started.

``cluster.json`` is written after every process that was started, so that `veil dev down` finds all of them however far
`veil dev up` came. A process is known by its pid AND its start time: a pid that was given to another process since is left
alone.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from veil.errors import ConfigInvalid, LimitExceeded

SOCKET_PATH_MAX_BYTES = 107
"""What Linux takes for a unix socket's path."""

_LONGEST_SOCKET = "nodes/node-99/containerd/state/containerd.sock.ttrpc"


@dataclass(slots=True, kw_only=True)
class ProcessRecord:
    """A process that the cluster started."""

    role: str
    pid: int
    started_ticks: int
    """Field 22 of /proc/<pid>/stat."""


@dataclass(slots=True, kw_only=True)
class NodeRecord:
    """One node of the cluster."""

    name: str
    peer_id: str
    operator: str
    directory: str


@dataclass(slots=True, kw_only=True)
class ClusterRecord:
    """Everything that `down` and `status` need to know."""

    runtime: str
    rpc_url: str = ""
    contract: str = ""
    contract_block: int = 0
    nodes: list[NodeRecord] = field(default_factory=list)
    processes: list[ProcessRecord] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths below one directory."""

    root: Path

    @property
    def record(self) -> Path:
        return self.root / "cluster.json"

    @property
    def chain(self) -> Path:
        return self.root / "chain"

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def images(self) -> Path:
        return self.root / "images"

    def node(self, name: str) -> Path:
        return self.root / "nodes" / name

    def containerd(self, name: str) -> Path:
        return self.node(name) / "containerd"

    def check(self) -> None:
        """Raises LimitExceeded when sockets below ``root`` could not be bound."""
        longest = len(str(self.root / _LONGEST_SOCKET).encode())
        if longest > SOCKET_PATH_MAX_BYTES:
            raise LimitExceeded(
                f"{self.root}: socket paths below it would have {longest} bytes", hint="give a shorter directory with --dir"
            )

    def load(self) -> ClusterRecord | None:
        """What was started here, or None. Raises ConfigInvalid."""
        if not self.record.exists():
            return None
        try:
            raw = json.loads(self.record.read_text())
            nodes = [NodeRecord(**node) for node in raw.pop("nodes")]
            processes = [ProcessRecord(**process) for process in raw.pop("processes")]
            return ClusterRecord(nodes=nodes, processes=processes, **raw)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigInvalid(
                f"{self.record} is not the record of a cluster: {error}",
                hint="it may be another version's: end its processes by hand, then remove the directory",
            ) from error

    def save(self, record: ClusterRecord) -> None:
        """Replace the record at once or not at all."""
        draft = self.record.with_suffix(".new")
        draft.write_text(json.dumps(asdict(record), indent=2) + "\n")
        draft.replace(self.record)
