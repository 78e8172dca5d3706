"""The claims on their way to everybody: each rides on so many frames, the least told first."""

from dataclasses import dataclass

from veil.types import PeerId
from veil.wire.signed import Signed

PIGGYBACK_MAX = 64
"""Claims on the back of one frame: 25 KB with full metadata, one message of the muxer; a frame costs as much full as empty,
and when a hundred start at the same time everybody has a hundred claims to pass on."""

Key = tuple[PeerId, str, PeerId]
"""Subject, kind, author: a newer claim with the same key replaces the older."""


@dataclass(slots=True)
class _Rumour:
    signed: Signed
    told: int
    order: int


class Broadcasts:
    """What is still to be passed on."""

    def __init__(self) -> None:
        self._rumours: dict[Key, _Rumour] = {}
        self._order = 0

    def __len__(self) -> int:
        return len(self._rumours)

    def add(self, subject: PeerId, kind: str, author: PeerId, signed: Signed) -> None:
        """Pass ``signed`` on. What a subject says of itself ends every rumour about its past."""
        if subject == author:
            self.forget(subject)
        self._order += 1
        self._rumours[(subject, kind, author)] = _Rumour(signed, 0, self._order)

    def forget(self, subject: PeerId) -> None:
        for key in [key for key in self._rumours if key[0] == subject]:
            del self._rumours[key]

    def take(self, limit: int) -> tuple[Signed, ...]:
        """Up to PIGGYBACK_MAX claims for one frame, each passed on at most ``limit`` times; newest first among equals."""
        chosen = sorted(self._rumours.items(), key=lambda item: (item[1].told, -item[1].order))[:PIGGYBACK_MAX]
        for key, rumour in chosen:
            rumour.told += 1
            if rumour.told >= limit:
                del self._rumours[key]
        return tuple(rumour.signed for _, rumour in chosen)
