"""What can be found out about a node from its directory, also while it does not run: settings, keys, journal, chain, runtime.

The chain is asked directly, not through the node, so that a node that cannot read it and a chain that is away look different.
Nothing is written.
"""

import asyncio
import os
import shutil
import socket
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from veil.chain.rpc import Call, Header, Rpc
from veil.cli.node_checks import Finding, Level
from veil.config import NodeSettings, load_settings
from veil.errors import ChainUnavailable, ConfigInvalid, VeilError
from veil.identity import Identity, peer_id_text
from veil.node.disk import FREE_MIN_BYTES
from veil.node.following import CLOCK_OFF_MAX_S, SILENCE_MAX_S

SECRET_FILES = ("peer.key", "operator.key")
CONNECT_TIMEOUT_S = 2.0


def findings(directory: Path, now_s: float) -> Iterator[Finding]:
    """Never raises a VeilError: what is wrong is a finding. ``now_s``: this machine's clock, Unix seconds."""
    try:
        settings = load_settings(directory)
    except ConfigInvalid as error:
        yield Finding("settings", Level.FAIL, error.message.replace("\n", "; "), error.hint)
        return
    yield Finding("settings", Level.OK, f"{directory}: node {settings.name}")
    yield from _keys(settings)
    yield from _journal(settings)
    yield from asyncio.run(_chain(settings, now_s))
    yield from _runtime(settings)


def _keys(settings: NodeSettings) -> Iterator[Finding]:
    for name in SECRET_FILES:
        path = settings.directory / name
        if not path.exists():
            yield Finding("keys", Level.FAIL, f"{path} is missing", "restore it: a node with another key is another node")
            return
        if (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
            yield Finding("keys", Level.WARN, f"{path} can be read by others (mode {mode:o})", f"chmod 600 {path}")
            return
    try:
        said = peer_id_text(Identity.load(settings.directory / "peer.key").peer_id)
    except VeilError as error:
        yield Finding("keys", Level.FAIL, error.message, error.hint)
        return
    if settings.peer_id and settings.peer_id != said:
        text = f"VEIL_NODE_PEERID is {settings.peer_id}, the key in peer.key is {said}"
        yield Finding("keys", Level.FAIL, text, "use the directory of that node, or unset VEIL_NODE_PEERID", untrusted=True)
    else:
        yield Finding("keys", Level.OK, f"peer {said}")


def _journal(settings: NodeSettings) -> Iterator[Finding]:
    path = settings.directory / "journal.db"
    if not path.exists():
        yield Finding("journal", Level.WARN, f"{path} is not there yet", "it is made when the node first starts")
        return
    if not os.access(path, os.W_OK) or not os.access(settings.directory, os.W_OK):
        yield Finding("journal", Level.FAIL, f"{path} cannot be written", "check owner and mount of the node's directory")
        return
    if shutil.disk_usage(settings.directory).free < FREE_MIN_BYTES:
        yield Finding("journal", Level.FAIL, f"less than FREE_MIN_BYTES={FREE_MIN_BYTES} are left on its disk", "free the disk")
        return
    try:
        database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=CONNECT_TIMEOUT_S)
        try:
            found = database.execute("PRAGMA quick_check(1)").fetchone()[0]
        finally:
            database.close()
    except sqlite3.Error as error:
        found = str(error)
    if found == "ok":
        yield Finding("journal", Level.OK, "writable, and in order")
    else:
        yield Finding(
            "journal", Level.FAIL, f"{path}: {found}", "restore it, or set the node up anew with a new key", untrusted=True
        )


async def _chain(
    settings: NodeSettings, now_s: float, connect: Callable[[str], Rpc] = lambda url: Rpc(url, deadline_s=CONNECT_TIMEOUT_S)
) -> list[Finding]:
    """Whether each endpoint answers, the contract is there, blocks are fresh, and this machine's clock agrees with them."""
    found = await asyncio.gather(*(_endpoint(connect(url), settings, now_s) for url in settings.rpc_urls))
    return [finding for findings in found for finding in findings]


async def _endpoint(rpc: Rpc, settings: NodeSettings, now_s: float) -> list[Finding]:
    calls: list[Call] = [
        ("eth_chainId", []),
        ("eth_getCode", [settings.contract, "latest"]),
        ("eth_getBlockByNumber", ["latest", False]),
    ]
    try:
        chain_id, code, newest = await rpc.batch(calls)
        number, deployed, block = int(chain_id.value(str), 16), code.value(str) != "0x", newest.value(Header)
    except ChainUnavailable as error:
        return [Finding("chain", Level.FAIL, error.message, error.hint)]
    finally:
        await rpc.close()
    found = [Finding("chain", Level.OK, f"{rpc.name} answers, chain {number}, block {int(block.number, 16)}")]
    if deployed:
        found.append(Finding("contract", Level.OK, settings.contract))
    else:
        text = f"there is no contract at {settings.contract} on chain {number}"
        found.append(Finding("contract", Level.FAIL, text, "check VEIL_CONTRACT_ADDRESS and VEIL_CHAIN_RPC", untrusted=True))
    return [*found, _age(now_s - int(block.timestamp, 16))]


def _age(age_s: float) -> Finding:
    if age_s < -CLOCK_OFF_MAX_S:
        text = f"the newest block is over {CLOCK_OFF_MAX_S} s in this machine's future: its clock is behind"
        return Finding("clock", Level.FAIL, text, "set the machine's clock (NTP)")
    if age_s > SILENCE_MAX_S:
        text = f"the newest block is {age_s:.0f} s old: the endpoint lags, the chain stands still, or this clock is ahead"
        return Finding("clock", Level.FAIL, text, "compare another RPC endpoint; set the machine's clock (NTP)")
    return Finding("clock", Level.OK, "the newest block is fresh by this machine's clock")


def _runtime(settings: NodeSettings) -> Iterator[Finding]:
    if settings.runtime != "containerd":
        yield Finding("runtime", Level.WARN, f"the driver {settings.runtime} isolates nothing", "use containerd in production")
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(CONNECT_TIMEOUT_S)
        try:
            probe.connect(str(settings.containerd_socket))
        except OSError as error:
            text = f"{settings.containerd_socket}: {error.strerror or error}"
            yield Finding("runtime", Level.FAIL, text, "start containerd; check VEIL_CONTAINERD_SOCKET")
            return
    yield Finding("runtime", Level.OK, f"{settings.containerd_socket} takes connections")
