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

    async def sign_digest(self, digest: bytes) -> bytes:
        """65 bytes (r, s, v with v 27 or 28) over 32 that the caller has domain-separated (EIP-712)."""
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
            mode = path.stat().st_mode & 0o077
            text = path.read_text().strip().removeprefix("0x")
            key = Secret(bytes.fromhex(text))
        except (OSError, ValueError) as error:
            raise ConfigInvalid(f"{path}: not an operator key: {type(error).__name__}", hint="64 hexadecimal digits") from error
        if mode:
            raise ConfigInvalid(f"{path}: others may read this key", hint=f"chmod 600 {path}")
        return cls(key)

    def save(self, path: Path) -> None:
        """Write the key, readable by its owner only. Never overwrites."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(bytes(self._account.key).hex() + "\n")

    async def sign_transaction(self, transaction: dict[str, Any]) -> bytes:
        return bytes(self._account.sign_transaction(transaction).raw_transaction)

    async def sign_digest(self, digest: bytes) -> bytes:
        return bytes(self._account.unsafe_sign_hash(digest).signature)
