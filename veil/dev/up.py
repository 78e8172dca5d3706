"""Bringing a development cluster up, step by step; each step uses what an operator of a real cluster would use."""

import asyncio
import hashlib
import os
import sys
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from veil.chain.client import RegistryChain
from veil.chain.deploy import deploy_registry
from veil.chain.devchain import DevChain
from veil.chain.records import Right
from veil.chain.signer import LocalSigner
from veil.client.api import ApiClient
from veil.client.kinds import CORE_NAMESPACES, NODES
from veil.client.kubeconfig import KubeConfig
from veil.config import write_settings
from veil.dev.keys import publish_epoch, run_dev_ceremony
from veil.dev.layout import ClusterRecord, Layout, NodeRecord
from veil.dev.processes import is_alive, record_of, spawn
from veil.dev.steps import Steps
from veil.errors import ConfigInvalid, NodeUnavailable, NotFound
from veil.identity import Identity, peer_id_text
from veil.runtime.containerd.driver import ContainerdRuntime
from veil.runtime.daemon import PrivateContainerd, available
from veil.runtime.images import build_busybox
from veil.types import Address, Secret
from veil.wire.nodes import prove_possession
from veil.wire.objects import object_id

CONTAINERD_NAMESPACE = "veil"
FUNDS_ETHER = 1000
SUBNETS_FROM = 64
"""Containers of development clusters have addresses from 10.64.0.0 to 10.127.255.255."""

READY_TIMEOUT_S = 120.0
POLL_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be brought up."""

    nodes: int
    runtime: str
    capture: bool = False


@dataclass(slots=True)
class _Member:
    """A node being set up."""

    name: str
    identity: Identity
    operator: LocalSigner
    directory: Path


async def up(layout: Layout, plan: Plan, steps: Steps) -> None:
    """Bring a cluster up in ``layout``. Raises ConfigInvalid when one is there, or when this machine cannot run it."""
    _check(layout, plan, steps)
    record = ClusterRecord(runtime=plan.runtime)
    layout.root.mkdir(parents=True, exist_ok=True)
    layout.save(record)
    members = [_new_member(layout, index) for index in range(1, plan.nodes + 1)]
    record.nodes = [
        NodeRecord(
            name=member.name,
            peer_id=peer_id_text(member.identity.peer_id),
            operator=member.operator.address,
            directory=str(member.directory),
        )
        for member in members
    ]
    ceremony = asyncio.create_task(run_dev_ceremony([member.identity.peer_id for member in members]))
    try:
        with steps.step("chain and registry"):
            admin = await _chain(layout, record, members)
        if plan.runtime == "containerd":
            with steps.step(f"containerd for each of {plan.nodes} nodes, with the busybox image"):
                await _containerds(layout, record, members)
        with steps.step("nodes registered with proof of possession, approved, started"):
            await _register(record, members, admin)
            for member in members:
                _start_node(layout, record, plan, member)
        with steps.step("key ceremony: keys made, shares sealed to the nodes, secret destroyed, epoch published"):
            await publish_epoch(await ceremony, admin, blobs=members[0].directory / "blobs")
        await admin.close()
    except BaseException:
        ceremony.cancel()
        raise
    for member in members:
        with steps.step(f"{member.name} ready"):
            await _wait_ready(record, member)
    with steps.step("namespace default, home node node-1"):
        await _namespace(record, members)
    _kubeconfig(layout, members[0])
    _say_how_to_go_on(layout, steps)


def _say_how_to_go_on(layout: Layout, steps: Steps) -> None:
    """Which kubeconfig `veil` needs is told only where it would not find the cluster by itself."""
    default = Path("~/.veil/config").expanduser()
    if not default.exists() or default.resolve() != layout.kubeconfig.resolve():
        steps.note(f"export VEIL_KUBECONFIG={layout.kubeconfig}", soft_wrap=True)
    steps.note(f"try `veil get nodes`, or kubectl --kubeconfig {layout.kubeconfig} get nodes", soft_wrap=True)


def _check(layout: Layout, plan: Plan, steps: Steps) -> None:
    layout.check()
    known = layout.load()
    if known is not None:
        living = sum(is_alive(process) for process in known.processes)
        raise ConfigInvalid(
            f"a cluster is already in {layout.root} ({living} processes running)",
            hint=f"see it with `veil dev status --dir {layout.root}`, remove it with `veil dev down`, or give --replace",
        )
    if layout.root.exists() and any(layout.root.iterdir()):
        raise ConfigInvalid(
            f"{layout.root} is not empty, and `veil dev down` would remove it with everything in it",
            hint="give a directory of its own with --dir",
        )
    if plan.runtime == "containerd" and (why := available()):
        raise ConfigInvalid(
            f"containerd cannot run here: {why}",
            hint="run as root, or try `--runtime process` (plain processes, nothing isolated)",
        )
    if plan.runtime == "process":
        steps.note(
            "NOT ISOLATED: containers are plain processes of this machine, with your rights. For trying out only.",
            style="bold red",
        )


def _new_member(layout: Layout, index: int) -> _Member:
    name = f"node-{index}"
    directory = layout.node(name)
    directory.mkdir(parents=True, mode=0o700)
    identity = Identity.generate()
    identity.save(directory / "peer.key")
    operator = LocalSigner(Secret(os.urandom(32)))
    operator.save(directory / "operator.key")
    return _Member(name, identity, operator, directory)


async def _chain(layout: Layout, record: ClusterRecord, members: list[_Member]) -> RegistryChain:
    chain = DevChain(layout.chain)
    await chain.start()
    record.rpc_url = chain.rpc_url
    record.processes.append(record_of("chain", chain.pid))
    layout.save(record)
    signer = LocalSigner(Secret(os.urandom(32)))
    signer.save(layout.root / "admin.key")
    for account in [signer.address, *(member.operator.address for member in members)]:
        await chain.fund(account, FUNDS_ETHER)
    contract, block = await deploy_registry(chain.rpc_url, signer, signer.address)
    record.contract, record.contract_block = contract, block
    layout.save(record)
    admin = RegistryChain(chain.rpc_url, contract, signer)
    await admin.start()
    return admin


def _containerd(layout: Layout, member: _Member) -> PrivateContainerd:
    return PrivateContainerd(layout.containerd(member.name), member.directory / "containerd.log")


async def _containerds(layout: Layout, record: ClusterRecord, members: list[_Member]) -> None:
    layout.images.mkdir(exist_ok=True)
    archive = layout.images / "busybox.tar"
    image = await asyncio.to_thread(build_busybox, archive)

    async def start(member: _Member) -> None:
        daemon = _containerd(layout, member)
        pid = await daemon.start()
        record.processes.append(record_of(f"{member.name}/containerd", pid))
        layout.save(record)
        runtime = ContainerdRuntime(daemon.socket, namespace=CONTAINERD_NAMESPACE, snapshotter=daemon.snapshotter)
        await runtime.start_driver()
        await runtime.import_image(image, archive)
        await runtime.close()

    await asyncio.gather(*(start(member) for member in members))


async def _register(record: ClusterRecord, members: list[_Member], admin: RegistryChain) -> None:
    async def register(member: _Member) -> None:
        chain = RegistryChain(record.rpc_url, Address(record.contract), member.operator)
        await chain.start()
        proof = prove_possession(member.identity, chain.cluster, member.operator.address)
        await chain.register_node_with_proof(member.identity.peer_id, member.operator.address, proof)
        await chain.close()

    await asyncio.gather(*(register(member) for member in members))
    for member in members:
        await admin.approve_node(member.identity.peer_id)


def _subnet(directory: Path) -> IPv4Network:
    """Another one for each node's directory: the nodes are on one machine, and maybe other clusters too."""
    first, second = hashlib.sha256(bytes(directory.resolve())).digest()[:2]
    return IPv4Network(f"10.{SUBNETS_FROM + first % SUBNETS_FROM}.{second}.0/24")


def _start_node(layout: Layout, record: ClusterRecord, plan: Plan, member: _Member) -> None:
    settings = {
        "VEIL_NODE_NAME": member.name,
        "VEIL_NODE_PEERID": peer_id_text(member.identity.peer_id),
        "VEIL_CHAIN_RPC": record.rpc_url,
        "VEIL_CONTRACT_ADDRESS": record.contract,
        "VEIL_CONTRACT_BLOCK": str(record.contract_block),
        "VEIL_RUNTIME": plan.runtime,
        "VEIL_CAPACITY_SHARE": f"{1 / plan.nodes:.4f}",
        "VEIL_EVALUATOR_THREADS": str(max(1, (os.cpu_count() or 1) // plan.nodes)),
        "VEIL_PRESET": "dev",
        "VEIL_FINALITY": "latest",
    }
    if plan.runtime == "containerd":
        daemon = _containerd(layout, member)
        settings |= {
            "VEIL_CONTAINERD_SOCKET": str(daemon.socket),
            "VEIL_CONTAINERD_NAMESPACE": CONTAINERD_NAMESPACE,
            "VEIL_CONTAINERD_SNAPSHOTTER": daemon.snapshotter,
            "VEIL_RUNC_ROOT": str(daemon.runc_root),
            "VEIL_CGROUP_PARENT": daemon.cgroup_parent,
            "VEIL_NETWORK_SUBNET": str(_subnet(member.directory)),
        }
    if plan.capture:
        settings["VEIL_MESH_CAPTURE"] = str(member.directory / "capture.bin")
    write_settings(member.directory, settings)
    start_node(layout, record, member.name)


def start_node(layout: Layout, record: ClusterRecord, name: str) -> None:
    """Start (again) one node process of the cluster."""
    command = [sys.executable, "-m", "veil", "node", "run", "--dir", str(layout.node(name))]
    record.processes = [process for process in record.processes if process.role != f"{name}/node"]
    record.processes.append(spawn(f"{name}/node", command, log=layout.node(name) / "node.log"))
    layout.save(record)


async def _wait_ready(record: ClusterRecord, member: _Member) -> None:
    """Raises NodeUnavailable with the conditions that are not met."""
    missing = "the API does not answer"
    deadline = asyncio.get_running_loop().time() + READY_TIMEOUT_S
    process = next(process for process in record.processes if process.role == f"{member.name}/node")
    async with _api(member) as api:
        while asyncio.get_running_loop().time() < deadline:
            if not is_alive(process):
                raise NodeUnavailable(f"{member.name} ended", hint=f"see {member.directory / 'node.log'}")
            try:
                node = await api.get(NODES, member.name)
                conditions = node.get("status", {}).get("conditions", [])
                unmet = [entry for entry in conditions if entry["status"] != "True"]
                if len(conditions) > 1 and not unmet:
                    return
                missing = "; ".join(f"{entry['type']}: {entry['reason']} {entry['message']}" for entry in unmet) or missing
            except (NodeUnavailable, NotFound):
                pass
            await asyncio.sleep(POLL_S)
    raise NodeUnavailable(
        f"{member.name} is not ready after {READY_TIMEOUT_S:.0f} s: {missing}", hint=f"see {member.directory / 'node.log'}"
    )


async def _namespace(record: ClusterRecord, members: list[_Member]) -> None:
    home = members[0]
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "default"},
        "spec": {"homePeers": [peer_id_text(home.identity.peer_id)]},
    }
    async with _api(home) as api:
        await api.create(CORE_NAMESPACES, namespace)
    chain = RegistryChain(record.rpc_url, Address(record.contract), home.operator)
    await chain.start()
    half = object_id("default", "")[:16]
    for other in members[1:]:
        await chain.set_access(half, other.operator.address, Right.WRITE)
    await chain.close()


def _api(member: _Member) -> ApiClient:
    return ApiClient(KubeConfig(server=f"unix://{member.directory / 'api.sock'}"))


def _kubeconfig(layout: Layout, member: _Member) -> None:
    """The cluster's own kubeconfig, and the user's default one when there is none or it is another development cluster's."""
    text = (member.directory / "api" / "kubeconfig").read_text()
    layout.kubeconfig.touch(mode=0o600)
    layout.kubeconfig.write_text(text)
    default = Path("~/.veil/config").expanduser()
    if not default.exists() or (default.is_symlink() and Layout(default.resolve().parent).record.exists()):
        default.parent.mkdir(parents=True, exist_ok=True)
        default.unlink(missing_ok=True)
        default.symlink_to(layout.kubeconfig)
