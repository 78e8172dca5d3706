"""From what a person names as their key to a :class:`~veil.chain.signer.Signer`.

An Ethereum keystore (JSON, encrypted, as geth, foundry and wallets write it), a file with the raw key (for development), or
a signing server as ``URL#ADDRESS``.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eth_account import Account

from veil.chain.remote_signer import remote
from veil.chain.signer import LocalSigner, Signer, private_text
from veil.errors import ConfigInvalid, Forbidden
from veil.types import Secret

RAW_KEY = "VEIL_OPERATOR_KEY"
"""The environment variable with a raw key, for development: others on a machine may read a process's environment."""


def open_signer(where: Path | str, *, passphrase_file: Path | None = None, ask: Callable[[str], str] | None = None) -> Signer:
    """The signer that ``where`` (a file, or ``URL#ADDRESS``) means.

    An encrypted key's passphrase is in ``passphrase_file``; without one ``ask`` is called with a question.

    Raises ConfigInvalid, Forbidden (wrong passphrase).
    """
    if isinstance(where, str) and where.startswith(("http://", "https://")):
        return remote(where)
    path = Path(where)
    try:
        text = private_text(path)
    except OSError as error:
        raise ConfigInvalid(f"{path}: no key can be read: {error.strerror or error}", hint="name one with --keystore") from error
    if not text.lstrip().startswith("{"):
        return LocalSigner.load(path)
    try:
        keystore = json.loads(text)
    except ValueError as error:
        raise ConfigInvalid(f"{path}: neither a raw key nor a JSON keystore: {error}", hint="export it again") from error
    return _decrypted(path, keystore, _passphrase(path, passphrase_file, ask))


def signer_of_environment() -> Signer | None:
    """The raw key in the environment, if there is one. Raises ConfigInvalid."""
    text = os.environ.get(RAW_KEY, "")
    if not text:
        return None
    try:
        return LocalSigner(Secret(bytes.fromhex(text.removeprefix("0x"))))
    except ValueError as error:
        raise ConfigInvalid(f"{RAW_KEY}: not a secp256k1 key", hint="64 hexadecimal digits") from error


def save_keystore(signer: LocalSigner, path: Path, passphrase: str) -> None:
    """Write ``signer``'s key encrypted (scrypt), readable by its owner only. Never overwrites."""
    text = json.dumps(signer.encrypted(passphrase))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text + "\n")


def _passphrase(path: Path, file: Path | None, ask: Callable[[str], str] | None) -> str:
    if file is not None:
        try:
            return private_text(file).rstrip("\n")
        except OSError as error:
            raise ConfigInvalid(
                f"{file}: no passphrase can be read: {error.strerror or error}", hint="name another file"
            ) from error
    if ask is None:
        raise ConfigInvalid(f"{path} is encrypted", hint="set VEIL_KEYSTORE_PASSPHRASE_FILE to a file with its passphrase")
    return ask(f"Passphrase of {path}")


def _decrypted(path: Path, keystore: dict[str, Any], passphrase: str) -> LocalSigner:
    try:
        return LocalSigner(Secret(bytes(Account.decrypt(keystore, passphrase))))
    except ValueError as error:
        if "MAC" in str(error):
            raise Forbidden(f"{path}: wrong passphrase", hint="try again; nobody can recover a forgotten one") from error
        raise ConfigInvalid(f"{path}: not an Ethereum keystore: {error}", hint="version 3, as geth writes it") from error
    except (KeyError, TypeError, NotImplementedError) as error:
        raise ConfigInvalid(f"{path}: not an Ethereum keystore: {error}", hint="version 3, as geth writes it") from error
