"""Images that the cluster does not allow."""

import asyncio
import json
from typing import Any

import pytest

from veil.agent.images import EveryImage, Refusal
from veil.agent.keys import DesiredInstance
from veil.agent.status import IMAGE_LIST_MISSING, IMAGE_NOT_ALLOWED, IMAGE_PULL, INVALID_TEMPLATE
from veil.runtime.credentials import Login
from veil.types import Secret

pytestmark = pytest.mark.looptime


class Policy:
    """What a test lets the registry say: the manifests that are allowed, or None while the list is not here."""

    restricts = True

    def __init__(self, *manifests: str) -> None:
        self.manifests: tuple[str, ...] | None = manifests

    def refusal(self, image: str, manifest: str) -> Refusal | None:
        if self.manifests is None:
            return Refusal(IMAGE_LIST_MISSING, "not here yet")
        return None if manifest in self.manifests else Refusal(IMAGE_NOT_ALLOWED, f"{image} is not allowed")


@pytest.fixture
def policy(host: Any) -> Policy:
    """What the agent asks; nothing is allowed at first."""
    host.agent._images._policy = made = Policy()
    return made


async def test_an_image_that_the_registry_does_not_allow_never_starts(host: Any, policy: Policy) -> None:
    host.want(host.instance())
    await host.until(lambda: host.status().reason == IMAGE_NOT_ALLOWED)
    assert (host.status().phase, host.status().message) == ("Pending", "app:1 is not allowed")
    await asyncio.sleep(60)
    assert (host.count("create"), host.count("start")) == (0, 0)
    policy.manifests = (await host.runtime.pull("app:1"),)
    await host.until(lambda: host.status().phase == "Running", 6)


async def test_its_broken_twin_asks_nobody(host: Any, policy: Policy) -> None:
    host.agent._images._policy = EveryImage()
    host.want(host.instance())
    await host.until(lambda: host.status().phase == "Running")
    assert policy.manifests == ()


async def test_nothing_starts_until_the_list_is_here(host: Any, policy: Policy) -> None:
    policy.manifests = None
    host.want(host.instance())
    await host.until(lambda: host.status().reason == IMAGE_LIST_MISSING)
    assert host.count("create") == 0
    policy.manifests = (await host.runtime.pull("app:1"),)
    await host.until(lambda: host.status().phase == "Running", 6)


async def test_what_is_not_allowed_any_more_runs_on_and_is_not_started_again(host: Any, policy: Policy) -> None:
    policy.manifests = (await host.runtime.pull("app:1"),)
    host.want(host.instance())
    await host.until(lambda: host.status().phase == "Running")
    policy.manifests = ()
    await asyncio.sleep(60)
    assert host.status().phase == "Running"
    await host.restart_agent()
    host.agent._images._policy = policy
    host.want(host.instance())
    starts = host.count("start")
    host.machine.finish(host.id(), 1)
    await host.until(lambda: host.status().reason == IMAGE_NOT_ALLOWED)
    assert host.count("start") == starts
    policy.manifests = (await host.runtime.pull("app:1"),)
    await host.until(lambda: host.status().phase == "Running", 30)


def with_login(host: Any, number: int, password: str) -> DesiredInstance:
    text = json.dumps({"auths": {"docker.io": {"username": "ann", "password": password}}})
    secret = {"name": "login", "secret": {"files": {"config.json": text}}}
    wanted: DesiredInstance = host.instance(number, volumes=[secret], imagePullSecrets=[{"name": "login"}])
    return wanted


async def test_a_private_image_is_for_those_who_bring_the_login(host: Any) -> None:
    host.machine.private_images["app:1"] = Login("ann", Secret(b"sesame"), sealed=True)
    wanted = [with_login(host, 1, "sesame"), with_login(host, 2, "wrong"), host.instance(3)]
    host.want(*wanted)
    await host.until(lambda: host.status(1).phase == "Running")
    await host.until(lambda: {host.status(2).reason, host.status(3).reason} == {IMAGE_PULL})
    assert host.running() == {host.id(1)}
    assert host.in_memory == [], "a login that no container mounts is in no volume"


@pytest.mark.parametrize("secret", [{"config": {"files": {"config.json": "{}"}}}, {"secret": {"files": {"other": "{}"}}}])
async def test_logins_that_are_no_secret(host: Any, secret: dict[str, Any]) -> None:
    host.want(host.instance(1, volumes=[{"name": "login", **secret}], imagePullSecrets=[{"name": "login"}]))
    await host.until(lambda: host.status().reason == INVALID_TEMPLATE)


async def test_a_runtime_that_is_away_is_not_asked_for_an_image_again_and_again(host: Any) -> None:
    host.want(host.instance(1))
    await host.until(lambda: host.running() == {host.id(1)})
    host.machine.away()
    host.machine.calls.clear()
    host.want(host.instance(1), host.instance(2), host.instance(3))
    await host.until(lambda: host.status(2).reason == host.status(3).reason == "RuntimeUnavailable")
    await asyncio.sleep(60)
    assert host.count("pull") <= 4
    host.machine.back()
    await host.until(lambda: len(host.running()) == 3)
