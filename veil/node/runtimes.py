"""Which container runtime the settings ask for, and how its containers get a network."""

from pathlib import Path

from veil.agent.networks import Networks, RuntimeNetworks, networks_in
from veil.config import NodeSettings
from veil.runtime.containerd.driver import ContainerdRuntime
from veil.runtime.docker import DockerRuntime
from veil.runtime.ports import Runtime
from veil.runtime.process import ProcessRuntime


def make_runtime(settings: NodeSettings) -> Runtime:
    """The driver, not started yet."""
    if settings.runtime == "process":
        return ProcessRuntime(settings.directory / "processes")
    if settings.runtime == "docker":
        return DockerRuntime(
            settings.docker_socket,
            settings.directory / "docker",
            namespace=f"veil-{settings.name}",
            credentials=settings.registry_credentials,
        )
    return ContainerdRuntime(
        settings.containerd_socket,
        namespace=settings.containerd_namespace,
        snapshotter=settings.containerd_snapshotter,
        runc_root=Path(settings.runc_root) if settings.runc_root else None,
        cgroup_parent=settings.cgroup_parent,
        credentials=settings.registry_credentials,
    )


def make_networks(settings: NodeSettings) -> Networks | RuntimeNetworks | None:
    """None for a runtime whose containers have the machine's network. The Docker API takes no namespace: it makes its own."""
    if settings.runtime == "process":
        return None
    if settings.runtime == "docker":
        return RuntimeNetworks()
    return networks_in(settings.directory / "networks", subnet=settings.network_subnet, plugins=settings.cni_plugins)
