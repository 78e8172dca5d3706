"""Whole clusters in virtual time under every fault that the simulator knows."""

import pytest
from placement_doubles import use_cheap_signatures
from placement_world import Faults, World


@pytest.fixture(autouse=True)
def _cheap(monkeypatch):
    use_cheap_signatures(monkeypatch)


class NoFaults(Faults):
    def __init__(self):
        for name in ("lose", "repeat", "late", "forge", "crash", "answer_lost", "tx_lost", "reorg", "false_death"):
            setattr(self, name, 0)
        self.lag_s = 0.1


def test_a_peaceful_cluster_places_everything_in_seconds():
    world = World(1, faults=NoFaults(), quiet_at=0)
    world.run(until_s=30, settled_s=1)
    assert world.now - world.began < 25, "a term changes on the way: its new coordinators listen for a lease"


@pytest.mark.parametrize("seed", range(3))
def test_one(seed):
    print("seed", seed)
    World(seed).run()
