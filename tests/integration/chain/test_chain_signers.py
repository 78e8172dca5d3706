"""Keys where people keep them: encrypted keystores, raw files, the environment, a signing server (anvil's own accounts)."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data

from veil.chain.binding import mark_down_message
from veil.chain.client import RegistryChain
from veil.chain.deploy import deploy_registry
from veil.chain.devchain import find_anvil
from veil.chain.keystore import RAW_KEY, open_signer, save_keystore, signer_of_environment
from veil.chain.remote_signer import RemoteSigner
from veil.chain.rpc import Rpc
from veil.chain.signer import LocalSigner
from veil.errors import ChainUnavailable, ConfigInvalid, Forbidden, SignatureInvalid
from veil.types import Address, Generation, PeerId
from veil.wire.objects import object_id

pytestmark = pytest.mark.chain
ACCUSATION = mark_down_message(31337, Address("0x" + "11" * 20), PeerId(b"\1" * 32), 4)
GETH_KEYSTORE = """{"address":"008aeeda4d805471df9b2a5b0f38a0c3bcba786b","crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":
"83dbcc02d8ccb40e466191a123791e0e"},"ciphertext":"d172bf743a674da9cdad04534d56926ef8358534d458fffccd4e6ad2fbde479c","kdf":
"scrypt","kdfparams":{"dklen":32,"n":262144,"p":8,"r":1,"salt":
"ab0c7876052600dd703518d6fc3fe8984592145b591fc8fb5c6d43190334ba19"},"mac":
"2103ac29920d71da29f15d75b4a16dbe95cfd7ff8faea1056c33131d846e3097"},"id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","version":3}"""
"""The test vector of the Web3 Secret Storage definition; its passphrase is "testpassword"."""


@dataclass
class Server:
    url: str
    address: Address


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """anvil with an account of its own: it answers eth_signTransaction and eth_signTypedData_v4 as signing servers do."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    child = await asyncio.create_subprocess_exec(find_anvil(), "--port", str(port), "--accounts", "1", "--silent", cwd=tmp_path)
    rpc = Rpc(f"http://127.0.0.1:{port}")
    try:
        async with asyncio.timeout(20):
            while True:
                try:
                    accounts = await rpc.call(list[str], "eth_accounts")
                    break
                except ChainUnavailable:
                    await asyncio.sleep(0.05)
        yield Server(rpc.url, Address(accounts[0]))
    finally:
        await rpc.close()
        child.terminate()
        await child.wait()


async def test_a_signing_server_writes_and_accuses(server: Server) -> None:
    signer = open_signer(f"{server.url}#{server.address}")
    assert isinstance(signer, RemoteSigner)
    registry, block = await deploy_registry(server.url, signer, signer.address)
    chain = RegistryChain(server.url, registry, signer, deploy_block=block)
    await chain.start()
    assert await chain.apply_object(1, object_id("default", ""), Generation(0), b"x") == 1
    signature = await chain.sign_mark_down(PeerId(b"\1" * 32), 4)
    message = mark_down_message(31337, registry, PeerId(b"\1" * 32), 4)
    assert Account.recover_message(encode_typed_data(full_message=message), signature=signature).lower() == signer.address.lower()
    await chain.close()


async def test_a_signing_server_with_other_keys_is_refused(server: Server) -> None:
    class Other(RemoteSigner):
        async def _ask(self, method: str, *params: Any) -> str:
            changed = [{**params[0], "from": server.address, **self.changes}] if method == "eth_signTransaction" else params
            return await super()._ask(method, *changed)

        changes: dict[str, Any] = {}

    asked = {"type": 2, "chainId": 31337, "nonce": 0, "gas": 21_000, "maxFeePerGas": 10**9, "maxPriorityFeePerGas": 1}
    asked |= {"to": server.address, "value": 0, "data": b"\1"}
    with pytest.raises(SignatureInvalid, match="signed as"):
        await Other(server.url, Address("0x" + "11" * 20)).sign_transaction({**asked, "from": "0x" + "11" * 20})
    twisted = Other(server.url, server.address)
    assert await twisted.sign_transaction({**asked, "from": server.address})
    for changes, name in (({"to": "0x" + "77" * 20}, "to"), ({"value": "0x1"}, "value"), ({"data": "0x02"}, "data")):
        twisted.changes = changes
        with pytest.raises(SignatureInvalid, match=f"with {name} changed"):
            await twisted.sign_transaction({**asked, "from": server.address})
    with pytest.raises(ChainUnavailable):
        await RemoteSigner(server.url, Address("0x" + "11" * 20)).sign_typed(ACCUSATION)
    with pytest.raises(ChainUnavailable, match="does not sign"):
        await RemoteSigner("http://127.0.0.1:9", server.address).sign_typed(ACCUSATION)


def test_a_server_needs_an_account() -> None:
    for wrong in ("http://127.0.0.1:9", "http://127.0.0.1:9#0x12", "http://127.0.0.1:9#me"):
        with pytest.raises(ConfigInvalid, match="which account"):
            open_signer(wrong)


def private(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_a_keystore_as_others_write_it(tmp_path: Path) -> None:
    keystore = private(tmp_path / "geth.json", GETH_KEYSTORE)
    questions: list[str] = []

    def ask(question: str) -> str:
        questions.append(question)
        return "testpassword"

    assert open_signer(keystore, ask=ask).address.lower() == "0x008aeeda4d805471df9b2a5b0f38a0c3bcba786b"
    assert questions == [f"Passphrase of {keystore}"]
    passphrase = private(tmp_path / "passphrase", "testpassword\n")
    assert open_signer(keystore, passphrase_file=passphrase).address.lower().endswith("786b")
    with pytest.raises(Forbidden, match="wrong passphrase"):
        open_signer(keystore, ask=lambda _: "another")
    with pytest.raises(ConfigInvalid, match="is encrypted"):
        open_signer(keystore)
    passphrase.chmod(0o644)
    with pytest.raises(ConfigInvalid, match="others may read"):
        open_signer(keystore, passphrase_file=passphrase)
    with pytest.raises(ConfigInvalid, match="no passphrase can be read"):
        open_signer(keystore, passphrase_file=tmp_path / "nothing")


def test_what_is_no_keystore(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="no key can be read"):
        open_signer(tmp_path / "nothing")
    for text in ("{", '{"version": 3}', '{"version": 1, "crypto": {}}', '{"a": 1}'):
        with pytest.raises(ConfigInvalid, match="keystore"):
            open_signer(private(tmp_path / "wrong.json", text), ask=lambda _: "x")
    keystore = private(tmp_path / "open.json", GETH_KEYSTORE)
    keystore.chmod(0o644)
    with pytest.raises(ConfigInvalid, match="others may read"):
        open_signer(keystore, ask=lambda _: "testpassword")


def test_a_written_keystore_is_read_again(tmp_path: Path) -> None:
    signer, path = LocalSigner.generate(), tmp_path / "operator.json"
    save_keystore(signer, path, "a passphrase")
    assert path.stat().st_mode & 0o777 == 0o600
    assert open_signer(path, ask=lambda _: "a passphrase").address == signer.address
    with pytest.raises(FileExistsError):
        save_keystore(signer, path, "another")


def test_raw_keys_in_a_file_and_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signer = LocalSigner.generate()
    signer.save(tmp_path / "operator.key")
    assert open_signer(tmp_path / "operator.key").address == signer.address
    assert signer_of_environment() is None
    monkeypatch.setenv(RAW_KEY, "0x" + (tmp_path / "operator.key").read_text().strip())
    found = signer_of_environment()
    assert found is not None
    assert found.address == signer.address
    monkeypatch.setenv(RAW_KEY, "0x12")
    with pytest.raises(ConfigInvalid):
        signer_of_environment()
