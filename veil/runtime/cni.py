"""A bridge of this machine for containers, by the plugins of the Container Network Interface.

Each plugin is a program that reads its configuration from stdin and answers on stdout; one after the other they attach a
network namespace: ``bridge`` (an address on the bridge, and the way out through this machine), ``portmap`` (published ports),
``firewall`` (lets the traffic pass). Detaching runs them backwards with what they answered.
Source: Container Network Interface specification 0.4.0.
"""

import asyncio
import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from veil.errors import ContainerFailed, NotFound
from veil.runtime.ports import PortMapping

PLUGINS = ("bridge", "portmap", "firewall")
IPAM_PLUGIN = "host-local"
INTERFACE = "eth0"
PLUGIN_TIMEOUT_S = 30.0
AT_ONCE = 2
"""Plugins wait for each other at the locks of iptables and of addresses: more at a time are not faster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """What attaching gave: needed to detach."""

    address: str
    """IPv4, without a prefix."""
    result: Mapping[str, Any]


class Bridge:
    """One bridge. ``home`` keeps which addresses are taken; ``name`` is the interface's, at most 15 characters."""

    def __init__(self, home: Path, *, name: str, subnet: IPv4Network, plugins: Path) -> None:
        self._plugins = plugins
        self._configurations: dict[str, dict[str, Any]] = {
            "bridge": {
                "bridge": name,
                "isGateway": True,
                "ipMasq": True,
                "hairpinMode": True,
                "ipam": {
                    "type": IPAM_PLUGIN,
                    "ranges": [[{"subnet": str(subnet)}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                    "dataDir": str(home / "addresses"),
                },
            },
            "portmap": {"snat": True},
            "firewall": {"backend": "iptables"},
        }
        self._name = name
        self._turns = asyncio.Semaphore(AT_ONCE)

    def check(self) -> None:
        """Raises NotFound when a plugin is not on this machine."""
        missing = [name for name in (*PLUGINS, IPAM_PLUGIN) if not (self._plugins / name).exists()]
        if missing:
            raise NotFound(
                f"there is no CNI plugin {', '.join(missing)} in {self._plugins}",
                hint="install containernetworking-plugins, or set VEIL_CNI_PLUGINS to where they are",
            )

    async def attach(self, id: str, namespace: Path, ports: Sequence[PortMapping]) -> Attachment:
        """Give ``namespace`` an address. Not to be repeated without :meth:`detach`. Raises ContainerFailed, NotFound."""
        self.check()
        result: dict[str, Any] | None = None
        async with self._turns:
            for plugin in PLUGINS:
                result = await self._run(plugin, "ADD", id, namespace, ports, result)
        try:
            assert result is not None
            address = str(result["ips"][0]["address"]).partition("/")[0]
        except (KeyError, IndexError, TypeError) as error:
            raise ContainerFailed(f"network of {id}: the plugins gave no address", hint="see their version") from error
        return Attachment(address=address, result=result)

    async def detach(
        self, id: str, namespace: Path | None, ports: Sequence[PortMapping], result: Mapping[str, Any] | None
    ) -> None:
        """Take it all back; nothing there = done. ``namespace`` None: it is gone. Raises ContainerFailed, NotFound."""
        self.check()
        async with self._turns:
            for plugin in reversed(PLUGINS):
                await self._run(plugin, "DEL", id, namespace, ports, result)

    async def remove(self) -> None:
        """The interface, when nothing is attached any more. Not there = done."""
        quiet = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec("ip", "link", "delete", self._name, stderr=quiet)
        await process.wait()

    async def _run(
        self,
        plugin: str,
        command: str,
        id: str,
        namespace: Path | None,
        ports: Sequence[PortMapping],
        result: Mapping[str, Any] | None,
    ) -> dict[str, Any] | None:
        configuration = {**self._configurations[plugin], "type": plugin, "cniVersion": "0.4.0", "name": self._name}
        if plugin == "portmap":
            listed = [
                {"hostPort": port.host_port, "containerPort": port.container_port, "protocol": port.protocol} for port in ports
            ]
            configuration["runtimeConfig"] = {"portMappings": listed}
        if result is not None:
            configuration["prevResult"] = result
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": id,
            "CNI_NETNS": str(namespace or ""),
            "CNI_IFNAME": INTERFACE,
            "CNI_PATH": str(self._plugins),
            "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        }
        output = await self._ask(plugin, command, json.dumps(configuration).encode(), environment)
        return _document(output) if output.strip() else None

    async def _ask(self, plugin: str, command: str, given: bytes, environment: Mapping[str, str]) -> bytes:
        process = await asyncio.create_subprocess_exec(
            str(self._plugins / plugin),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=dict(environment),
        )
        try:
            async with asyncio.timeout(PLUGIN_TIMEOUT_S):
                output, complaint = await process.communicate(given)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            if isinstance(error, TimeoutError):
                raise ContainerFailed(
                    f"CNI plugin {plugin} {command} took over {PLUGIN_TIMEOUT_S:.0f} s",
                    hint="something holds the lock of iptables",
                ) from error
            raise
        if process.returncode:
            words = str((_document(output) or {}).get("msg") or complaint.decode(errors="replace").strip() or "no word")
            raise ContainerFailed(f"CNI plugin {plugin} {command}: {words}", hint="see the node's iptables and its bridge")
        return output


def _document(output: bytes) -> dict[str, Any]:
    try:
        document = json.loads(output)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
