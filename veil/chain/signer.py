"""Who signs transactions: a key in this process, or anything else that has an address and signs."""

import os
from pathlib import Path
from typing import Any, Protocol

from eth_account import Account

from veil.errors import ConfigInvalid
from veil.types import Address, Secret


class Signer(Protocol):
    """One secp256k1 account. Asynchronous, because the key may be elsewhere."""

    address: Address

    async def sign_transaction(self, transaction: dict[str, Any]) -> bytes:
        """The raw signed transaction, ready to be sent."""
        ...

    async def sign_typed(self, message: dict[str, Any]) -> bytes:
        """65 bytes (r, s, v with v 27 or 28) over ``message``, an EIP-712 message with its types and domain."""
        ...


class LocalSigner:
    """A key in memory."""

    def __init__(self, key: Secret) -> None:
        try:
            self._account = Account.from_key(key.reveal())
        except (ValueError, TypeError) as error:
            raise ConfigInvalid("not a secp256k1 key", hint="32 bytes, 64 hexadecimal digits") from error
        self.address = Address(self._account.address)

    @classmethod
    def generate(cls) -> "LocalSigner":
        return cls(Secret(os.urandom(32)))

    @classmethod
    def load(cls, path: Path) -> "LocalSigner":
        """The key in ``path`` (64 hexadecimal digits, 0x allowed, readable by its owner only). Raises ConfigInvalid."""
        try:
            text = private_text(path).strip().removeprefix("0x")
            key = Secret(bytes.fromhex(text))
        except (OSError, ValueError) as error:
            raise ConfigInvalid(f"{path}: not an operator key: {type(error).__name__}", hint="64 hexadecimal digits") from error
        return cls(key)

    def save(self, path: Path) -> None:
        """Write the key, readable by its owner only. Never overwrites."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(bytes(self._account.key).hex() + "\n")

    def encrypted(self, passphrase: str) -> dict[str, Any]:
        """The key as an Ethereum keystore (version 3, scrypt)."""
        return dict(Account.encrypt(self._account.key, passphrase))

    async def sign_transaction(self, transaction: dict[str, Any]) -> bytes:
        return bytes(self._account.sign_transaction(transaction).raw_transaction)

    async def sign_typed(self, message: dict[str, Any]) -> bytes:
        return bytes(self._account.sign_typed_data(full_message=message).signature)


def private_text(path: Path) -> str:
    """What is in ``path``, which its owner alone may read. Raises ConfigInvalid, OSError."""
    if path.stat().st_mode & 0o077:
        raise ConfigInvalid(f"{path}: others may read this key", hint=f"chmod 600 {path}")
    return path.read_text()
