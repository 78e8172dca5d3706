"""A committee file: who is to hold shares, and whether their evaluators can agree bit for bit.

Each member's entry is a report that its own node signed. A ceremony is refused before it begins when too few members share a
determinism class, because members of different classes can never check each other's evaluations.
"""

import base64
import binascii
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from veil.errors import ConfigInvalid, FheUnavailable, ManifestInvalid, Untrusted
from veil.fhe.probe import Reachable
from veil.identity import Identity, parse_peer_id, peer_id_text
from veil.manifest.parse import Located, load
from veil.manifest.validate import validate
from veil.types import ClusterId, Digest, PeerId
from veil.wire.codec import decode, encode
from veil.wire.nodes import ClassReport
from veil.wire.signed import Signed, open_signed, sign

_HINT = "each member's entry is what `veil key classes` prints on its machine"


@dataclass(frozen=True, slots=True)
class Committee:
    """``reports[i]`` is of the member with Shamir index i+1."""

    reports: tuple[ClassReport, ...]

    @property
    def peers(self) -> tuple[PeerId, ...]:
        return tuple(PeerId(report.peer) for report in self.reports)


def sign_report(identity: Identity, cluster: ClusterId, found: Reachable) -> str:
    """This node's own report, as it stands in a committee file."""
    report = ClassReport(peer=identity.peer_id, parameters=found.parameters, inputs=found.inputs, classes=found.classes)
    return base64.b64encode(encode(sign(identity, cluster, report))).decode()


def entry(peer: PeerId, report: str) -> str:
    """The member's lines below ``spec.members``."""
    return f"  - peer: {peer_id_text(peer)}\n    report: {report}\n"


def read_committee(path: Path, cluster: ClusterId, known: Collection[PeerId]) -> Committee:
    """The members in a file, each with its verified report; ``known`` are the registry's members.

    Raises ManifestInvalid with every error and its line, ConfigInvalid for a file that cannot be read.
    """
    try:
        documents = load(path.read_bytes(), str(path))
    except OSError as error:
        raise ConfigInvalid(f"{path} cannot be read: {error.strerror}", hint=_HINT) from error
    if len(documents) != 1:
        raise ConfigInvalid(f"{path} has {len(documents)} documents, one Committee is expected")
    return committee_of(documents[0], cluster, known)


def committee_of(located: Located, cluster: ClusterId, known: Collection[PeerId]) -> Committee:
    """See :func:`read_committee`."""
    obj = validate(located, kinds=("Committee",))
    errors, reports, seen = [], [], dict[PeerId, int]()
    for index, member in enumerate(obj["spec"]["members"]):
        where = ("spec", "members", index)
        peer = parse_peer_id(member["peer"])
        if peer in seen:
            errors.append(located.error((*where, "peer"), f"is there already, in line {seen[peer]}"))
        elif peer not in known:
            errors.append(located.error((*where, "peer"), "is not an Active or Cordoned node of the registry"))
        seen.setdefault(peer, located.line_of((*where, "peer")))
        try:
            reports.append(_report(member["report"], cluster, peer))
        except Untrusted as error:
            errors.append(located.error((*where, "report"), error.message))
    if errors:
        raise ManifestInvalid(errors, hint=_HINT)
    return Committee(tuple(reports))


def _report(text: str, cluster: ClusterId, peer: PeerId) -> ClassReport:
    try:
        signed = decode(base64.b64decode(text, validate=True), Signed)
    except (binascii.Error, ValueError) as error:
        raise Untrusted("is not base64") from error
    except Untrusted as error:
        raise Untrusted("is not a signed class report of this version") from error
    if signed.signer != peer:
        raise Untrusted(f"was signed by {peer_id_text(PeerId(signed.signer))}, not by this peer")
    try:
        report = open_signed(signed, cluster, ClassReport, by=peer)
    except Untrusted as error:
        raise Untrusted("has no valid signature for this cluster") from error
    if report.peer != peer:
        raise Untrusted("is about another peer")
    return report


@dataclass(frozen=True, slots=True)
class Agreement:
    """The class in which the epoch's known answer will be made, and the members (peers) that do not reach it."""

    known: Digest
    abstaining: tuple[PeerId, ...]


def agree(committee: Committee, dealer: Reachable, *, needed: int) -> Agreement:
    """The class that the dealer's machine and at least ``needed`` members reach.

    Raises ConfigInvalid when reports cannot be compared or no class is strong enough, FheUnavailable when the dealer's own
    class is not certain.
    """
    for report in committee.reports:
        named = peer_id_text(PeerId(report.peer))
        if report.parameters != dealer.parameters:
            raise ConfigInvalid(
                f"the report of {named} is for the parameter set {report.parameters}, the ceremony for {dealer.parameters}",
                hint=f"run `veil key classes --parameters {dealer.parameters}` on that machine",
            )
        if report.inputs != dealer.inputs:
            raise ConfigInvalid(
                f"the report of {named} is of another probe than this machine's",
                hint="install the same release of veil on all members and here, then run `veil key classes` again",
            )
    if len(dealer.classes) != 1:
        raise FheUnavailable(
            "evaluators on this machine are in one of several determinism classes by chance",
            hint="hold the ceremony on an x86-64 Linux machine with veil's pinned dependencies, like the members'",
        )
    (known,) = dealer.classes
    reached = {peer: set(report.classes) for peer, report in zip(committee.peers, committee.reports, strict=True)}
    strength = {one: sum(one in classes for classes in reached.values()) for one in set().union(*reached.values())}
    best = max(strength, key=lambda one: (strength[one], one == known))
    if strength[best] < needed:
        listed = "; ".join(f"{peer_id_text(peer)} {_short(classes)}" for peer, classes in reached.items())
        raise ConfigInvalid(
            f"at most {strength[best]} members share a determinism class, {needed} must: {listed}",
            hint="take members with the same kind of processor, or name more of them",
        )
    if strength.get(known, 0) < needed:
        raise ConfigInvalid(
            f"{strength[best]} members share a determinism class that this machine is not in, so that it cannot make their "
            "known answer",
            hint="hold the ceremony on a machine like the members'",
        )
    return Agreement(known, tuple(peer for peer, classes in reached.items() if known not in classes))


def _short(classes: Collection[bytes]) -> str:
    return "/".join(sorted(one.hex()[:8] for one in classes))
