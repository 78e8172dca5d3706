"""Logins of registries in the form that ``docker login`` writes: ``{"auths": {registry: {"auth": base64 of user:password}}}``.

The node's are in a file, which is read for each pull, so that a change needs no restart; one that others may read is refused.
A workload's own come with its sealed template. A login is used for the registry it stands under and for no other.
"""

import base64
import binascii
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from veil.errors import ImageUnavailable
from veil.types import Secret

FILE_MAX_BYTES = 1 << 20
_MALFORMED = (ValueError, AttributeError, TypeError, binascii.Error)
_DOCKER_IO = ("docker.io", "https://index.docker.io/v1/", "index.docker.io")


NONE = Secret(b"")


@dataclass(frozen=True, slots=True)
class Login:
    """A name and a password, or an identity token (a refresh token of OAuth 2) instead of the password."""

    username: str = field(repr=False)
    password: Secret = NONE
    identity_token: Secret = NONE
    sealed: bool = False
    """A workload's own: not even its name is told."""

    @property
    def words(self) -> str:
        """Whose it is, for a message."""
        return "the workload's own login" if self.sealed else self.username or "the identity token"

    @property
    def basic(self) -> str:
        """The header for basic authentication (RFC 7617)."""
        return "Basic " + base64.b64encode(self.username.encode() + b":" + self.password.reveal()).decode()


@dataclass(frozen=True, slots=True)
class Logins:
    """The logins that a workload brings: the texts of such files, of which the first that has a registry counts."""

    texts: tuple[Secret, ...] = ()

    def find(self, registry: str) -> Login | None:
        """The one for ``registry`` (host[:port]). Raises ImageUnavailable for a text of no use."""
        try:
            found = (_find(text.reveal(), registry) for text in self.texts)
            login = next((login for login in found if login is not None), None)
        except _MALFORMED as error:
            raise ImageUnavailable(
                "the workload's registry logins are of no use: they are not as docker login writes them",
                hint="correct config.json in the secret that imagePullSecrets names",
            ) from error
        return None if login is None else replace(login, sealed=True)


def login_for(path: Path | None, registry: str) -> Login | None:
    """The login for ``registry`` (host[:port]); None when there is none. Blocks. Raises ImageUnavailable for a file of no use."""
    if path is None:
        return None
    try:
        if path.stat().st_mode & 0o077:
            raise _useless("others may read it", "chmod 600 it")
        return _find(path.read_bytes()[:FILE_MAX_BYTES], registry)
    except OSError as error:
        raise _useless(error.strerror or "it cannot be read", "see VEIL_REGISTRY_CREDENTIALS") from error
    except _MALFORMED as error:
        raise _useless("it is not as docker login writes it", "see VEIL_REGISTRY_CREDENTIALS") from error


def _find(text: bytes, registry: str) -> Login | None:
    auths = json.loads(text).get("auths", {})
    names = _DOCKER_IO if registry == "docker.io" else (registry, f"https://{registry}", f"https://{registry}/")
    entry = next((auths[name] for name in names if name in auths), None)
    return None if entry is None else _login(entry)


def _login(entry: dict[str, Any]) -> Login:
    name, colon, password = base64.b64decode(entry.get("auth", ""), validate=True).decode().partition(":")
    name = str(entry.get("username", name))
    password = str(entry.get("password", password))
    token = str(entry.get("identitytoken", ""))
    if not token and not (name and (colon or password)):
        raise ValueError("neither a password nor a token")
    return Login(name, Secret(password.encode()), Secret(token.encode()))


def _useless(why: str, hint: str) -> ImageUnavailable:
    return ImageUnavailable(f"the node's file of registry logins is of no use: {why}", hint=hint)
