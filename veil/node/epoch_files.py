"""What a ceremony leaves behind: a directory that holds a key epoch's blobs, and which of them is the epoch itself.

Nothing in it is secret: shares are sealed to their members, the key is gone. It can be copied to any machine, and is
published from one whose node then has all blobs.
"""

from collections.abc import Mapping
from pathlib import Path

from veil.errors import ConfigInvalid, NotFound, Untrusted
from veil.mesh.blobs import BlobStore
from veil.node.publication import material_digests
from veil.types import Digest
from veil.wire.codec import decode, digest
from veil.wire.nodes import KeyEpoch

EPOCH_FILE = "key-epoch"
BLOBS = "blobs"


def check_empty(directory: Path) -> None:
    """Raises ConfigInvalid when something is there that an epoch's files would be mixed with."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ConfigInvalid(f"{directory} is there already", hint="name a new directory with --out")


def save_epoch(directory: Path, epoch: KeyEpoch, blobs: Mapping[Digest, bytes]) -> None:
    """Write ``blobs`` (the epoch is one of them). What was written in part has no epoch file."""
    check_empty(directory)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    store = BlobStore(directory / BLOBS)
    for content in blobs.values():
        store.put(content)
    (directory / EPOCH_FILE).write_text(digest(epoch).hex() + "\n")


def load_epoch(directory: Path) -> tuple[KeyEpoch, BlobStore]:
    """The epoch in ``directory``, complete and verified by digest, with the store of its blobs.

    Raises ConfigInvalid when it is none, or not whole.
    """
    try:
        named = Digest(bytes.fromhex((directory / EPOCH_FILE).read_text().strip()))
    except (OSError, ValueError) as error:
        raise ConfigInvalid(f"{directory} is not what a ceremony left", hint="give the ceremony's --out directory") from error
    store = BlobStore(directory / BLOBS)
    try:
        epoch = decode(store.read(named), KeyEpoch)
        for wanted in blobs_of(epoch):
            store.read(wanted)
    except (NotFound, Untrusted) as error:
        raise ConfigInvalid(f"{directory} is not whole: {error.message}", hint="copy it again, or hold a new ceremony") from error
    return epoch, store


def blobs_of(epoch: KeyEpoch) -> list[Digest]:
    """Every blob that an epoch names: public material and sealed shares."""
    return [*material_digests(epoch), *(Digest(share) for share in epoch.shares)]


def hand_over(directory: Path, store: BlobStore) -> KeyEpoch:
    """Put an epoch's blobs where a node finds them, and other nodes through it. Raises ConfigInvalid."""
    epoch, blobs = load_epoch(directory)
    for wanted in [*blobs_of(epoch), digest(epoch)]:
        store.put(blobs.read(wanted))
    return epoch
