"""The collector rests inside and goes on after, also after an error."""

import gc
from contextlib import suppress

import pytest

from veil.store.collector import collector_paused

pytestmark = pytest.mark.unit


def test_it_rests_inside_and_goes_on_after() -> None:
    with suppress(ZeroDivisionError), collector_paused():
        with collector_paused():
            pass
        assert not gc.isenabled(), "the outer one ends it"
        _ = 1 / 0
    assert gc.isenabled()


def test_one_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with collector_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
