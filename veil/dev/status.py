"""What a development cluster consists of, for people and for scripts."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from veil.dev.layout import Layout, NodeRecord
from veil.dev.processes import is_alive
from veil.errors import NotFound


def status_of(layout: Layout) -> dict[str, Any]:
    """``nodes[]`` (name, peerID, operator, api, pids, runtime), ``chain`` (rpc, contract, pid), ``runtime``. Raises NotFound."""
    record = layout.load()
    if record is None:
        raise NotFound(f"no cluster in {layout.root}", hint="start one with `veil dev up`")
    pids = {process.role: process.pid for process in record.processes if is_alive(process)}
    return {
        "directory": str(layout.root),
        "runtime": record.runtime,
        "kubeconfig": str(layout.kubeconfig),
        "chain": {"rpc": record.rpc_url, "contract": record.contract, "block": record.contract_block, "pid": pids.get("chain")},
        "nodes": [_node(layout, node, record.runtime, pids) for node in record.nodes],
    }


def _node(layout: Layout, node: NodeRecord, runtime: str, pids: dict[str, int]) -> dict[str, Any]:
    directory = Path(node.directory)
    endpoint = directory / "endpoint.json"
    said = json.loads(endpoint.read_text()) if endpoint.exists() else {}
    own = {role.split("/", 1)[1]: pid for role, pid in pids.items() if role.startswith(f"{node.name}/")}
    if "node" in own:
        own |= said.get("pids", {})
    socket = str(layout.containerd(node.name) / "containerd.sock") if runtime == "containerd" else ""
    return {
        "name": node.name,
        "peerID": node.peer_id,
        "operator": node.operator,
        "directory": node.directory,
        "api": said.get("api", ""),
        "socket": str(directory / "api.sock"),
        "pids": own,
        "runtime": {"kind": runtime, "socket": socket, "namespace": "veil" if runtime == "containerd" else ""},
    }


def show(state: dict[str, Any]) -> None:
    """The same as a table."""
    console = Console()
    table = Table(title=f"cluster in {state['directory']} ({state['runtime']})", title_justify="left")
    for column in ("NODE", "PEER", "API"):
        table.add_column(column, no_wrap=True)
    table.add_column("RUNNING")
    for node in state["nodes"]:
        running = ", ".join(sorted(node["pids"])) or "[red]nothing[/red]"
        table.add_row(node["name"], "…" + node["peerID"][-8:], node["api"], running)
    console.print(table)
    console.print(f"chain {state['chain']['rpc']}  registry {state['chain']['contract']}")
    console.print(f"kubectl --kubeconfig {state['kubeconfig']} get workloads")
