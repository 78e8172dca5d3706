"""One tree of errors. Each leaf says whether a retry can help and which exit code the CLI ends with.

::

    VeilError
    ├── InvalidInput          exit 1   what the user gave is wrong: says what, where, what to do
    │   ├── ManifestInvalid            one or more field errors of a manifest
    │   ├── ConfigInvalid              a VEIL_* setting or a command line
    │   └── LimitExceeded              a named limit
    ├── Refused               exit 1   understood, and not done
    │   ├── NotFound
    │   ├── AlreadyExists
    │   ├── Conflict                   somebody changed it first (generation, sequence, resourceVersion)
    │   └── Forbidden
    ├── Unavailable           exit 2   a part is down: a retry can help
    │   ├── ChainUnavailable
    │   ├── MeshUnavailable
    │   ├── NodeUnavailable            the node's API
    │   ├── FheUnavailable             evaluator, keys or quorum
    │   │   └── ClassUnreachable       the evaluator here gives other bits than the epoch's
    │   ├── RuntimeUnavailable
    │   ├── StorageUnavailable         this node's disk does not take writes
    │   └── DeadlineExceeded
    ├── Untrusted             exit 3   something signed, hashed or encrypted is not what it claims
    │   ├── WireInvalid                not canonical, unknown, oversize
    │   ├── SignatureInvalid
    │   ├── DigestMismatch
    │   ├── HeadMismatch               events and head() disagree: a gap, or an RPC that lies
    │   └── CiphertextInvalid
    │       ├── PartialInvalid         one member's partial decryption is not of the asked form
    │       └── DecryptionDisputed     partial decryptions contradict each other
    └── RuntimeFailed         exit 1   a container runtime did what it was asked and failed
        ├── ImageUnavailable
        └── ContainerFailed
"""

from typing import ClassVar, NamedTuple


class VeilError(Exception):
    """The root. ``hint`` says what the reader can do next; it is printed on a line of its own.

    ``field`` names the argument that was wrong, where whoever refused could tell.
    """

    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False
    field: str = ""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def reason(self) -> str:
        """The stable identifier used in conditions and logs."""
        return type(self).__name__


class InvalidInput(VeilError):
    """What the user gave is wrong."""


class FieldError(NamedTuple):
    """One thing wrong in a manifest: where it is and what it should be."""

    path: str
    message: str
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        where = ":".join(str(part) for part in (self.file, self.line) if part)
        return ": ".join(part for part in (where, self.path, self.message) if part)


class ManifestInvalid(InvalidInput):
    """A manifest with one or more wrong fields; ``errors`` has them all, in the order of the file."""

    def __init__(self, errors: list[FieldError], *, hint: str = "") -> None:
        super().__init__("\n".join(str(error) for error in errors), hint=hint)
        self.errors = errors


class ConfigInvalid(InvalidInput):
    """A setting or an argument is wrong."""


class LimitExceeded(InvalidInput):
    """A named limit was passed."""


class Refused(VeilError):
    """Understood, and not done."""


class NotFound(Refused):
    """No such object."""


class AlreadyExists(Refused):
    """An object of that name is there already."""


class Conflict(Refused):
    """Somebody changed it first: read again, then decide."""


class Forbidden(Refused):
    """The caller may not do this."""


class Unavailable(VeilError):
    """A part is down or slow."""

    exit_code = 2
    retryable = True


class ChainUnavailable(Unavailable):
    """No RPC endpoint answers."""


class MeshUnavailable(Unavailable):
    """A peer, or the whole mesh, cannot be reached."""


class NodeUnavailable(Unavailable):
    """The node's API does not answer."""


class FheUnavailable(Unavailable):
    """The evaluator, the epoch's keys or the quorum is missing."""


class ClassUnreachable(FheUnavailable):
    """No evaluator of this machine is in one of the epoch's determinism classes."""


class RuntimeUnavailable(Unavailable):
    """The container runtime does not answer."""


class StorageUnavailable(Unavailable):
    """This node's own database does not take writes: the disk is full, gone or read-only."""


class DeadlineExceeded(Unavailable):
    """No answer in time."""


class Untrusted(VeilError):
    """Something is not what it claims to be."""

    exit_code = 3


class WireInvalid(Untrusted):
    """Bytes that are not a canonical message of a known type and version."""


class SignatureInvalid(Untrusted):
    """A signature does not verify, or is by the wrong key."""


class DigestMismatch(Untrusted):
    """A content does not have the digest it was asked for by."""


class HeadMismatch(Untrusted):
    """The events seen and the registry's head() disagree."""


class CiphertextInvalid(Untrusted):
    """A ciphertext of the wrong length, epoch or key."""


class PartialInvalid(CiphertextInvalid):
    """A partial decryption that is not of the form asked for; ``member`` is the 1-based index of who sent it."""

    def __init__(self, message: str, *, member: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.member = member


class DecryptionDisputed(CiphertextInvalid):
    """Partial decryptions of the right form contradict each other: a member lies, and it is not known who."""


class RuntimeFailed(VeilError):
    """The container runtime was reached and the operation failed."""


class ImageUnavailable(RuntimeFailed):
    """The image cannot be had. Its message is shown in statuses: our own words, no runtime's."""

    retryable = True


class ContainerFailed(RuntimeFailed):
    """Creating, starting or stopping a container failed."""

    retryable = True
