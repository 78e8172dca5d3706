"""What this node has decrypted its part of: each round at most once, for one purpose.

Nothing is ever removed: the count is what bounds how much repeated decisions can leak, and a round that was forgotten could be
used again.
"""

import sqlite3
from collections.abc import Mapping, Sequence

import msgspec

from veil.store.database import transaction
from veil.types import Digest, Epoch, ObjectId, PeerId, RoundId


def is_one_more(before: Sequence[int], quorum: Sequence[int]) -> bool:
    """Whether ``quorum`` is ``before`` and one member."""
    return set(before) < set(quorum) and len(quorum) == len(before) + 1


class Rounds:
    """Written before a partial decryption leaves the process."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def spend(
        self,
        epoch: Epoch,
        round: RoundId,
        owner: str,
        object_id: ObjectId,
        replicas: Sequence[int],
        circuit: str,
        quorum: Sequence[int],
        evaluation: bytes,
        at_s: int,
        telemetry: Mapping[PeerId, Digest],
    ) -> bool:
        """Take ``round`` for exactly this. False when it was spent on anything else: then nothing may be released.

        True again for the identical request (``at_s`` aside), so that a lost answer can be asked for anew; and once for a quorum
        of one member more. Partials for a third quorum are never made: each more tells more about the noise that hides the key.
        The first time, one decision more is counted for each candidate and for the workload's namespace, and the candidate's
        telemetry is known as its from then on.
        """
        members = msgspec.msgpack.encode(tuple(quorum))
        purpose = (epoch, owner, object_id, msgspec.msgpack.encode(tuple(replicas)), circuit, evaluation)
        with transaction(self._database) as database:
            spent = database.execute(
                "SELECT epoch, owner, object_id, replicas, circuit, evaluation, members, asked FROM rounds WHERE round=?",
                (round,),
            ).fetchone()
            if spent is None:
                database.execute(
                    "INSERT INTO rounds (round, epoch, owner, object_id, replicas, circuit, evaluation, members, at_s)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (round, *purpose, members, at_s),
                )
                database.executemany(
                    "INSERT INTO decisions VALUES (?, ?, 1) ON CONFLICT (epoch, candidate) DO UPDATE SET count = count + 1",
                    [(epoch, candidate) for candidate in telemetry],
                )
                database.execute(
                    "INSERT INTO namespace_rounds VALUES (?, ?, 1)"
                    " ON CONFLICT (epoch, namespace) DO UPDATE SET count = count + 1",
                    (epoch, object_id[:16]),
                )
                database.executemany(
                    "INSERT OR IGNORE INTO telemetry VALUES (?, ?, ?)",
                    [(digest, candidate, round) for candidate, digest in telemetry.items()],
                )
                return True
            *before, known, asked = spent
            if tuple(before) != purpose:
                return False
            if known == members:
                return True
            if asked > 1 or not is_one_more(msgspec.msgpack.decode(known), quorum):
                return False
            database.execute("UPDATE rounds SET members=?, asked=2 WHERE round=?", (members, round))
            return True

    def is_spent(self, round: RoundId) -> bool:
        """Whether anything was released for ``round``."""
        return self._database.execute("SELECT 1 FROM rounds WHERE round=?", (round,)).fetchone() is not None

    def decisions(self, epoch: Epoch, candidate: PeerId) -> int:
        """How many rounds were spent in ``epoch`` with ``candidate`` among those that had sent telemetry."""
        query = "SELECT coalesce(sum(count), 0) FROM decisions WHERE epoch=? AND candidate IN (x'', ?)"
        count: int = self._database.execute(query, (epoch, candidate)).fetchone()[0]
        return count

    def most_decisions(self, epoch: Epoch) -> int:
        """:meth:`decisions` of the candidate that has the most."""
        query = "SELECT coalesce(max(count), 0) FROM decisions WHERE epoch=? AND candidate != x''"
        count: int = self._database.execute(query, (epoch,)).fetchone()[0]
        return count + self.decisions(epoch, PeerId(b""))

    def of_namespace(self, epoch: Epoch, namespace: bytes) -> int:
        """How many rounds were spent in ``epoch`` for workloads of ``namespace`` (16 bytes)."""
        query = "SELECT coalesce(sum(count), 0) FROM namespace_rounds WHERE epoch=? AND namespace=?"
        count: int = self._database.execute(query, (epoch, namespace)).fetchone()[0]
        return count

    def used_by(self, telemetry: Digest) -> tuple[PeerId, RoundId] | None:
        """Whose telemetry, in which of the spent rounds, had that digest."""
        row = self._database.execute("SELECT candidate, round FROM telemetry WHERE digest=?", (telemetry,)).fetchone()
        return (PeerId(row[0]), RoundId(row[1])) if row else None

    def count(self, epoch: Epoch, owner: str | None = None) -> int:
        """How many rounds were spent in ``epoch``, of all owners or of one."""
        query = "SELECT count(*) FROM rounds WHERE epoch=? AND (? IS NULL OR owner=?)"
        count: int = self._database.execute(query, (epoch, owner, owner)).fetchone()[0]
        return count
