"""Networks on the fake runtime, in virtual time; the bridge only remembers."""

from pathlib import Path
from typing import Any

import pytest

from veil.errors import ContainerFailed, NotFound, VeilError
from veil.runtime.ports import Mount, PortMapping

pytestmark = pytest.mark.looptime


def listening(host: Any, number: int = 1, **port: Any) -> Any:
    container = {"name": "main", "image": "app:1", "command": ["serve"], "ports": [{"containerPort": 80, **port}]}
    return host.instance(number, containers=[container])


def home(host: Any, number: int = 1) -> Path:
    return host.log_dir.with_name("networks") / host.key(number).text


def hosts(host: Any, number: int = 1) -> list[str]:
    return (home(host, number) / "hosts").read_text().split()


async def test_what_a_container_gets(host: Any) -> None:
    host.want(listening(host, hostPort=8080, protocol="UDP"))
    await host.until(lambda: host.status().phase == "Running")
    spec = host.machine.records[host.id()].spec
    assert spec.network == str(home(host) / "netns")
    assert spec.mounts == (
        Mount(source=home(host) / "hosts", destination="/etc/hosts", read_only=True),
        Mount(source=home(host) / "resolv.conf", destination="/etc/resolv.conf", read_only=True),
    )
    assert host.bridge.attached == {
        host.key().text: (PortMapping(host_port=8080, container_port=80, protocol="udp"),),
    }


@pytest.mark.parametrize(
    ("template", "network"),
    [({}, "none"), ({"network": "none"}, "none"), ({"hostNetwork": True}, "host"), ({"network": "bridge"}, "bridge")],
)
async def test_a_network_is_what_was_asked_for(host: Any, template: dict[str, Any], network: str) -> None:
    host.want(host.instance(1, **template))
    await host.until(lambda: host.status().phase == "Running")
    assert host.machine.records[host.id()].spec.network == (network if network != "bridge" else str(home(host) / "netns"))
    assert len(host.bridge.attached) == (network == "bridge")


async def test_neighbours_of_a_namespace_know_each_other_and_nobody_else(host: Any) -> None:
    other = listening(host, 3)
    object.__setattr__(other, "namespace", "elsewhere")
    host.want(listening(host, 1), listening(host, 2), other)
    await host.until(lambda: len(host.running()) == 3)
    assert hosts(host, 1) == hosts(host, 2)
    assert {"w1", "w2"} <= set(hosts(host, 1))
    assert "w3" in hosts(host, 3)
    assert not {"w1", "w2"} & set(hosts(host, 3))
    host.want(listening(host, 1), other)
    await host.until(lambda: len(host.running()) == 2)
    await host.until(lambda: "w2" not in hosts(host, 1))


async def test_a_port_is_one_instances(host: Any) -> None:
    """The second waits, says why, and gets it when the first is gone."""
    host.want(listening(host, 1, hostPort=8080))
    await host.until(lambda: host.status(1).phase == "Running")
    host.want(listening(host, 1, hostPort=8080), listening(host, 2, hostPort=8080))
    await host.until(lambda: host.status(2).reason == "NetworkUnavailable")
    assert "port 8080/tcp of this node is another instance's" in host.status(2).message
    host.want(listening(host, 2, hostPort=8080))
    await host.until(lambda: host.status(2).phase == "Running", 30)
    assert list(host.bridge.attached) == [host.key(2).text]


@pytest.mark.parametrize("error", [NotFound("no plugin"), ContainerFailed("bridge ADD: no more addresses")])
async def test_what_cannot_be_had_is_said(host: Any, error: VeilError) -> None:
    host.bridge.fails = error
    host.want(listening(host))
    await host.until(lambda: host.status().reason == "NetworkUnavailable")
    assert error.message in host.status().message
    assert not home(host).exists()
    host.bridge.fails = None
    await host.until(lambda: host.status().phase == "Running", 30)


async def test_it_outlives_restarts_and_agents_and_goes_with_its_instance(host: Any) -> None:
    host.want(listening(host))
    await host.until(lambda: host.status().phase == "Running")
    before = dict(host.bridge.attached)
    host.machine.finish(host.id(), 1)
    await host.until(lambda: host.status().restarts == 1)
    await host.restart_agent()
    host.want(listening(host), listening(host, 2))
    await host.until(lambda: len(host.running()) == 2)
    assert host.bridge.attached.items() >= before.items()
    assert "w1" in hosts(host, 2), "what an agent before this one attached"
    host.want()
    await host.until(lambda: not host.machine.records and not host.bridge.attached)
    assert not home(host).exists()


async def test_after_the_machine_was_restarted_it_is_made_anew(host: Any) -> None:
    host.want(listening(host))
    await host.until(lambda: host.status().phase == "Running")
    (home(host) / "netns").unlink()
    host.machine.finish(host.id(), 1)
    await host.until(lambda: host.status().restarts == 1)
    assert (home(host) / "netns").exists()
    assert list(host.bridge.attached) == [host.key().text]
