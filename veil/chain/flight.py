"""One signed transaction until it is mined: its nonce, its fees, and everything that was broadcast for them.

A transaction that waits too long is replaced by one with the same nonce and higher fees. Any of the versions may be the one
that is mined, so that all of them are looked for.
"""

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from eth_hash.auto import keccak
from hexbytes import HexBytes

FEE_STEP = 1.25
"""What a replacement offers over the version before it. Pools want 1.10 (geth) to 1.125 (others)."""

FEE_GROWTH_MAX = 4.0
"""No replacement offers more than this times the first version's fee."""

REPLACEMENTS_MAX = 4
"""How often one transaction is replaced."""

GAP_FILLS_MAX = 16
"""How many nonces that nobody uses are filled for one transaction."""


class Fees(NamedTuple):
    """Per gas, in wei (EIP-1559)."""

    most: int
    tip: int

    @classmethod
    def of_market(cls, base: int, tip: int) -> "Fees":
        """Room for the base fee to double, which takes at least six full blocks."""
        return cls(2 * base + tip, tip)


@dataclass(slots=True)
class Flight:
    """``versions``: the raw transactions, oldest first."""

    transaction: dict[str, Any]
    raw: bytes
    sent_s: float
    versions: list[bytes] = field(default_factory=list)
    first: Fees = field(init=False)
    gap_fills: int = 0
    gap_seen: int | None = None
    """The unused nonce before this one's that the last look found."""

    def __post_init__(self) -> None:
        self.versions.append(self.raw)
        self.first = self.fees

    @property
    def nonce(self) -> int:
        return int(self.transaction["nonce"])

    @property
    def fees(self) -> Fees:
        return Fees(self.transaction["maxFeePerGas"], self.transaction["maxPriorityFeePerGas"])

    @property
    def hashes(self) -> list[HexBytes]:
        """Newest first."""
        return [HexBytes(keccak(raw)) for raw in reversed(self.versions)]

    def next_fees(self, market: Fees) -> Fees | None:
        """What the next version offers; None when it would be one too many or too dear."""
        if len(self.versions) > REPLACEMENTS_MAX:
            return None
        tip = max(math.ceil(self.fees.tip * FEE_STEP), market.tip)
        most = max(math.ceil(self.fees.most * FEE_STEP), market.most, tip)
        return Fees(most, tip) if most <= self.first.most * FEE_GROWTH_MAX else None

    def replaced(self, transaction: dict[str, Any], raw: bytes, now_s: float) -> None:
        self.transaction, self.raw, self.sent_s = transaction, raw, now_s
        self.versions.append(raw)
