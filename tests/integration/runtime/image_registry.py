"""An OCI registry on loopback: real http, an image, and levers for what can go wrong."""

import asyncio
import base64
import json
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from veil.runtime.oci import INDEX_TYPES, MANIFEST_TYPES, architecture, sha256

TOKEN = "let-me-in"
LOGIN = "Basic " + base64.b64encode(b"ann:open sesame").decode()


@dataclass
class Registry:
    """An OCI registry in memory, with levers for what can go wrong."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    address: str = ""
    wants_token: bool = False
    wants_basic: str = ""
    """The Authorization header that it wants."""
    token_for: str = ""
    """The Authorization header, or the refresh token, that a token is given for."""
    token_uses: int = 1000
    """How often the first token is good; later ones are for good, as downloads beside each other share one."""
    tokens: int = 0
    uses: int = 0
    slow_s: float = 0.0
    seen: list[tuple[str, str]] = field(default_factory=list)
    """Path and Authorization of every request."""
    failures: list[int] = field(default_factory=list)
    corrupt: str = ""
    redirect_blobs_to: str = ""
    asked: list[str] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        self.seen.append((request.path, request.headers.get("Authorization", "")))
        await asyncio.sleep(self.slow_s)
        if self.wants_basic and request.headers.get("Authorization") != self.wants_basic:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="test"'})
        self.uses += 1
        lasts = self.uses <= self.token_uses or self.tokens > 1
        right = lasts and request.headers.get("Authorization") == f"Bearer {TOKEN}"
        if self.wants_token and not right:
            challenge = f'Bearer realm="http://{self.address}/token",service="test",scope="repository:a/b:pull"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        if self.failures:
            return web.Response(status=self.failures.pop(0))
        kind, name = request.match_info["kind"], request.match_info["name"]
        if kind == "manifests" and name in self.manifests:
            media_type, data = self.manifests[name]
            return web.Response(body=data, content_type=media_type)
        if kind == "blobs" and name in self.blobs:
            if self.redirect_blobs_to:
                return web.Response(status=307, headers={"Location": f"{self.redirect_blobs_to}/stored/{name}"})
            data = self.blobs[name]
            return web.Response(body=bytes(len(data)) if name == self.corrupt else data)
        return web.Response(status=404)

    async def version(self, request: web.Request) -> web.Response:
        """What Docker asks first, to find out what kind of login is wanted."""
        if self.wants_basic and request.headers.get("Authorization") != self.wants_basic:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="test"'})
        return web.Response()

    async def token(self, request: web.Request) -> web.Response:
        form = await request.post() if request.method == "POST" else {}
        assert {**request.query, **form}["scope"] == "repository:a/b:pull"
        if self.token_for and self.token_for not in (request.headers.get("Authorization"), form.get("refresh_token")):
            return web.Response(status=401)
        self.tokens, self.uses = self.tokens + 1, 0
        return web.json_response({"token": TOKEN})

    async def stored(self, request: web.Request) -> web.Response:
        self.seen.append((request.path, request.headers.get("Authorization", "")))
        return web.Response(body=self.blobs[request.match_info["name"]])


@asynccontextmanager
async def serving(archive: Path) -> AsyncIterator[Registry]:
    """A registry on loopback that has the image of ``archive`` as ``a/b:1``."""
    one = Registry()
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            data = tar.extractfile(member).read()  # type: ignore[union-attr]
            if member.name.startswith("blobs/"):
                one.blobs[sha256(data)] = data
            elif member.name == "index.json":
                manifest = json.loads(data)["manifests"][0]["digest"]
    one.manifests[manifest] = one.manifests["1"] = (MANIFEST_TYPES[0], one.blobs.pop(manifest))
    entries = [
        {
            "mediaType": MANIFEST_TYPES[0],
            "digest": "sha256:" + "0" * 64,
            "size": 1,
            "platform": {"os": "linux", "architecture": "s390x"},
        },
        {
            "mediaType": MANIFEST_TYPES[0],
            "digest": manifest,
            "size": 1,
            "platform": {"os": "linux", "architecture": architecture()},
        },
    ]
    index = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    one.manifests["multi"] = one.manifests[sha256(index)] = (INDEX_TYPES[0], index)
    alien = json.dumps({"schemaVersion": 2, "manifests": entries[:1]}).encode()
    one.manifests["alien"] = (INDEX_TYPES[0], alien)
    app = web.Application()
    app.router.add_get("/v2/a/b/{kind}/{name}", one.handle)
    app.router.add_get("/v2/", one.version)
    app.router.add_get("/token", one.token)
    app.router.add_post("/token", one.token)
    app.router.add_get("/stored/{name}", one.stored)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    one.address = f"127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield one
    finally:
        await runner.cleanup()


def auths(registry: Registry, login: str = LOGIN) -> str:
    """The login as ``docker login`` would write it."""
    return json.dumps({"auths": {registry.address: {"auth": login.removeprefix("Basic ")}}})
