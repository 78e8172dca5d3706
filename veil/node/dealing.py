"""A whole key ceremony, from its plan to the files that are to be published."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from veil.errors import ConfigInvalid
from veil.fhe.ceremony import hold_ceremony
from veil.fhe.probe import Reachable
from veil.node.committee import Committee, agree
from veil.node.epoch_files import check_empty, save_epoch
from veil.node.keyplan import KeyPlan
from veil.node.publication import publication
from veil.store.projection import Projection
from veil.types import Digest, Epoch, PeerId
from veil.wire.codec import digest
from veil.wire.nodes import KeyEpoch


class Progress(Protocol):
    """Who is told what is under way (:class:`veil.dev.steps.Steps`)."""

    def step(self, text: str) -> AbstractContextManager[None]: ...


@dataclass(frozen=True, slots=True)
class Dealt:
    """What a ceremony made."""

    epoch: KeyEpoch
    digest: Digest
    abstaining: tuple[PeerId, ...]
    """Members whose evaluators do not reach the epoch's determinism class: they can decrypt nothing."""
    size_bytes: int


def next_number(projection: Projection, wanted: int | None) -> Epoch:
    """``wanted``, or one more than the registry's last. Raises ConfigInvalid for a number that is not over the last."""
    last = max((row.epoch for row in projection.epochs()), default=0)
    if wanted is not None and wanted <= last:
        raise ConfigInvalid(f"epoch {wanted} is not over the registry's last, {last}", hint="leave out --epoch for the next one")
    return Epoch(wanted if wanted is not None else last + 1)


async def hold(
    plan: KeyPlan, committee: Committee, number: Epoch, *, dealer: Reachable, directory: Path, progress: Progress
) -> Dealt:
    """Check the committee, deal, seal, write. Nothing is written unless all of it worked.

    Raises ConfigInvalid for what the plan or the committee cannot be, FheUnavailable, DeadlineExceeded.
    """
    plan = plan.for_committee(len(committee.peers))
    check_empty(directory)
    agreement = agree(committee, dealer, needed=1 if plan.mode == "designated" else plan.threshold + 1)
    with progress.step(f"epoch {number}: circuits compiled, keys generated, shares dealt, the secret destroyed"):
        result = await hold_ceremony(
            number,
            members=len(committee.peers),
            threshold=plan.threshold,
            circuits=plan.circuits,
            parameters=plan.parameters,
            encoding=plan.encoding,
        )
    with progress.step(f"shares sealed to {len(committee.peers)} members, everything written to {directory}"):
        epoch, blobs = publication(result, committee.peers, mode=plan.mode)
        save_epoch(directory, epoch, blobs)
    return Dealt(epoch, digest(epoch), agreement.abstaining, sum(map(len, blobs.values())))
