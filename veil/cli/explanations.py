"""Every reason in plain words: which class of reason it is, what it means, what to do. No text here has a figure in it.

One table for `veil why`. The reasons themselves are given by placement, by the agent and by the rollout; a test compares this
table with them and with docs/reference/conditions.md, so that no reason is left without words.
"""

from enum import StrEnum
from typing import NamedTuple


class Cause(StrEnum):
    """The class of a reason: what kind of thing has to change."""

    NO_CANDIDATE = "no-candidate"
    NONE_FITS = "none-fits"
    BUDGET_SPENT = "budget-spent"
    QUORUM_MISSING = "quorum-missing"
    EPOCH_ROTATING = "epoch-rotating"
    KEYS_MISSING = "keys-missing"
    DECRYPTION_UNCHECKED = "decryption-unchecked"
    DECRYPTION_DISPUTED = "decryption-disputed"
    CHAIN_NOT_FINAL = "chain-not-final"
    IN_PROGRESS = "in-progress"
    NODE_LOST = "node-lost"
    DECLINED = "declined"
    WITHHELD = "withheld"
    IMAGE = "image"
    CONTAINER = "container"
    RUNTIME = "runtime"
    ENDING = "ending"
    WELL = "well"
    UNKNOWN = "unknown"


class Explanation(NamedTuple):
    """What a reason says: ``meaning`` is a fact, ``todo`` what the reader can do next."""

    cause: Cause
    meaning: str
    todo: str


_WAIT = "Nothing: wait."
_DOCTOR = "Run `veil doctor` on the nodes of the committee: it says which part is missing and what to do."
_LOG = "See `veil logs INSTANCE`, correct the workload, apply it again."

_PLACING: dict[str, tuple[Cause, str, str]] = {
    "NoNodeFits": (
        Cause.NONE_FITS,
        "The decision on ciphertexts said that no candidate has room for it.",
        "Ask for less, or add a node. It is tried again by itself, with growing pauses, because each try costs decryptions.",
    ),
    "CapacityShort": (
        Cause.NONE_FITS,
        "The chosen nodes found that their exact free capacity is short, and declined.",
        "Nothing: another round is opened without them. If it stays so, ask for less, or add a node.",
    ),
    "NoCandidates": (
        Cause.NO_CANDIDATE,
        "No Active node has the labels of the workload's nodeSelector (vouched for, where it asks that) and only taints that it "
        "tolerates, or all are left out.",
        "Compare nodeSelector and tolerations with `veil get nodes -o json`; change them, or label, untaint or uncordon a node.",
    ),
    "BudgetExhausted": (
        Cause.BUDGET_SPENT,
        "The decryptions that the key epoch allows, in all or with those candidates, are used up: each tells something.",
        "Publish a new key epoch (`veil key`); placement goes on with it by itself.",
    ),
    "NamespaceLimit": (
        Cause.BUDGET_SPENT,
        "The decisions that the registry allows the workload's namespace in this key epoch are used up.",
        "Ask an administrator for a higher limit (`veil policy limit`), or wait for the next key epoch. It is tried again then.",
    ),
    "QuorumMissing": (
        Cause.QUORUM_MISSING,
        "Too few members of the committee answer to decrypt a decision.",
        "Bring committee members back. " + _DOCTOR,
    ),
    "DemandNotInEpoch": (
        Cause.EPOCH_ROTATING,
        "The keys were rotated, and the workload's demand is not encrypted for the new key epoch yet.",
        "Wait: a home node of the namespace does it by itself. If it stays so, start one of the namespace's home nodes.",
    ),
    "EpochMissing": (
        Cause.KEYS_MISSING,
        "The cluster has no key epoch that the coordinator can use.",
        "Hold a key ceremony (`veil key`), or see with `veil doctor` which part of the epoch is missing.",
    ),
    "FheUnavailable": (
        Cause.KEYS_MISSING,
        "An evaluator, or a part of the keys that it needs, is missing on the committee.",
        _DOCTOR,
    ),
    "PolicyUnreadable": (
        Cause.KEYS_MISSING,
        "The coordinator does not understand the cluster's policy, which says which circuits placement uses.",
        "Update veil on the coordinator, or have an administrator set the policy again.",
    ),
    "DecryptionUnchecked": (
        Cause.DECRYPTION_UNCHECKED,
        "Only as many committee members answered as a decryption needs, so a wrong partial could not have been noticed.",
        "Bring the other committee members back before the next placement. `veil audit INSTANCE` checks all but the decryption.",
    ),
    "DecryptionDisputed": (
        Cause.DECRYPTION_DISPUTED,
        "The committee's partial decryptions contradict each other, so a member gave a wrong one. Nothing was placed by them.",
        "See the coordinator's log for who was asked. Where the committee is too small to name the liar, hold a new key "
        "ceremony with another committee.",
    ),
    "Placing": (Cause.IN_PROGRESS, "A placement round is open.", _WAIT),
    "Appending": (Cause.IN_PROGRESS, "A node has accepted it; the leaf is being appended to the placement log on chain.", _WAIT),
    "Listening": (
        Cause.IN_PROGRESS,
        "A new coordinator listens for one lease before it places what another node may hold.",
        _WAIT,
    ),
    "NodeLost": (Cause.NODE_LOST, "The node that held it is not heard any more.", "Wait: it is placed again by itself."),
    "InstancesMissing": (
        Cause.IN_PROGRESS,
        "The workload's controller has not made its instances yet, or this node has not heard of them.",
        "Wait. If it stays so, see ControllersRunning in `veil doctor`, and ask a home node of the namespace.",
    ),
}

_DECLINED: dict[str, tuple[Cause, str, str]] = {
    "KeyUnavailable": (
        Cause.QUORUM_MISSING,
        "The chosen node did not get enough shares of the key to the exact resources in time.",
        "Bring committee members back. " + _DOCTOR,
    ),
    "AlreadyBound": (Cause.DECLINED, "The chosen node holds this replica already.", _WAIT),
    "Stale": (Cause.DECLINED, "The round was opened before something that changed its grounds.", _WAIT),
    "Released": (Cause.ENDING, "The node that held the replica has let it go.", _WAIT),
}

_WITHHELD: dict[str, tuple[str, str]] = {
    "CircuitUnknown": ("The round names a circuit that the key epoch does not register.", _DOCTOR),
    "EpochDiffers": ("Coordinator and committee member work with different key epochs; one of them is behind.", _DOCTOR),
    "NotCoordinator": ("Whoever opened the round is not among the first ranks of the shard in this term.", _WAIT),
    "RoundExpired": ("The round was over before it was asked for.", "Compare the clocks of the nodes with `veil doctor`."),
    "RoundSpent": ("The round was used for another decryption before.", _WAIT),
    "CandidatesWrong": ("The list of candidates is not the one that the chain gives.", _WAIT),
    "CandidateOmitted": (
        "The coordinator left out a node that is eligible.",
        "Wait; remove a coordinator that keeps doing it.",
    ),
    "ExclusionUnfounded": (
        "The coordinator left out a node for a reason that a committee member knows to be wrong.",
        "Wait: the node is asked in the next round; remove a coordinator that keeps doing it.",
    ),
    "Gone": ("A node was left out of the round because it does not answer.", _DOCTOR),
    "Refused": ("A node was left out of the round because it had just refused the replica.", _WAIT),
    "CommitsWrong": ("The commitments do not belong to the round.", _WAIT),
    "CiphertextReused": ("A candidate sent telemetry that was used before.", "Wait: the next round leaves that candidate out."),
    "TelemetryMissing": ("A candidate committed to telemetry and did not deliver it.", _WAIT),
    "MembersWrong": ("The set of committee members that was asked is no quorum.", _WAIT),
    "EvaluationDiffers": ("Committee members evaluated the same inputs to different ciphertexts.", _DOCTOR),
    "NoShare": ("The node that was asked holds no share of the epoch's key.", _DOCTOR),
}

_NOT_FINAL: dict[str, tuple[str, str]] = {
    "NotAnchored": ("The chain, as a committee member has read it, does not have this generation of the workload.", _WAIT),
    "DemandNotAnchored": ("The chain, as a committee member has read it, does not have the demand of this key epoch.", _WAIT),
    "WaitingForHolder": (
        "It moves away from a node that is drained. Its new node is ready, and waits until the old one has stopped it.",
        "Wait for its grace period. If it stays so, look at the old node: `veil get nodes`.",
    ),
    "WaitingForFinality": (
        "It is placed. Its block is not as final yet as VEIL_FINALITY asks for, so that a reorganisation cannot undo it.",
        "Wait. If it stays so, see with `veil doctor` whether the chain's blocks advance.",
    ),
}

_RUNNING: dict[str, tuple[Cause, str, str]] = {
    "Starting": (Cause.IN_PROGRESS, "It is placed, and on its way.", _WAIT),
    "ContainerCreating": (Cause.IN_PROGRESS, "Its container is being made.", _WAIT),
    "PullingImage": (Cause.IMAGE, "Its image is being fetched.", _WAIT),
    "Initializing": (Cause.IN_PROGRESS, "An init container runs; the containers are started when the last has succeeded.", _WAIT),
    "NotStarted": (Cause.CONTAINER, "Its container runs, and its startup probe has not succeeded yet.", _LOG),
    "NotReady": (Cause.CONTAINER, "Its container runs, and its readiness probe does not succeed.", _LOG),
    "Unhealthy": (Cause.CONTAINER, "Its startup or liveness probe failed, so its container is being stopped.", _LOG),
    "ImageNotAllowed": (
        Cause.IMAGE,
        "The registry allows some images only, and not this one, or says that its name stands for another manifest.",
        "Name an image that is allowed, or ask an administrator: `veil policy allow-image`, `veil policy pin-image`.",
    ),
    "ImageListMissing": (
        Cause.IMAGE,
        "The registry allows some images only, and its node has not found their list with any other yet.",
        "Wait. If it stays so, start the node where `veil policy allow-image` was run.",
    ),
    "ImagePullBackOff": (
        Cause.IMAGE,
        "Its image cannot be fetched; it is tried again with growing pauses.",
        "The message has the registry's answer: check the image's name, and that the node reaches the registry.",
    ),
    "WaitingForKey": (
        Cause.QUORUM_MISSING,
        "It is placed; the key of its confidential template has not come from enough committee members yet.",
        "Wait. If it stays so, bring committee members back.",
    ),
    "CrashLoopBackOff": (Cause.CONTAINER, "Its container ends again and again; it is restarted with growing pauses.", _LOG),
    "Restarting": (Cause.CONTAINER, "Its container ended and is being started again.", _LOG),
    "Error": (Cause.CONTAINER, "Its container ended with an error.", _LOG),
    "ReplicaFailed": (Cause.CONTAINER, "A replica has ended for good with an error.", _LOG),
    "ContainerError": (
        Cause.CONTAINER,
        "The container runtime refused to make or start it.",
        "The node's message says why; correct the template, apply it again.",
    ),
    "GpuUnavailable": (
        Cause.CONTAINER,
        "It asks for GPUs, and its node cannot give them: they are in use by something else, or the driver or its device nodes "
        "are missing. The message says which.",
        "See `veil doctor` and nvidia-smi on the node. It is tried again with growing pauses.",
    ),
    "Evicted": (
        Cause.CONTAINER,
        "It held more of its node's disk than it may, or most over its request when the disk ran short, so it was ended and "
        "what it had there is gone. The message says which part held too much.",
        "Ask for more ephemeral-storage or a larger sizeLimit, write less, or keep data elsewhere. Unless its restartPolicy is "
        "Never it begins anew after a pause.",
    ),
    "DiskPressure": (
        Cause.CONTAINER,
        "The disk of its node was full when its container was to be made or started; it is tried again with growing pauses.",
        "Free disk on that node.",
    ),
    "VolumeUnavailable": (
        Cause.CONTAINER,
        "One of its volumes cannot be had on its node; the message says which.",
        "Have the node's operator list the path in VEIL_HOST_PATHS, or leave the volume out.",
    ),
    "NetworkUnavailable": (
        Cause.CONTAINER,
        "Its network cannot be made on its node: a published port is another instance's, or CNI plugins are missing or failed.",
        "Use another hostPort or antiAffinity, or have the node's operator install containernetworking-plugins.",
    ),
    "CopiesMissing": (
        Cause.NODE_LOST,
        "Fewer members than there should be keep its parts: were they lost, nobody could place it again.",
        "Bring members back, or add some: the copies are made by themselves.",
    ),
    "InvalidTemplate": (Cause.CONTAINER, "Its template cannot be run.", "Correct the template, apply it again."),
    "ContainerLost": (
        Cause.CONTAINER,
        "Its container is gone and its end was not seen, for example after the machine was restarted.",
        "Nothing: it is started again if its restartPolicy says so.",
    ),
    "RuntimeUnavailable": (
        Cause.RUNTIME,
        "The container runtime of its node does not answer.",
        "Start containerd on that node; see RuntimeReady in `veil doctor` there.",
    ),
}

_ENDING: dict[str, str] = {
    "Superseded": "A later entry of the placement log gave the replica to another node.",
    "Deleted": "The workload was deleted.",
    "ScaledDown": "The workload has fewer replicas now.",
    "Retired": "The workload has another generation now.",
    "Stopped": "Nothing of it runs on its node any more.",
    "Removing": "The workload is being deleted.",
}

_WELL: dict[str, str] = {
    "QuorumAgreed": "More committee members than a decryption needs agreed on the decision.",
    "Appended": "It has a node; its leaf is in the placement log on chain.",
    "AllPlaced": "Every replica has a node.",
    "AllAvailable": "Every replica is ready.",
    "ScaledToZero": "No replica is asked for.",
    "Complete": "The generation is rolled out.",
    "CopiesKept": "Enough members keep its parts.",
    "RollingOut": "A new generation is being rolled out.",
    "Completed": "It ended well, and is not to run again.",
}

SILENT = Explanation(
    Cause.IN_PROGRESS,
    "Nobody has said anything about it to this node yet.",
    "Wait. If it stays so, ask a home node of the namespace, and see `veil doctor`.",
)
"""For what has no reason yet."""

_PHASES: dict[str, Explanation] = {
    "Pending": SILENT,
    "Creating": Explanation(Cause.IN_PROGRESS, "It is placed, and on its way.", _WAIT),
    "Terminating": Explanation(Cause.ENDING, "It is being stopped.", _WAIT),
    "Failed": Explanation(Cause.CONTAINER, "It ended with an error.", _LOG),
    "Running": Explanation(Cause.WELL, "It runs.", "Nothing."),
    "Succeeded": Explanation(Cause.WELL, "It ended well.", "Nothing."),
}
"""What a condition has in place of a reason while there is none to give."""

EXPLANATIONS: dict[str, Explanation] = (
    {reason: Explanation(*words) for reason, words in (_PLACING | _DECLINED | _RUNNING).items()}
    | {reason: Explanation(Cause.WITHHELD, *words) for reason, words in _WITHHELD.items()}
    | {reason: Explanation(Cause.CHAIN_NOT_FINAL, *words) for reason, words in _NOT_FINAL.items()}
    | {reason: Explanation(Cause.ENDING, meaning, _WAIT) for reason, meaning in _ENDING.items()}
    | {reason: Explanation(Cause.WELL, meaning, "Nothing.") for reason, meaning in _WELL.items()}
    | _PHASES
)

UNKNOWN = Explanation(
    Cause.UNKNOWN,
    "This version of `veil` does not know the reason; the node may be newer.",
    "Compare `veil version` of both sides; the node's message may say more.",
)


def explanation(reason: str) -> Explanation:
    """The words for ``reason``; those of :data:`SILENT` for an empty one, of :data:`UNKNOWN` for one that is not known."""
    return EXPLANATIONS.get(reason, UNKNOWN) if reason else SILENT
