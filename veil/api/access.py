"""Who may talk to the API: over TLS whoever has the node's bearer token, over a unix socket whoever may open it."""

import hmac
import os
import secrets
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from veil.api import rights
from veil.api.kinds import find_kind
from veil.api.ports import Caller
from veil.api.status import Rejected
from veil.errors import ConfigInvalid
from veil.store.objects import Obj
from veil.types import Secret

TOKEN_BYTES = 32

OPEN_PATHS = frozenset({"/healthz", "/livez", "/readyz"})
"""What answers without a token."""


def ensure_token(path: Path) -> Secret:
    """The node's bearer token; made when there is none, readable by its owner only. Raises ConfigInvalid."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        token = path.read_text().strip()
        if len(token) < TOKEN_BYTES:
            raise ConfigInvalid(f"{path}: the token is too short", hint="delete the file: a new one is made") from None
        return Secret(token.encode())
    token = secrets.token_hex(TOKEN_BYTES)
    with os.fdopen(descriptor, "w") as file:
        file.write(token + "\n")
    return Secret(token.encode())


def bearer(token: Secret) -> Middleware:
    """Lets nobody in without ``token``."""
    expected = b"Bearer " + token.reveal()

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").encode()
        if request.path not in OPEN_PATHS and not hmac.compare_digest(given, expected):
            raise Rejected(401, "Unauthorized", "Unauthorized", hint="use the token of the kubeconfig that the node wrote")
        return await handler(request)

    return check


def review(caller: Caller, asked: Obj) -> Obj:
    """The answer to a SelfSubjectAccessReview."""
    spec = asked.get("spec") or {}
    wanted = spec.get("resourceAttributes") or {}
    group, plural, verb = wanted.get("group", ""), wanted.get("resource", ""), wanted.get("verb", "")
    kind = next((kind for version in ("v1alpha1", "v1") if (kind := find_kind(group, version, plural))), None)
    everything = "*" in (plural, verb)
    answer = bool(kind and rights.allowed(caller, kind, verb, wanted.get("subresource", ""))) and not everything
    reason = "" if answer else "see the rights of each kind in the reference"
    return {
        "kind": "SelfSubjectAccessReview",
        "apiVersion": "authorization.k8s.io/v1",
        "metadata": {},
        "spec": spec,
        "status": {"allowed": answer, "reason": reason},
    }
