"""What happened to a workload, looked at from the outside: its leaves on chain, and what each party was given.

The chain is read by a bare ``eth_getLogs``, not through the node's own view of it.
"""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from veil.chain.logs import decode as decode_log
from veil.chain.logs import in_chain, parse
from veil.chain.ports import ChainEvent, EpochPublished, ObjectApplied, PlacementsAppended
from veil.chain.rpc import LogEntry, Rpc
from veil.client.api import ApiClient
from veil.client.kinds import INSTANCES
from veil.client.kubeconfig import KubeConfig
from veil.dev.layout import ClusterRecord, Layout
from veil.errors import NotFound
from veil.fhe.encryptor import PublicKeyEncryptor
from veil.fhe.ports import Figures
from veil.mesh.blobs import BlobStore
from veil.types import Digest
from veil.wire.codec import decode
from veil.wire.nodes import KeyEpoch
from veil.wire.objects import KINDS, DemandEnvelope, Envelope, demand_id, object_id

ZERO = Figures(cpu_milli=0, memory_bytes=0, disk_bytes=0, gpu_count=0)


async def report(layout: Layout, namespace: str, name: str) -> None:
    """Print both. Raises NotFound when there is no cluster or no such workload."""
    record = layout.load()
    if record is None or not record.nodes:
        raise NotFound(f"no cluster in {layout.root}", hint="start one with `veil dev up`")
    home = Path(record.nodes[0].directory)
    async with ApiClient(KubeConfig(server=f"unix://{home / 'api.sock'}")) as api:
        instances = [one for one in (await api.list(INSTANCES, namespace))["items"] if one["spec"]["workload"] == name]
    events = await _events(record)
    console = Console(highlight=False)
    console.print(_leaves(instances, events))
    console.print(_parties(namespace, name, events, BlobStore(home / "blobs")))


async def _events(record: ClusterRecord) -> list[tuple[int, ChainEvent]]:
    """Every event of the registry with its block."""
    rpc = Rpc(record.rpc_url)
    try:
        question = {"address": record.contract, "fromBlock": "0x0", "toBlock": "latest"}
        logs = [parse(entry) for entry in await rpc.call(list[LogEntry], "eth_getLogs", question)]
    finally:
        await rpc.close()
    return [(log.block, decode_log(log)) for log in logs if in_chain(log)]


def _leaves(instances: list[dict[str, Any]], events: list[tuple[int, ChainEvent]]) -> Table:
    """Each instance's leaf beside the append that the chain has at its place."""
    appends = {(event.shard, event.sequence): (block, event) for block, event in events if isinstance(event, PlacementsAppended)}
    table = Table(title="placement log, read with eth_getLogs", title_justify="left")
    for column in ("INSTANCE", "SHARD", "SEQ", "BLOCK", "ROOT ON CHAIN", "LEAF (SALTED)", "MATCHES"):
        table.add_column(column)
    for instance in instances:
        placed = instance.get("status", {}).get("placement")
        if not placed:
            table.add_row(instance["metadata"]["name"], "", "", "", "", "", "not placed")
            continue
        block, event = appends.get((placed["shard"], placed["sequence"]), (0, None))
        root = event.root.hex() if event else "none"
        matches = "[green]yes[/green]" if root == placed["root"] else "[red]NO[/red]"
        row = (str(placed["shard"]), str(placed["sequence"]), str(block), root[:16] + "…", placed["leaf"][:16] + "…")
        table.add_row(instance["metadata"]["name"], *row, matches)
    return table


def _parties(namespace: str, name: str, events: list[tuple[int, ChainEvent]], blobs: BlobStore) -> Table:
    """What anybody but the home node was given: ciphertexts and digests."""
    wanted = object_id(namespace, name)
    applied = [event for _, event in events if isinstance(event, ObjectApplied)]
    envelopes = [event for event in applied if event.object_id == wanted and event.kind == KINDS["Workload"]]
    if not envelopes:
        raise NotFound(f"the chain has no Workload {namespace}/{name}")
    envelope = decode(envelopes[-1].envelope, Envelope)
    epoch = _epoch(events, blobs)
    demands = [event for event in applied if event.object_id == demand_id(wanted, epoch.epoch)]
    if not demands:
        raise NotFound(f"the chain has no demand of {namespace}/{name} in epoch {epoch.epoch} yet", hint="try again in a moment")
    demand = decode(demands[-1].envelope, DemandEnvelope)
    key = PublicKeyEncryptor(blobs.read(Digest(epoch.public_key)), blobs.read(Digest(epoch.encoding)))
    table = Table(title="what each party could see", title_justify="left")
    for column in ("WHAT", "WHO", "SIZE", "DIGEST (SHA-256)"):
        table.add_column(column)

    def row(what: str, who: str, digest: bytes) -> None:
        size = f"{len(blobs.read(Digest(digest))):,} B" if digest else "–"
        table.add_row(what, who, size, f"{digest.hex()[:24]}…" if digest else "–")

    table.add_row("envelope: name, labels, replicas, digests", "everybody (chain)", f"{len(envelopes[-1].envelope)} B", "")
    row("body: image and command, no figures", "members" if envelope.body else "nobody", envelope.body)
    row("exact resources, sealed", "home node; a winner, with its offer", envelope.resources)
    row("demand, FHE ciphertext", "members, encrypted", demand.demand)
    table.add_row(
        "free capacity, FHE ciphertext", "committee, encrypted", f"{len(key.telemetry(ZERO, 0.0)):,} B", "fresh for each round"
    )
    bits = max(circuit.candidates for circuit in epoch.circuits if circuit.shape == "choose") + 1
    table.add_row("the decision", "coordinator", f"{bits} bits", f"decrypted by {epoch.threshold} of {len(epoch.committee)}")
    return table


def _epoch(events: list[tuple[int, ChainEvent]], blobs: BlobStore) -> KeyEpoch:
    digests = [event.digest for _, event in events if isinstance(event, EpochPublished)]
    if not digests:
        raise NotFound("the chain has no active key epoch", hint="see `veil dev status`")
    return decode(blobs.read(digests[-1]), KeyEpoch)
