"""Keys: one seed, one peer; nobody else opens, signs or reads the seed."""

import pickle
import stat
from pathlib import Path

import pytest

from veil.errors import ConfigInvalid, SignatureInvalid, Untrusted
from veil.identity import Identity, parse_peer_id, peer_id_text, seal, verify
from veil.types import PeerId, Secret

ALICE, BOB = (Identity(Secret(bytes([n]) * 32)) for n in (1, 2))


def test_the_text_form_is_libp2p_s() -> None:
    """The vector is of libp2p's own specification: peer-ids, Ed25519."""
    text = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"
    assert peer_id_text(parse_peer_id(text)) == text
    for identity in (ALICE, BOB):
        assert parse_peer_id(peer_id_text(identity.peer_id)) == identity.peer_id
        assert peer_id_text(identity.peer_id).startswith("12D3KooW")


@pytest.mark.parametrize("text", ["", "0OIl", "abc", "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N", "12D3KooW", "é", "1" * 52])
def test_what_is_no_peer_id(text: str) -> None:
    with pytest.raises(ConfigInvalid) as error:
        parse_peer_id(text)
    assert "12D3KooW" in error.value.hint


def test_signatures() -> None:
    signature = ALICE.sign(b"data")
    verify(ALICE.peer_id, b"data", signature)
    for peer, data, what in (
        (BOB.peer_id, b"data", signature),
        (ALICE.peer_id, b"Data", signature),
        (ALICE.peer_id, b"data", signature[:-1]),
        (ALICE.peer_id, b"data", b""),
        (PeerId(b"short"), b"data", signature),
        (PeerId(b"\xff" * 32), b"data", signature),
    ):
        with pytest.raises(SignatureInvalid):
            verify(peer, data, what)


def test_sealing() -> None:
    sealed = seal(ALICE.peer_id, b"secret")
    assert len(sealed) == len(b"secret") + 48
    assert ALICE.open(sealed) == b"secret"
    assert seal(ALICE.peer_id, b"secret") != sealed
    with pytest.raises(Untrusted):
        BOB.open(sealed)
    for junk in (b"", sealed[:-1], sealed + b"\0", bytes(60)):
        with pytest.raises(Untrusted):
            ALICE.open(junk)
    with pytest.raises(Untrusted):
        seal(PeerId(b"short"), b"x")


def test_a_key_file_is_its_owner_s_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    identity = Identity.generate()
    identity.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Identity.load(path).peer_id == identity.peer_id
    with pytest.raises(FileExistsError):
        ALICE.save(path)
    assert Identity.load(path).peer_id == identity.peer_id


@pytest.mark.parametrize("content", ["", "xyz", "ab" * 31, "ab" * 33])
def test_what_is_no_key_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "node.key"
    path.write_text(content)
    with pytest.raises(ConfigInvalid) as error:
        Identity.load(path)
    assert str(path) in error.value.message
    with pytest.raises(ConfigInvalid):
        Identity.load(tmp_path / "missing")


def test_a_secret_is_not_shown() -> None:
    secret = Secret(b"hunter2")
    assert secret.reveal() == b"hunter2"
    for text in (str(secret), repr(secret), f"{secret}", f"{[secret]}", "%s" % secret):  # noqa: UP031
        assert "hunter2" not in text
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    assert secret == Secret(b"hunter2") != Secret(b"other")
    assert secret != b"hunter2"
    assert hash(secret) == hash(Secret(b"hunter2"))
    assert not hasattr(secret, "__dict__")
