"""Which container runtime the settings ask for."""

from pathlib import Path

from veil.config import NodeSettings
from veil.runtime.containerd.driver import ContainerdRuntime
from veil.runtime.ports import Runtime
from veil.runtime.process import ProcessRuntime


def make_runtime(settings: NodeSettings) -> Runtime:
    """The driver, not started yet."""
    if settings.runtime == "process":
        return ProcessRuntime(settings.directory / "processes")
    return ContainerdRuntime(
        settings.containerd_socket,
        namespace=settings.containerd_namespace,
        snapshotter=settings.containerd_snapshotter,
        runc_root=Path(settings.runc_root) if settings.runc_root else None,
        cgroup_parent=settings.cgroup_parent,
        credentials=settings.registry_credentials,
    )
