"""Private methods of libp2p are replaced, so that another version must not be taken for this one."""

import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from veil.errors import ConfigInvalid
from veil.identity import Identity
from veil.mesh import host, muxer

PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"


def test_the_version_that_is_pinned_is_the_one_that_is_replaced():
    pinned = tomllib.loads(PYPROJECT.read_text())["project"]["dependencies"]
    assert f"libp2p=={muxer.LIBP2P_VERSION}" in pinned
    assert metadata.version("libp2p") == muxer.LIBP2P_VERSION


def test_a_host_is_not_made_with_another_version(monkeypatch):
    monkeypatch.setattr(host, "version", lambda name: "0.9.0")
    with pytest.raises(ConfigInvalid, match=r"libp2p 0\.9\.0 is installed"):
        host.Host(Identity.generate().seed, lambda peer: True)
