"""Networks of Instances: real namespaces, plugins and iptables, counted on the machine."""

import asyncio
import os
import signal
import socket
import subprocess
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from containerd_machine import PLUGINS, Machine, desired

from veil.agent.keys import DesiredInstance, InstanceKey
from veil.agent.networks import networks_in
from veil.runtime.images import BUSYBOX_IMAGE

pytestmark = [
    pytest.mark.runtime,
    pytest.mark.skipif(not (PLUGINS / "bridge").exists(), reason="no CNI plugins: apt-get install containernetworking-plugins"),
]


def free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind(("0.0.0.0", 0))
        port: int = listener.getsockname()[1]
        return port


def serving(number: int, host_port: int = 0) -> dict[InstanceKey, DesiredInstance]:
    """An instance that says its number on port 8080, and one port further by a second container."""
    ports = [{"containerPort": 8080} | ({"hostPort": host_port} if host_port else {})]
    serve = "mkdir -p /www; echo I am {0} > /www/index.html; exec httpd -f -p {1} -h /www"
    main = {"name": "main", "image": BUSYBOX_IMAGE, "command": ["sh", "-c", serve.format(number, 8080)], "ports": ports}
    side = {"name": "side", "image": BUSYBOX_IMAGE, "command": ["sh", "-c", serve.format("beside", 8081)]}
    (one,) = desired(number).values()
    return {one.key: replace(one, spec={"containers": [main, side], "terminationGracePeriodSeconds": 0})}


async def get(address: str, port: int) -> str:
    """The last line of what it serves, once it does."""
    async with asyncio.timeout(20):
        while True:
            try:
                reader, writer = await asyncio.open_connection(address, port)
                writer.write(b"GET / HTTP/1.0\r\n\r\n")
                answer = await reader.read()
                writer.close()
                return answer.decode().splitlines()[-1]
            except OSError:
                await asyncio.sleep(0.05)


def rules() -> str:
    return subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout


def address_in(machine: Machine, key: InstanceKey) -> str:
    hosts = Path(machine.networks.home(key.text), "hosts").read_text()
    (address,) = {line.split()[0] for line in hosts.splitlines() if line.endswith(f"w{int.from_bytes(key.object_id, 'big')}")}
    return address


async def test_instances_reach_each_other_by_address_and_the_node_by_its_published_port(machine: Machine) -> None:
    port = free_port()
    wanted = serving(1, port) | serving(2)
    first, second = wanted
    machine.agent.set_desired(wanted)
    await machine.until(lambda pids: len(pids) == 4)
    assert await get("127.0.0.1", port) == "I am 1"
    assert await get(address_in(machine, second), 8080) == "I am 2"
    ask = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc {0} {1} | tail -1"

    async def asked(of: InstanceKey, address: str, at: int) -> str:
        done = await machine.runtime.exec(f"{of.text}-main", ["sh", "-c", ask.format(address, at)])
        return done.output.decode().strip()

    assert await asked(first, address_in(machine, second), 8080) == "I am 2"
    assert await asked(first, "127.0.0.1", 8081) == "I am beside"
    names = (await machine.runtime.exec(f"{first.text}-main", ["cat", "/etc/hosts"])).output.decode().split()
    assert {"localhost", "w1", "w2"} <= set(names)

    machine.agent.set_desired(serving(1, port))
    await machine.until(lambda pids: len(pids) == 2)
    async with asyncio.timeout(10):
        while "w2" in (await machine.runtime.exec(f"{first.text}-main", ["cat", "/etc/hosts"])).output.decode():
            await asyncio.sleep(0.05)


async def test_an_address_outlives_its_containers_and_an_agent(machine: Machine) -> None:
    port = free_port()
    (key,) = wanted = serving(1, port)
    machine.agent.set_desired(wanted)
    await machine.until(lambda pids: len(pids) == 2)
    address, before = address_in(machine, key), await machine.pids()
    assert await get("127.0.0.1", port) == "I am 1"
    os.kill(before[f"{key.text}-main"], signal.SIGKILL)
    await machine.until(lambda pids: pids.get(f"{key.text}-main", 0) not in (0, before[f"{key.text}-main"]))
    assert (await get("127.0.0.1", port), await get(address, 8080)) == ("I am 1", "I am 1")

    await machine.agent.close()
    machine.networks = networks_in(machine.directory / "networks", subnet=machine.subnet, plugins=PLUGINS)
    machine.agent = machine.new_agent()
    await machine.agent.start()
    machine.agent.set_desired(wanted | serving(2))
    await machine.until(lambda pids: len(pids) == 4)
    (second,) = serving(2)
    assert address_in(machine, key) == address != address_in(machine, second)
    assert await get("127.0.0.1", port) == "I am 1"


async def test_nothing_is_left_of_a_network(machine: Machine) -> None:
    port = free_port()
    (key,) = wanted = serving(1, port)
    machine.agent.set_desired(wanted)
    await machine.until(lambda pids: len(pids) == 2)
    address = address_in(machine, key)
    assert f"--dport {port}" in rules()
    machine.agent.set_desired({})
    async with asyncio.timeout(20):
        while machine.networks.instances():
            await asyncio.sleep(0.05)
    assert f"--dport {port}" not in rules()
    assert address not in rules()
    assert str(machine.directory) not in Path("/proc/self/mountinfo").read_text()
    left = [path.name for path in (machine.directory / "networks" / "addresses").rglob("10.*")]
    assert left == []


async def test_a_network_that_was_begun_is_made_anew(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent was killed between the plugins: an address is taken, and nothing was written about it."""
    port = free_port()
    wanted = serving(1, port)

    def killed(*_: Any) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr("veil.agent.networks._write", killed)
    machine.agent.set_desired(wanted)
    async with asyncio.timeout(20):
        while not machine.networks.instances() or f"--dport {port}" not in rules():
            await asyncio.sleep(0.05)
    await machine.agent.close()
    monkeypatch.undo()
    machine.networks = networks_in(machine.directory / "networks", subnet=machine.subnet, plugins=PLUGINS)
    machine.agent = machine.new_agent()
    await machine.agent.start()
    machine.agent.set_desired(wanted)
    await machine.until(lambda pids: len(pids) == 2)
    assert await get("127.0.0.1", port) == "I am 1"
    assert len(list((machine.directory / "networks" / "addresses").rglob("10.*"))) == 1
