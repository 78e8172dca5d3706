"""Pulling from registries that are honest, picky, broken or lying: real http, and a real containerd behind it."""

import base64
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from image_registry import LOGIN, Registry, auths

from veil.errors import DigestMismatch, ImageUnavailable
from veil.runtime import registry as registry_module
from veil.runtime.containerd import ContainerdRuntime
from veil.runtime.credentials import Logins
from veil.runtime.oci import sha256
from veil.runtime.ports import ContainerSpec, ContainerState
from veil.types import Secret

pytestmark = pytest.mark.runtime


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


async def test_an_image_of_one_callers_login_is_no_others(
    runtime: ContainerdRuntime, registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    registry.wants_basic, name = LOGIN, f"{registry.address}/a/b:1"
    own = Logins((Secret(auths(registry).encode()),)).find(registry.address)
    wrong = Logins((Secret(auths(registry, "Basic " + base64.b64encode(b"bob:guess").decode()).encode()),)).find(registry.address)
    digest = await runtime.pull(name, own)
    registry.asked.clear()
    assert await runtime.pull(name, own) == digest
    assert registry.asked == [], "it was given to this login"
    for other in (None, wrong):
        with pytest.raises(ImageUnavailable, match="wants a login") as caught:
            await runtime.pull(name, other)
        assert not any(word in str(caught.value) for word in ("ann", "bob", "sesame", "guess"))
    after_a_restart = ContainerdRuntime(runtime._socket, namespace=runtime._namespace, snapshotter=runtime._snapshotter)
    await after_a_restart.start_driver()
    try:
        with pytest.raises(ImageUnavailable):
            await after_a_restart.pull(name)
        assert await after_a_restart.pull(name, own) == digest
    finally:
        await after_a_restart.close()
    assert not any(word in caplog.text + repr(own) for word in ("sesame", LOGIN.removeprefix("Basic ")))


async def test_an_image_that_the_node_may_have_is_everybodys(runtime: ContainerdRuntime, registry: Registry, login: Path) -> None:
    registry.wants_basic, name = LOGIN, f"{registry.address}/a/b:1"
    digest = await runtime.pull(name)
    registry.asked.clear()
    other = Logins((Secret(auths(registry, "Basic Ym9iOmd1ZXNz").encode()),)).find(registry.address)
    assert [await runtime.pull(name, other), await runtime.pull(name)] == [digest] * 2
    assert registry.asked == []


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": 1}', '{"auths": {"r.test": {}}}'])
def test_logins_that_are_none(text: str) -> None:
    with pytest.raises(ImageUnavailable, match="the workload's registry logins are of no use"):
        Logins((Secret(text.encode()),)).find("r.test")
    assert Logins((Secret(b'{"auths": {}}'),)).find("r.test") is None
