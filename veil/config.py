"""Every VEIL_* setting of a node, typed and documented in one place.

A node reads them from its environment and, below that, from ``node.env`` in its directory (``NAME=value`` lines), so that a
service manager, a shell and `veil dev` configure it in the same way. Secrets are never settings: only paths to files are.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from veil.errors import ConfigInvalid
from veil.types import TAINTS_MAX

ENV_FILE = "node.env"


def _setting(variable: str, doc: str, parse: Callable[[str], Any] = str, default: Any = MISSING) -> Any:
    metadata = {"variable": variable, "doc": doc, "parse": parse}
    return field(metadata=metadata) if default is MISSING else field(metadata=metadata, default=default)


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise ValueError("must be over 0 and at most 1")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError("must be 0 or more")
    return value


def _at_most(largest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if (value := _count(text)) > largest:
            raise ValueError(f"must be at most {largest}")
        return value

    return parse


def _between(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not least <= (value := int(text)) <= most:
            raise ValueError(f"must be {least} to {most}")
        return value

    parse.__doc__ = f"{least} to {most}"
    return parse


def _latencies(text: str) -> tuple[tuple[str, float], ...]:
    latencies = tuple((region, float(milliseconds)) for region, milliseconds in _labels(text))
    if not all(0 <= milliseconds < float("inf") for _, milliseconds in latencies):
        raise ValueError("must be 0 or more milliseconds")
    return latencies


def _labels(text: str) -> tuple[tuple[str, str], ...]:
    pairs = [part.strip().partition("=") for part in text.split(",") if part.strip()]
    if any(not name or not equals for name, equals, _ in pairs):
        raise ValueError("must be name=value pairs, comma separated")
    return tuple((name, value) for name, _, value in pairs)


def _paths(text: str) -> tuple[Path, ...]:
    paths = tuple(Path(part.strip()) for part in text.split(",") if part.strip())
    if any(not path.is_absolute() or ".." in path.parts for path in paths):
        raise ValueError("must be absolute paths without .., comma separated")
    return paths


def _taints(text: str) -> tuple[tuple[str, str], ...]:
    if len(taints := _labels(text)) > TAINTS_MAX:
        raise ValueError(f"must be at most {TAINTS_MAX}")
    return taints


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return text

    return parse


def _urls(text: str) -> tuple[str, ...]:
    urls = tuple(part.strip() for part in text.split(",") if part.strip())
    if wrong := [url for url in urls if not url.startswith(("http://", "https://"))]:
        raise ValueError(f"must begin with http:// or https://: {', '.join(wrong)}")
    return urls


def _bootstrap(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshLimits:
    """What others may cost this node's end of the mesh. The least of each is above what a well-behaved peer needs."""

    handshake_burst: int = _setting(
        "VEIL_MESH_HANDSHAKE_BURST",
        "handshakes of one IP address that may fail or be under way at once: more than the nodes that restart together behind it",
        _between(8, 4096),
        32,
    )
    handshakes_per_s: int = _setting(
        "VEIL_MESH_HANDSHAKES_PER_S",
        "how many more each second; of the default 1 to 2 % of a core",
        _between(1, 1000),
        2,
    )
    streams: int = _setting(
        "VEIL_MESH_STREAMS",
        "open streams that a peer began, on one connection; a Veil peer has 16 for requests, 16 for blobs and a few more",
        _between(40, 4096),
        128,
    )
    unread_mib: int = _setting(
        "VEIL_MESH_UNREAD_MIB", "bytes received on one connection that nobody has read", _between(32, 1024), 64
    )
    request_mib_per_s: int = _setting(
        "VEIL_MESH_REQUEST_MIB_PER_S", "requests of one peer; beyond it the peer is read more slowly", _between(1, 1024), 32
    )
    push_mib_per_s: int = _setting(
        "VEIL_MESH_PUSH_MIB_PER_S",
        "contents that one peer may have this node write, right or wrong, after 16 s of it at once; beyond it the peer waits",
        _between(1, 1024),
        16,
    )
    peer_disk_mib: int = _setting(
        "VEIL_MESH_PEER_DISK_MIB",
        "contents that one peer had this node keep; a workload's are about 40 KB",
        _between(128, 1 << 20),
        2048,
    )
    disk_mib: int = _setting("VEIL_MESH_DISK_MIB", "contents of all peers together", _between(128, 1 << 24), 16384)
    disk_free_mib: int = _setting(
        "VEIL_MESH_DISK_FREE_MIB", "nothing is kept for others when the disk has less left", _between(0, 1 << 20), 512
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """One node's settings. Field order is the order of the reference page."""

    directory: Path = _setting("VEIL_DIR", "the node's directory: keys, store.db, journal.db, blobs, logs", Path)
    name: str = _setting("VEIL_NODE_NAME", "the node's name, as it publishes it in the registry")
    rpc_urls: tuple[str, ...] = _setting(
        "VEIL_CHAIN_RPC", "Ethereum JSON-RPC endpoints, comma separated: with three, one that lies is found out", _urls
    )
    contract: str = _setting("VEIL_CONTRACT_ADDRESS", "the VeilRegistry's address (the proxy)")
    contract_block: int = _setting("VEIL_CONTRACT_BLOCK", "the block in which the registry was deployed", int, 0)
    operator_keystore: str = _setting(
        "VEIL_OPERATOR_KEYSTORE",
        "who signs: a JSON keystore, a file with a raw key, or a signing server (URL#ADDRESS); empty for VEIL_DIR/operator.key",
        str,
        "",
    )
    passphrase_file: Path | None = _setting(
        "VEIL_KEYSTORE_PASSPHRASE_FILE", "a file, readable by its owner only, with the keystore's passphrase", Path, None
    )
    peer_id: str = _setting("VEIL_NODE_PEERID", "the expected peer ID: a start with another key is refused", str, "")
    listen: str = _setting("VEIL_LIBP2P_LISTEN", "the multiaddr that the mesh listens on", str, "/ip4/127.0.0.1/tcp/0")
    bootstrap: tuple[str, ...] = _setting(
        "VEIL_LIBP2P_BOOTSTRAP",
        "multiaddrs with /p2p part, comma separated, for peers not yet known from the chain",
        _bootstrap,
        (),
    )
    mdns: str = _setting(
        "VEIL_LIBP2P_MDNS", "yes: find registered peers on this network segment by multicast", _one_of("no", "yes"), "no"
    )
    public_key_file: Path | None = _setting(
        "VEIL_ZAMA_PUBLICKEY_FILE", "the epoch's FHE public key; must have the digest that the chain names", Path, None
    )
    api_listen: str = _setting("VEIL_API_LISTEN", "host:port of the API (TLS, bearer token)", str, "127.0.0.1:0")
    runtime: str = _setting(
        "VEIL_RUNTIME",
        "containerd, docker (dockerd or podman) or process (no isolation)",
        _one_of("containerd", "docker", "process"),
        "containerd",
    )
    containerd_socket: Path = _setting(
        "VEIL_CONTAINERD_SOCKET", "containerd's socket", Path, Path("/run/containerd/containerd.sock")
    )
    containerd_namespace: str = _setting(
        "VEIL_CONTAINERD_NAMESPACE", "the containerd namespace of this node's containers", str, "veil"
    )
    containerd_snapshotter: str = _setting("VEIL_CONTAINERD_SNAPSHOTTER", "containerd's snapshotter", str, "overlayfs")
    runc_root: str = _setting("VEIL_RUNC_ROOT", "runc's state directory; empty for its default", str, "")
    cgroup_parent: str = _setting("VEIL_CGROUP_PARENT", "the cgroup below which containers live", str, "/veil")
    docker_socket: Path = _setting(
        "VEIL_DOCKER_SOCKET", "the Docker API's socket, for the docker runtime", Path, Path("/var/run/docker.sock")
    )
    registry_credentials: Path | None = _setting(
        "VEIL_REGISTRY_CREDENTIALS", "logins of image registries: a file as docker login writes it, mode 0600", Path, None
    )
    host_paths: tuple[Path, ...] = _setting(
        "VEIL_HOST_PATHS", "paths of this machine that workloads may mount, exactly these, comma separated", _paths, ()
    )
    cni_plugins: Path = _setting("VEIL_CNI_PLUGINS", "where the CNI plugins are", Path, Path("/usr/lib/cni"))
    network_subnet: IPv4Network = _setting(
        "VEIL_NETWORK_SUBNET", "IPv4 addresses of this node's containers", IPv4Network, IPv4Network("10.88.0.0/24")
    )
    capacity_share: float = _setting(
        "VEIL_CAPACITY_SHARE", "which part of the machine is this node's (several nodes on one machine)", _share, 1.0
    )
    evaluator_threads: int = _setting(
        "VEIL_EVALUATOR_THREADS", "threads of the evaluator; 0 for one a core (several nodes on one machine: fewer)", _count, 0
    )
    labels: tuple[tuple[str, str], ...] = _setting(
        "VEIL_NODE_LABELS", "labels that workloads select nodes by: name=value, comma separated", _labels, ()
    )
    taints: tuple[tuple[str, str], ...] = _setting(
        "VEIL_NODE_TAINTS",
        "keep new instances off whose workload does not tolerate them: name=value, comma separated",
        _taints,
        (),
    )
    priority: int = _setting(
        "VEIL_NODE_PRIORITY", "for the policy PriorityRoundRobin: 0 (first) to 2; encrypted in rounds", _at_most(2), 1
    )
    cost: int = _setting(
        "VEIL_NODE_COST",
        "for the policy LowestCost: 0 to 1000, in the unit the cluster agreed on; encrypted in rounds",
        _at_most(1000),
        1000,
    )
    latencies_ms: tuple[tuple[str, float], ...] = _setting(
        "VEIL_NODE_LATENCIES",
        "for the policy LowestLatency: region=milliseconds, comma separated; encrypted in rounds",
        _latencies,
        (),
    )
    quota: int = _setting("VEIL_NODE_QUOTA", "replicas of one owner that this node takes; 0 for any number", _count, 0)
    preset: str = _setting("VEIL_PRESET", "timeouts and cadences: dev, lan or wan", _one_of("dev", "lan", "wan"), "lan")
    finality: str = _setting(
        "VEIL_FINALITY", "how deep a placement must be before it starts", _one_of("latest", "safe", "finalized"), "finalized"
    )
    capture: Path | None = _setting(
        "VEIL_MESH_CAPTURE", "write everything given to other nodes, as sealed, to this file (for audits)", Path, None
    )
    mesh: MeshLimits = field(default=MeshLimits())


def _read_env_file(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    lines = (line.strip() for line in path.read_text().splitlines())
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def settings_by_variable() -> "dict[str, tuple[str, Field[Any]]]":
    """Every setting by its variable: which group of NodeSettings it is in ("" for none), and its field there."""
    own = {item.metadata["variable"]: ("", item) for item in fields(NodeSettings) if item.metadata}
    return own | {item.metadata["variable"]: ("mesh", item) for item in fields(MeshLimits)}


def load_settings(directory: Path, environment: Mapping[str, str] | None = None) -> NodeSettings:
    """The settings of the node in ``directory`` (whatever VEIL_DIR says): the environment first, then ``node.env``.

    Raises ConfigInvalid, naming every variable that is missing, unknown or wrong.
    """
    environment = os.environ if environment is None else environment
    known = settings_by_variable()
    values = _read_env_file(directory / ENV_FILE)
    wrong = [f"{name}: no such setting" for name in values if name not in known]
    values |= {name: value for name, value in environment.items() if name in known} | {"VEIL_DIR": str(directory)}
    parsed: dict[str, dict[str, Any]] = {"": {}, "mesh": {}}
    for variable, (group, item) in known.items():
        if values.get(variable, "") == "":
            if item.default is MISSING:
                wrong.append(f"{variable}: not set ({item.metadata['doc']})")
            continue
        try:
            parsed[group][item.name] = item.metadata["parse"](values[variable])
        except ValueError as error:
            wrong.append(f"{variable}: {values[variable]!r} {error}")
    if wrong:
        raise ConfigInvalid("\n".join(wrong), hint=f"set them in the environment or in {directory / ENV_FILE}")
    return NodeSettings(**parsed[""], mesh=MeshLimits(**parsed["mesh"]))


def write_settings(directory: Path, values: Mapping[str, str]) -> None:
    """Write ``node.env``; only known settings are taken."""
    if unknown := sorted(values.keys() - settings_by_variable().keys()):
        raise ConfigInvalid(f"no such setting: {', '.join(unknown)}")
    (directory / ENV_FILE).write_text("".join(f"{name}={value}\n" for name, value in values.items()))
