"""An Instance's name says what it is of, in both directions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veil.rollout.names import instance_labels, instance_name, parse_instance_name

WORKLOADS = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)


@given(WORKLOADS, st.integers(0, 2**53), st.integers(0, 999))
def test_parse_is_the_inverse_of_name(workload: str, generation: int, replica: int) -> None:
    assert parse_instance_name(instance_name(workload, generation, replica)) == (workload, generation, replica)


@given(st.tuples(WORKLOADS, st.integers(0, 99), st.integers(0, 99)), st.tuples(WORKLOADS, st.integers(0, 99), st.integers(0, 99)))
def test_two_replicas_never_share_a_name(one: tuple[str, int, int], other: tuple[str, int, int]) -> None:
    assert (instance_name(*one) == instance_name(*other)) == (one == other)


@pytest.mark.parametrize("name", ["", "web", "web-1", "web-1-", "web--1", "web-01-0", "web-1-00", "web-1-x", "-1-0", "web-1-0\n"])
def test_other_names_are_nobodys(name: str) -> None:
    assert parse_instance_name(name) is None


def test_labels_are_text() -> None:
    assert instance_labels("web", 3, 0) == {"veil.dev/workload": "web", "veil.dev/generation": "3", "veil.dev/replica": "0"}
