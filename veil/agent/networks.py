"""Networks of Instances: a namespace for all containers of one, on the node's bridge, with published ports and names.

Below the node's directory each Instance that asks for a network has a directory: the namespace (a mounted file, so that it and
its address outlive restarts of containers), what attaching it gave, and the files that containers find as /etc/hosts and
/etc/resolv.conf. ``hosts`` has the Instances of the same Veil namespace on this node, by their own name and their workload's.
It is written in place, because containers have the file itself mounted. After the machine was restarted all is made anew.
"""

import asyncio
import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, Literal

import msgspec

from veil.errors import Conflict, ContainerFailed, VeilError
from veil.runtime.cni import Bridge
from veil.runtime.mounts import unmount_below
from veil.runtime.netns import make_namespace
from veil.runtime.ports import BRIDGE, Mount, PortMapping

log = logging.getLogger(__name__)

RESOLVERS = (Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf"))
"""The first that is there: a resolver on the machine's loopback, as systemd has it in the second, is out of reach."""

NAMESPACE, HOSTS, RESOLV, RECORD = "netns", "hosts", "resolv.conf", "network.json"
_LOOPBACK = "127.0.0.1\tlocalhost\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What one Instance asks for. ``namespace`` is Veil's; ``names`` are those by which its neighbours know it."""

    home: Path
    namespace: str
    names: tuple[str, ...]
    ports: tuple[PortMapping, ...] = ()
    shared: bool = False
    """Whether it is that of several containers."""
    by_runtime: bool = False
    """Whether the runtime makes it, for each container its own."""

    @property
    def asked(self) -> str:
        """What the runtime is asked for: the network namespace's path, or one that it makes."""
        return BRIDGE if self.by_runtime else str(self.home / NAMESPACE)

    @property
    def published(self) -> tuple[PortMapping, ...]:
        """The ports that the runtime has to publish."""
        return self.ports if self.by_runtime else ()

    @property
    def mounts(self) -> tuple[Mount, ...]:
        """How containers resolve names."""
        if self.by_runtime:
            return ()
        return tuple(Mount(source=self.home / name, destination=f"/etc/{name}", read_only=True) for name in (HOSTS, RESOLV))


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is remembered of an attached network."""

    namespace: str
    names: tuple[str, ...]
    ports: tuple[PortMapping, ...]
    address: str
    result: dict[str, Any]


def network_of(
    template: Mapping[str, Any], home: Path | None, namespace: str, names: Iterable[str], *, by_runtime: bool = False
) -> Network | None:
    """What a template asks for; None for the machine's network or loopback alone, or where there are none (``home`` None).

    Raises KeyError, TypeError, ValueError.
    """
    if home is None:
        return None
    listed = [port for container in template["containers"] for port in container.get("ports") or ()]
    asked = template.get("network", "none")
    if template.get("hostNetwork", False) or (asked == "none" and not listed):
        return None
    if asked not in ("none", "bridge"):
        raise ValueError("a network")
    ports = tuple(_mapping(port) for port in listed if port.get("hostPort"))
    shared = len(template["containers"]) > 1
    return Network(home=home, namespace=namespace, names=tuple(names), ports=ports, shared=shared, by_runtime=by_runtime)


def _mapping(port: Mapping[str, Any]) -> PortMapping:
    protocols: dict[str, Literal["tcp", "udp"]] = {"TCP": "tcp", "UDP": "udp"}
    protocol = protocols[str(port.get("protocol", "TCP"))]
    return PortMapping(host_port=int(port["hostPort"]), container_port=int(port["containerPort"]), protocol=protocol)


def networks_in(root: Path, *, subnet: IPv4Network, plugins: Path) -> "Networks":
    """Those of one node, on a bridge of its own: several nodes can be on one machine."""
    name = f"veil{hashlib.sha256(bytes(root.resolve())).hexdigest()[:8]}"
    return Networks(root / "instances", Bridge(root, name=name, subnet=subnet, plugins=plugins))


class RuntimeNetworks:
    """Networks that the runtime makes with its containers: nothing is made here, and an Instance has one container."""

    by_runtime = True

    def home(self, instance: str) -> Path:
        """Nothing is there."""
        return Path(instance)

    async def prepare(self, network: Network) -> None:
        """Raises ContainerFailed for what the runtime has not."""
        if network.shared:
            raise ContainerFailed(
                "this node's runtime gives each container a network of its own, and several are to share one",
                hint="run it on a node with containerd, or with one container or hostNetwork",
            )

    async def remove(self, instance: str) -> None:
        """It went with its container."""

    def instances(self) -> set[str]:
        """None has anything here."""
        return set()


class Networks:
    """The networks below one directory."""

    by_runtime = False

    def __init__(
        self,
        root: Path,
        bridge: Bridge,
        *,
        make_namespace: Callable[[Path], None] = make_namespace,
        is_made: Callable[[Path], bool] = os.path.ismount,
        unmake_below: Callable[[Path], None] = unmount_below,
    ) -> None:
        self._root = root.resolve()  # as mountinfo has it
        self._bridge = bridge
        self._make_namespace = make_namespace
        self._is_made = is_made
        self._unmake_below = unmake_below
        self._lock = asyncio.Lock()
        self._records: dict[str, _Record] = {}
        """What is attached, by Instance, as far as it was looked at."""

    def home(self, instance: str) -> Path:
        """Where an Instance's network is."""
        return self._root / instance

    async def prepare(self, network: Network) -> None:
        """Make what is not there. Raises Conflict for another Instance's port, ContainerFailed, NotFound, OSError."""
        async with self._lock:
            await asyncio.to_thread(self._load)
            record = self._records.get(network.home.name)
            if record is not None and self._is_made(network.home / NAMESPACE):
                return
            self._check(network)
            await self._attach(network)
            await asyncio.to_thread(self._write_hosts, network.namespace)

    async def remove(self, instance: str) -> None:
        """Forget everything. Nothing there = done. Raises ContainerFailed, NotFound."""
        home = self.home(instance)
        if not home.exists():
            return
        async with self._lock:
            await asyncio.to_thread(self._load)
            record = self._records.pop(instance, None)
            await self._detach(home, record)
            await asyncio.to_thread(self._clear, home)
            if record is not None:
                await asyncio.to_thread(self._write_hosts, record.namespace)

    async def clear(self) -> None:
        """Forget all of them, and the bridge. Raises ContainerFailed, NotFound."""
        for instance in self.instances():
            await self.remove(instance)
        await self._bridge.remove()

    def instances(self) -> set[str]:
        """Those that have something here."""
        return {path.name for path in self._root.iterdir() if path.is_dir()} if self._root.is_dir() else set()

    def _check(self, network: Network) -> None:
        taken = {
            (port.protocol, port.host_port): instance
            for instance, record in self._records.items()
            if instance != network.home.name
            for port in record.ports
        }
        for port in network.ports:
            if (port.protocol, port.host_port) in taken:
                raise Conflict(
                    f"port {port.host_port}/{port.protocol} of this node is another instance's",
                    hint="use another hostPort, or antiAffinity, so that replicas go to different nodes",
                )

    async def _attach(self, network: Network) -> None:
        """What an attempt that was killed left is taken away first: plugins do not attach twice."""
        home = network.home
        if home.exists():
            await self._detach(home, self._records.pop(home.name, None))
            await asyncio.to_thread(self._clear, home)
        await asyncio.to_thread(self._make, home)
        try:
            attached = await self._bridge.attach(home.name, home / NAMESPACE, network.ports)
        except BaseException:
            await asyncio.shield(self._give_up(home, network.ports))
            raise
        record = _Record(network.namespace, network.names, network.ports, attached.address, dict(attached.result))
        await asyncio.to_thread(_write, home / RECORD, msgspec.json.encode(record))
        self._records[home.name] = record

    async def _give_up(self, home: Path, ports: tuple[PortMapping, ...]) -> None:
        """Of an attempt that failed; the next one does not begin on what it left."""
        try:
            await self._bridge.detach(home.name, home / NAMESPACE, ports, None)
        except VeilError as error:
            log.warning("network of %s: %s", home.name, error.message)
        await asyncio.to_thread(self._clear, home)

    async def _detach(self, home: Path, record: _Record | None) -> None:
        ports, result = (record.ports, record.result) if record is not None else ((), None)
        namespace = home / NAMESPACE
        await self._bridge.detach(home.name, namespace if self._is_made(namespace) else None, ports, result)

    def _load(self) -> None:
        """What an agent before this one attached."""
        for instance in self.instances() - self._records.keys():
            path = self.home(instance) / RECORD
            try:
                self._records[instance] = msgspec.json.decode(path.read_bytes(), type=_Record)
            except (OSError, msgspec.DecodeError):
                continue  # killed before it was written: attached anew, or detached without it

    def _make(self, home: Path) -> None:
        home.mkdir(parents=True, mode=0o755)
        (home / HOSTS).write_text(_LOOPBACK)
        resolver = next((path for path in RESOLVERS if path.exists()), None)
        (home / RESOLV).write_bytes(resolver.read_bytes() if resolver else b"")
        self._make_namespace(home / NAMESPACE)

    def _clear(self, home: Path) -> None:
        self._unmake_below(home)
        shutil.rmtree(home, ignore_errors=True)

    def _write_hosts(self, namespace: str) -> None:
        neighbours = {instance: record for instance, record in self._records.items() if record.namespace == namespace}
        lines = [f"{one.address}\t{name}\n" for one in neighbours.values() for name in one.names]
        for instance in neighbours:
            with (self.home(instance) / HOSTS).open("r+") as file:
                file.write("".join([_LOOPBACK, *sorted(lines)]))
                file.truncate()


def _write(path: Path, content: bytes) -> None:
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(content)
    new.replace(path)
