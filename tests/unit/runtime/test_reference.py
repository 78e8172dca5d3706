"""Image names: filled up as users expect, refused when they are none, plain http only where nobody can listen."""

import pytest

from veil.errors import ImageUnavailable
from veil.runtime.reference import is_loopback, parse_reference

PIN = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1", "docker.io/library/busybox:1"),
        ("org/app", "docker.io/org/app:latest"),
        ("veil.dev/busybox:1", "veil.dev/busybox:1"),
        ("localhost/a", "localhost/a:latest"),
        ("127.0.0.1:5000/a/b:x", "127.0.0.1:5000/a/b:x"),
        (f"a@{PIN}", f"docker.io/library/a@{PIN}"),
        (f"r.io/a:1@{PIN}", f"r.io/a:1@{PIN}"),
    ],
)
def test_filled_up(text: str, full: str) -> None:
    assert str(parse_reference(text)) == full
    assert str(parse_reference(full)) == full


@pytest.mark.parametrize(
    "text", ["", "A", "a:", "a b", "a@sha256:1", "a@", "../a", "r.io/", "r.io/A", "r.io:x/a", "a:b:c", "a//b", "http://r.io/a"]
)
def test_refused(text: str) -> None:
    with pytest.raises(ImageUnavailable):
        parse_reference(text)


@pytest.mark.parametrize("host", ["localhost", "localhost:5000", "127.0.0.1", "127.9.9.9:1", "[::1]", "[::1]:5000"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["localhost.example", "10.0.0.1", "0.0.0.0:5000", "127.0.0.1.nip.io", "[2001:db8::1]:5000"])
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)


def test_endpoint() -> None:
    assert parse_reference("busybox").endpoint == "https://registry-1.docker.io"
    assert parse_reference("r.io/a").endpoint == "https://r.io"
    assert parse_reference("127.0.0.1:5000/a").endpoint == "http://127.0.0.1:5000"
    assert parse_reference(f"r.io/a:1@{PIN}").wanted == PIN
