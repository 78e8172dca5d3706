"""``journal.db``: what only this node knows. Never deleted; every write is on disk before the call returns."""

from veil.store.journal.bindings import Binding, BindingState
from veil.store.journal.journal import Journal
from veil.store.journal.pending import PendingTransaction
from veil.store.journal.restarts import RestartRow

__all__ = ["Binding", "BindingState", "Journal", "PendingTransaction", "RestartRow"]
