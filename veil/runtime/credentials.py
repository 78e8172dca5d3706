"""Logins of registries from a file as ``docker login`` writes it: ``{"auths": {registry: {"auth": base64 of user:password}}}``.

The file is read for each pull, so that a change needs no restart. A file that others may read is refused. A login is used for the
registry it stands under and for no other.
"""

import base64
import binascii
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from veil.errors import ImageUnavailable

FILE_MAX_BYTES = 1 << 20
_DOCKER_IO = ("docker.io", "https://index.docker.io/v1/", "index.docker.io")


@dataclass(frozen=True, slots=True)
class Login:
    """A name and a password, or an identity token (a refresh token of OAuth 2) instead of the password."""

    username: str
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The header for basic authentication (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


def login_for(path: Path | None, registry: str) -> Login | None:
    """The login for ``registry`` (host[:port]); None when there is none. Blocks. Raises ImageUnavailable for a file of no use."""
    if path is None:
        return None
    try:
        if path.stat().st_mode & 0o077:
            raise _useless("others may read it", "chmod 600 it")
        auths = json.loads(path.read_bytes()[:FILE_MAX_BYTES]).get("auths", {})
        names = _DOCKER_IO if registry == "docker.io" else (registry, f"https://{registry}", f"https://{registry}/")
        entry = next((auths[name] for name in names if name in auths), None)
        return None if entry is None else _login(entry)
    except OSError as error:
        raise _useless(error.strerror or "it cannot be read", "see VEIL_REGISTRY_CREDENTIALS") from error
    except (ValueError, AttributeError, TypeError, binascii.Error) as error:
        raise _useless("it is not as docker login writes it", "see VEIL_REGISTRY_CREDENTIALS") from error


def _login(entry: dict[str, Any]) -> Login:
    name, colon, password = base64.b64decode(entry.get("auth", ""), validate=True).decode().partition(":")
    name = str(entry.get("username", name))
    password = str(entry.get("password", password))
    token = str(entry.get("identitytoken", ""))
    if not token and not (name and (colon or password)):
        raise ValueError("neither a password nor a token")
    return Login(name, password, token)


def _useless(why: str, hint: str) -> ImageUnavailable:
    return ImageUnavailable(f"the node's file of registry logins is of no use: {why}", hint=hint)
