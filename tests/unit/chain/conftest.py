"""Chains in memory that share a ledger."""

import pytest

from tests.unit.chain.projected import operator
from veil.chain.fake import FakeChain
from veil.chain.fake_ledger import Ledger


@pytest.fixture
def chains() -> list[FakeChain]:
    ledger = Ledger(operator(0))
    return [FakeChain(ledger, operator(index)) for index in range(3)]


@pytest.fixture
def chain(chains: list[FakeChain]) -> FakeChain:
    chains[0].ledger.acl = False
    return chains[0]
