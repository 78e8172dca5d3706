"""The tree that is drawn is the tree that is there, and every leaf says how the CLI ends."""

import re
from collections.abc import Iterator

import pytest

from veil import errors
from veil.errors import FieldError, ManifestInvalid, Unavailable, Untrusted, VeilError


def tree(kind: type[VeilError] = VeilError) -> Iterator[type[VeilError]]:
    yield kind
    for below in kind.__subclasses__():
        if below.__module__ == "veil.errors":
            yield from tree(below)


def drawn() -> dict[str, int | None]:
    """Each name of the drawing, with the exit code beside it."""
    assert errors.__doc__
    found = re.findall(r"^ *[│├└─ ]*([A-Z]\w+)(?: +exit (\d))?", errors.__doc__.split("::")[1], re.MULTILINE)
    return {name: int(code) if code else None for name, code in found}


def test_the_drawing() -> None:
    there = {kind.__name__: kind for kind in tree()}
    assert set(drawn()) == set(there)
    for name, code in drawn().items():
        if code is not None:
            assert there[name].exit_code == code
            assert all(below.exit_code == code for below in tree(there[name]))


@pytest.mark.parametrize("kind", list(tree()))
def test_every_error(kind: type[VeilError]) -> None:
    assert kind.exit_code in (1, 2, 3)
    assert kind.__doc__
    if kind is ManifestInvalid:
        return
    error = kind("what, where", hint="what to do")
    assert (error.message, error.hint, error.reason, str(error)) == ("what, where", "what to do", kind.__name__, "what, where")


def test_what_a_retry_can_help() -> None:
    assert all(kind.retryable for kind in tree(Unavailable))
    assert not any(kind.retryable for kind in tree(Untrusted))


def test_field_errors() -> None:
    assert str(FieldError("spec.x", "wrong", "a.yaml", 3)) == "a.yaml:3: spec.x: wrong"
    assert str(FieldError("spec.x", "wrong")) == "spec.x: wrong"
    assert str(FieldError("", "empty", "a.yaml")) == "a.yaml: empty"
    error = ManifestInvalid([FieldError("a", "x", "f", 1), FieldError("b", "y", "f", 2)])
    assert str(error) == "f:1: a: x\nf:2: b: y"
