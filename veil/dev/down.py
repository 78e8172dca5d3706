"""Taking a development cluster down without a trace."""

import asyncio
import logging
import shutil
from pathlib import Path

from veil.agent.networks import networks_in
from veil.config import load_settings
from veil.dev.layout import ClusterRecord, Layout
from veil.dev.processes import stop
from veil.dev.steps import Steps
from veil.errors import VeilError
from veil.runtime.daemon import PrivateContainerd
from veil.runtime.mounts import unmount_below
from veil.runtime.process import ProcessRuntime

log = logging.getLogger(__name__)


def down(layout: Layout, steps: Steps) -> None:
    """Stop nodes, then containers, then the chain; remove every file. Nothing there = nothing done."""
    record = layout.load()
    if record is None:
        steps.note(f"no cluster in {layout.root}")
        return
    with steps.step("nodes stopped"):
        stop([process for process in record.processes if process.role.endswith("/node")])
    with steps.step("containers, mounts and cgroups removed"):
        asyncio.run(_remove_containers(layout, record))
    with steps.step("chain stopped, files removed"):
        stop(record.processes)
        default = Path("~/.veil/config").expanduser()
        if default.is_symlink() and default.resolve() == layout.kubeconfig.resolve():
            default.unlink()
        shutil.rmtree(layout.root)


async def _remove_containers(layout: Layout, record: ClusterRecord) -> None:
    for node in record.nodes:
        if record.runtime == "containerd":
            await PrivateContainerd(layout.containerd(node.name), Path(node.directory) / "containerd.log").stop()
            await _remove_networks(Path(node.directory))
            unmount_below(Path(node.directory))  # volumes in memory
        else:
            runtime = ProcessRuntime(Path(node.directory) / "processes")
            await runtime.start_driver()
            await asyncio.gather(*(runtime.delete(one.id) for one in await runtime.list()))
            await runtime.close()


async def _remove_networks(directory: Path) -> None:
    """Also where the plugins are not there any more: what they made is only a few rules of iptables then."""
    settings = load_settings(directory, {})
    networks = networks_in(directory / "networks", subnet=settings.network_subnet, plugins=settings.cni_plugins)
    try:
        await networks.clear()
    except VeilError as error:
        log.warning("networks of %s: %s", settings.name, error.message)
