"""Pulling from registries that are honest, picky, broken or lying: real http, and a real containerd behind it."""

import asyncio
import base64
import json
import tarfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from veil.errors import DigestMismatch, ImageUnavailable
from veil.runtime import registry as registry_module
from veil.runtime.containerd import ContainerdRuntime
from veil.runtime.oci import INDEX_TYPES, MANIFEST_TYPES, architecture, sha256
from veil.runtime.ports import ContainerSpec, ContainerState

pytestmark = pytest.mark.runtime

TOKEN = "let-me-in"


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


@pytest.fixture
async def registry(archive: Path) -> AsyncIterator[Registry]:
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


@pytest.fixture
async def runtime(connect_containerd: Callable[[], ContainerdRuntime], tmp_path: Path) -> AsyncIterator[ContainerdRuntime]:
    """In a namespace of its own, so that nothing is there already."""
    one = connect_containerd()
    one._namespace = f"pull-{abs(hash(tmp_path))}"
    await one.start_driver()
    try:
        yield one
    finally:
        await one.close()


async def test_pull_then_no_network(runtime: ContainerdRuntime, registry: Registry) -> None:
    digest = await runtime.pull(f"{registry.address}/a/b:1")
    assert digest in registry.manifests
    registry.asked.clear()
    assert await runtime.pull(f"{registry.address}/a/b:1") == digest
    assert registry.asked == []


async def test_what_was_pulled_can_be_removed_and_its_disk_is_freed(
    runtime: ContainerdRuntime, registry: Registry, archive: Path
) -> None:
    name = f"{registry.address}/a/b:1"
    root = await runtime._snapshots.root()
    before = len(list((root / "snapshots").iterdir()))
    await runtime.pull(name)
    await runtime.import_image("veil.dev/imported:1", archive)
    assert {(image.name, image.pulled) for image in await runtime.images()} == {(name, True), ("veil.dev/imported:1", False)}
    disk = await runtime.disk()
    assert 0 < disk.used_bytes < disk.total_bytes
    await runtime.remove_image(name)
    await runtime.remove_image(name)
    assert [image.name for image in await runtime.images()] == ["veil.dev/imported:1"]
    await runtime.remove_image("veil.dev/imported:1")
    assert len(list((root / "snapshots").iterdir())) == before
    with pytest.raises(ImageUnavailable):
        await runtime._images.get(name)
    registry.asked.clear()
    await runtime.pull(name)
    assert registry.asked, "it had to be fetched again"


async def test_a_container_goes_on_without_its_image(runtime: ContainerdRuntime, registry: Registry, tmp_path: Path) -> None:
    name = f"{registry.address}/a/b:1"
    await runtime.pull(name)
    spec = ContainerSpec(id="a", image=name, command=("sleep", "1000"), stdout=tmp_path / "o", stderr=tmp_path / "e")
    try:
        assert (await runtime.create(spec)).image == name
        await runtime.start("a")
        await runtime.remove_image(name)
        assert (await runtime.exec("a", ["true"])).exit_code == 0
        await runtime.stop("a", grace_s=0)
        assert (await runtime.start("a")).state is ContainerState.RUNNING
    finally:
        await runtime.delete("a")


async def test_index_gives_this_machines_image(runtime: ContainerdRuntime, registry: Registry) -> None:
    assert await runtime.pull(f"{registry.address}/a/b:multi") == await runtime.pull(f"{registry.address}/a/b:1")


async def test_image_for_other_machines(runtime: ContainerdRuntime, registry: Registry) -> None:
    with pytest.raises(ImageUnavailable, match="linux/s390x"):
        await runtime.pull(f"{registry.address}/a/b:alien")


async def test_token_is_fetched(runtime: ContainerdRuntime, registry: Registry) -> None:
    registry.wants_token = True
    await runtime.pull(f"{registry.address}/a/b:1")


@pytest.mark.parametrize("failures", [[500], [429, 503]])
async def test_passing_failures_are_retried(runtime: ContainerdRuntime, registry: Registry, failures: list[int]) -> None:
    registry.failures = list(failures)
    await runtime.pull(f"{registry.address}/a/b:1")


async def test_lasting_failure(runtime: ContainerdRuntime, registry: Registry) -> None:
    registry.failures = [500] * 10
    with pytest.raises(ImageUnavailable, match="500"):
        await runtime.pull(f"{registry.address}/a/b:1")
    assert len(registry.failures) == 7


async def test_no_such_tag(runtime: ContainerdRuntime, registry: Registry) -> None:
    with pytest.raises(ImageUnavailable, match="404"):
        await runtime.pull(f"{registry.address}/a/b:none")


async def test_a_layer_that_is_another_is_refused_and_not_kept(runtime: ContainerdRuntime, registry: Registry) -> None:
    registry.corrupt = max(registry.blobs, key=lambda digest: len(registry.blobs[digest]))
    with pytest.raises(DigestMismatch):
        await runtime.pull(f"{registry.address}/a/b:1")
    registry.corrupt = ""
    await runtime.pull(f"{registry.address}/a/b:1")


async def test_pinned_digest(runtime: ContainerdRuntime, registry: Registry) -> None:
    media_type, manifest = registry.manifests["1"]
    pinned = f"{registry.address}/a/b@{sha256(manifest)}"
    registry.manifests[sha256(manifest)] = (media_type, manifest + b" ")
    with pytest.raises(DigestMismatch):
        await runtime.pull(pinned)
    registry.manifests[sha256(manifest)] = (media_type, manifest)
    assert await runtime.pull(pinned) == sha256(manifest)


LOGIN = "Basic " + base64.b64encode(b"ann:open sesame").decode()


def logins(path: Path, registry: str, **entry: str) -> Path:
    path.write_text(json.dumps({"auths": {registry: entry}}))
    path.chmod(0o600)
    return path


@pytest.fixture
def login(runtime: ContainerdRuntime, registry: Registry, tmp_path: Path) -> Path:
    """A file with ann's login, which the runtime uses."""
    path = logins(tmp_path / "logins.json", registry.address, auth=LOGIN.removeprefix("Basic "))
    runtime._images._credentials = path
    return path


async def test_basic_login(runtime: ContainerdRuntime, registry: Registry, login: Path) -> None:
    registry.wants_basic = LOGIN
    await runtime.pull(f"{registry.address}/a/b:1")


async def test_a_token_for_a_login(runtime: ContainerdRuntime, registry: Registry, login: Path) -> None:
    registry.wants_token, registry.token_for = True, LOGIN
    await runtime.pull(f"{registry.address}/a/b:1")
    assert LOGIN not in {header for path, header in registry.seen}, "the registry itself has the token only"


async def test_a_token_for_an_identity_token(runtime: ContainerdRuntime, registry: Registry, login: Path) -> None:
    logins(login, registry.address, auth=base64.b64encode(b"ann:").decode(), identitytoken="refresh-me")
    registry.wants_token, registry.token_for = True, "refresh-me"
    await runtime.pull(f"{registry.address}/a/b:1")


async def test_a_token_that_ends_on_the_way_is_renewed(runtime: ContainerdRuntime, registry: Registry) -> None:
    registry.wants_token, registry.token_uses = True, 1
    await runtime.pull(f"{registry.address}/a/b:1")
    assert registry.tokens > 1


async def test_a_wrong_login_is_named_without_its_password(runtime: ContainerdRuntime, registry: Registry, login: Path) -> None:
    registry.wants_token, registry.token_for = True, "Basic other"
    with pytest.raises(ImageUnavailable, match="no token of ann: status 401") as caught:
        await runtime.pull(f"{registry.address}/a/b:1")
    assert "sesame" not in caught.value.message + caught.value.hint
    registry.wants_token, registry.wants_basic = False, "Basic other"
    with pytest.raises(ImageUnavailable, match="wants a login"):
        await runtime.pull(f"{registry.address}/a/b:1")


async def test_a_login_is_for_its_registry_only(runtime: ContainerdRuntime, registry: Registry, login: Path) -> None:
    logins(login, "registry.invalid", auth=LOGIN.removeprefix("Basic "))
    registry.wants_basic = LOGIN
    with pytest.raises(ImageUnavailable, match="wants a login"):
        await runtime.pull(f"{registry.address}/a/b:1")
    assert {header for _, header in registry.seen} == {""}


async def test_a_login_does_not_follow_a_redirect_elsewhere(runtime: ContainerdRuntime, registry: Registry, login: Path) -> None:
    registry.wants_basic = LOGIN
    registry.redirect_blobs_to = f"http://localhost:{registry.address.rpartition(':')[2]}"
    await runtime.pull(f"{registry.address}/a/b:1")
    stored = [header for path, header in registry.seen if path.startswith("/stored/")]
    assert stored
    assert set(stored) == {""}


async def test_a_file_of_logins_that_others_may_read_or_that_is_none(
    runtime: ContainerdRuntime, registry: Registry, login: Path
) -> None:
    login.chmod(0o644)
    with pytest.raises(ImageUnavailable, match="others may read it"):
        await runtime.pull(f"{registry.address}/a/b:1")
    for content in ("[]", "{", json.dumps({"auths": {registry.address: {}}}), json.dumps({"auths": {registry.address: 1}})):
        login.write_text(content)
        login.chmod(0o600)
        with pytest.raises(ImageUnavailable, match="not as docker login writes it"):
            await runtime.pull(f"{registry.address}/a/b:1")
    login.unlink()
    with pytest.raises(ImageUnavailable, match="No such file"):
        await runtime.pull(f"{registry.address}/a/b:1")


async def test_a_registry_that_takes_too_long(
    runtime: ContainerdRuntime, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_module, "READ_TIMEOUT_S", 0.2)
    registry.slow_s = 5
    with pytest.raises(ImageUnavailable, match="Timeout"):
        await runtime.pull(f"{registry.address}/a/b:1")
    registry.slow_s = 0.1
    await runtime.pull(f"{registry.address}/a/b:1")


async def test_a_registry_that_wants_fewer_requests_for_long(runtime: ContainerdRuntime, registry: Registry) -> None:
    registry.failures = [429] * 10
    with pytest.raises(ImageUnavailable, match=r"wants fewer requests \(status 429\)"):
        await runtime.pull(f"{registry.address}/a/b:1")
    assert len(registry.failures) == 7


async def test_redirects_on_loopback_are_followed(runtime: ContainerdRuntime, registry: Registry) -> None:
    registry.redirect_blobs_to = f"http://{registry.address}"
    await runtime.pull(f"{registry.address}/a/b:1")


async def test_redirects_into_the_open_are_not(runtime: ContainerdRuntime, registry: Registry) -> None:
    registry.redirect_blobs_to = "http://registry.invalid"
    with pytest.raises(ImageUnavailable, match="not safe"):
        await runtime.pull(f"{registry.address}/a/b:1")
