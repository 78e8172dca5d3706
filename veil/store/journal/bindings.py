"""The replicas that this node holds or has promised to hold."""

import sqlite3
from dataclasses import astuple, dataclass
from typing import Literal

from veil.store.database import transaction
from veil.types import Generation, ObjectId

BindingState = Literal["reserved", "bound", "superseded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """One replica here.

    ``reserved``: capacity is promised until ``expires_s`` (Unix seconds). ``bound``: its leaf is on the chain. ``superseded``:
    another node holds it now, or it is not wanted; it is being stopped.
    """

    object_id: ObjectId
    generation: Generation
    replica: int
    state: BindingState
    bound: bytes = b""
    """The encoded Bound; empty while reserved."""
    leaf: bytes = b""
    """The encoded Leaf, with its salt."""
    resources: bytes = b""
    """The encoded Resources: exact figures, which never leave this file and process."""
    template: bytes = b""
    """What to run, once its key was released or its body fetched."""
    expires_s: int
    workload: str
    namespace: str


class Bindings:
    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def put(self, binding: Binding) -> None:
        """Insert or replace."""
        with transaction(self._database) as database:
            database.execute("INSERT OR REPLACE INTO bindings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", astuple(binding))

    def get(self, object_id: ObjectId, generation: int, replica: int) -> Binding | None:
        query = "SELECT * FROM bindings WHERE object_id=? AND generation=? AND replica=?"
        row = self._database.execute(query, (object_id, generation, replica)).fetchone()
        return _from(row) if row else None

    def all(self) -> list[Binding]:
        """By object, generation and replica."""
        return [_from(row) for row in self._database.execute("SELECT * FROM bindings ORDER BY object_id, generation, replica")]

    def remove(self, object_id: ObjectId, generation: int, replica: int) -> None:
        """Not there = done."""
        with transaction(self._database) as database:
            database.execute(
                "DELETE FROM bindings WHERE object_id=? AND generation=? AND replica=?", (object_id, generation, replica)
            )


def _from(row: tuple[ObjectId, Generation, int, BindingState, bytes, bytes, bytes, bytes, int, str, str]) -> Binding:
    object_id, generation, replica, state, bound, leaf, resources, template, expires_s, workload, namespace = row
    return Binding(
        object_id=object_id,
        generation=generation,
        replica=replica,
        state=state,
        bound=bound,
        leaf=leaf,
        resources=resources,
        template=template,
        expires_s=expires_s,
        workload=workload,
        namespace=namespace,
    )
