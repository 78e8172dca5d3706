"""Why something is not done: stable identifiers, shown in conditions and logs. They never carry a figure."""

# of a replica that waits (conditions)
NO_NODE_FITS = "NoNodeFits"
NO_CANDIDATES = "NoCandidates"
FHE_UNAVAILABLE = "FheUnavailable"
QUORUM_MISSING = "QuorumMissing"
DEMAND_NOT_IN_EPOCH = "DemandNotInEpoch"
EPOCH_MISSING = "EpochMissing"
BUDGET_EXHAUSTED = "BudgetExhausted"
NAMESPACE_LIMIT = "NamespaceLimit"
DECRYPTION_DISPUTED = "DecryptionDisputed"
POLICY_UNREADABLE = "PolicyUnreadable"
PLACING = "Placing"
APPENDING = "Appending"
LISTENING = "Listening"
NODE_LOST = "NodeLost"

# of a member that withholds
CIRCUIT_UNKNOWN = "CircuitUnknown"
EPOCH_DIFFERS = "EpochDiffers"
NOT_COORDINATOR = "NotCoordinator"
ROUND_EXPIRED = "RoundExpired"
ROUND_SPENT = "RoundSpent"
NOT_ANCHORED = "NotAnchored"
DEMAND_NOT_ANCHORED = "DemandNotAnchored"
CANDIDATES_WRONG = "CandidatesWrong"
CANDIDATE_OMITTED = "CandidateOmitted"
COMMITS_WRONG = "CommitsWrong"
CIPHERTEXT_REUSED = "CiphertextReused"
TELEMETRY_MISSING = "TelemetryMissing"
MEMBERS_WRONG = "MembersWrong"
EVALUATION_DIFFERS = "EvaluationDiffers"
NO_SHARE = "NoShare"
EXCLUSION_UNFOUNDED = "ExclusionUnfounded"

# of a node that is left out of a round, beside CiphertextReused, TelemetryMissing and BudgetExhausted
GONE = "Gone"
REFUSED = "Refused"

SPOILT = (TELEMETRY_MISSING, CIPHERTEXT_REUSED, BUDGET_EXHAUSTED)
"""What members withhold for because of some candidates, without which the next round can be decided."""

# of a candidate that declines
CAPACITY_SHORT = "CapacityShort"
KEY_UNAVAILABLE = "KeyUnavailable"
ALREADY_BOUND = "AlreadyBound"
RELEASED = "Released"
STALE = "Stale"

# of a coordinator that ends a binding
SUPERSEDED = "Superseded"
DELETED = "Deleted"
SCALED_DOWN = "ScaledDown"
RETIRED = "Retired"

# of a placement (condition DecryptionChecked)
DECRYPTION_CHECKED = "QuorumAgreed"
DECRYPTION_UNCHECKED = "DecryptionUnchecked"

# of a winner
STARTING = "Starting"
WAITING_FOR_FINALITY = "WaitingForFinality"
WAITING_FOR_KEY = "WaitingForKey"
WAITING_FOR_HOLDER = "WaitingForHolder"
STOPPED = "Stopped"
