"""A node's and a user's keys: who signs, who can be sealed to.

One Ed25519 key is the libp2p identity and the registry's ``bytes32 peerID``; the X25519 key for sealing is derived from it
(RFC 7748 birational map, libsodium ``crypto_sign_ed25519_pk_to_curve25519``). The operator's secp256k1 key pays for
transactions and is a separate thing (:mod:`veil.chain.signer`).
"""

import hashlib
import os
from pathlib import Path

import base58
from nacl.bindings import crypto_sign_ed25519_pk_to_curve25519
from nacl.exceptions import BadSignatureError, CryptoError
from nacl.public import PublicKey, SealedBox
from nacl.signing import SigningKey, VerifyKey

from veil.errors import ConfigInvalid, SignatureInvalid, Untrusted
from veil.types import Address, ClusterId, PeerId, Secret

_ED25519_MULTIHASH = bytes.fromhex("002408011220")
"""What libp2p puts before the raw key: identity multihash of a protobuf-encoded Ed25519 public key."""


def peer_id_text(peer: PeerId) -> str:
    """The libp2p form, ``12D3KooW…``."""
    return base58.b58encode(_ED25519_MULTIHASH + peer).decode()


def parse_peer_id(text: str) -> PeerId:
    """The peer of a libp2p text form. Raises ConfigInvalid when it is not an Ed25519 peer ID."""
    try:
        raw = base58.b58decode(text)
    except ValueError as error:
        raise ConfigInvalid(f"peer ID {text!r} is not base58", hint="expected the form 12D3KooW…") from error
    if len(raw) != 38 or not raw.startswith(_ED25519_MULTIHASH):
        raise ConfigInvalid(f"peer ID {text!r} is not an Ed25519 peer ID", hint="expected the form 12D3KooW…")
    return PeerId(raw[6:])


def cluster_id(chain_id: int, registry: Address) -> ClusterId:
    """The domain of every signature: which chain, which registry."""
    return ClusterId(hashlib.sha256(b"veil/cluster.1" + chain_id.to_bytes(32, "big") + bytes.fromhex(registry[2:])).digest())


class Identity:
    """This node's Ed25519 key. Signs and opens; never shows its seed but to :meth:`save`."""

    def __init__(self, seed: Secret) -> None:
        self._seed = seed
        self._signing = SigningKey(seed.reveal())
        self._opening = SealedBox(self._signing.to_curve25519_private_key())
        self.peer_id = PeerId(bytes(self._signing.verify_key))

    @classmethod
    def generate(cls) -> "Identity":
        return cls(Secret(os.urandom(32)))

    @classmethod
    def load(cls, path: Path) -> "Identity":
        """The key in ``path`` (64 hexadecimal digits). Raises ConfigInvalid."""
        try:
            return cls(Secret(bytes.fromhex(path.read_text().strip())))
        except (OSError, ValueError) as error:
            raise ConfigInvalid(f"{path}: not a node key: {error}", hint="make one with `veil key generate`") from error

    def save(self, path: Path) -> None:
        """Write the seed, readable by its owner only. Never overwrites."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(self._seed.reveal().hex() + "\n")

    @property
    def seed(self) -> Secret:
        """For the libp2p host, which needs the private key itself."""
        return self._seed

    def sign(self, data: bytes) -> bytes:
        """64 bytes. Callers put the cluster and a message tag into ``data`` (:mod:`veil.wire.signed`)."""
        return self._signing.sign(data).signature

    def open(self, sealed: bytes) -> bytes:
        """The plaintext of :func:`seal`. Raises Untrusted when it was not sealed to this node."""
        try:
            return self._opening.decrypt(sealed)
        except CryptoError as error:
            raise Untrusted("a sealed message that this node's key does not open") from error


def verify(peer: PeerId, data: bytes, signature: bytes) -> None:
    """Raises SignatureInvalid unless ``signature`` is ``peer``'s over ``data``."""
    try:
        VerifyKey(peer).verify(data, signature)
    except (BadSignatureError, ValueError, TypeError) as error:
        raise SignatureInvalid(f"not a signature of {peer_id_text(peer)}") from error


def seal(peer: PeerId, plaintext: bytes) -> bytes:
    """An anonymous sealed box (X25519, XSalsa20-Poly1305) that only ``peer`` opens; 48 bytes longer than ``plaintext``."""
    try:
        return SealedBox(PublicKey(crypto_sign_ed25519_pk_to_curve25519(peer))).encrypt(plaintext)
    except (CryptoError, ValueError, RuntimeError) as error:
        raise Untrusted(f"{peer.hex()} is not a key that can be sealed to") from error
