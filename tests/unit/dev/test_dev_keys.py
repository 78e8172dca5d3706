"""A development cluster's circuits take all its nodes, and no more are compiled than that needs."""

import pytest

from veil.dev.keys import sizes_for


@pytest.mark.parametrize(
    ("nodes", "sizes"),
    [(1, (4,)), (3, (4,)), (4, (4,)), (5, (4, 8)), (8, (4, 8)), (9, (4, 8, 16)), (16, (4, 8, 16)), (17, (4, 8, 16))],
)
def test_the_smallest_sizes_that_take_all_nodes(nodes: int, sizes: tuple[int, ...]) -> None:
    assert sizes_for(nodes) == sizes
