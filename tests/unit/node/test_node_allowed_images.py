"""Which images a node may run, by what the registry says and by the list that the mesh keeps."""

import pytest
from node_world import World

from veil.errors import MeshUnavailable
from veil.node.allowed_images import AllowedImages, image_name
from veil.store.rows import ImagesRow
from veil.types import Digest
from veil.wire.codec import encode, sha256
from veil.wire.images import ImageList

pytestmark = pytest.mark.unit
GOOD, BAD = b"\1" * 32, b"\2" * 32
LIST = ImageList(manifests=(GOOD, b"\3" * 32))


def text(manifest: bytes) -> str:
    return f"sha256:{manifest.hex()}"


@pytest.fixture
async def world() -> World:
    return await World().start()


def restrict(world: World, row: ImagesRow) -> None:
    world.write(lambda writer: writer.put_images(row))


def reason(images: AllowedImages, manifest: bytes, image: str = "app:1") -> str:
    found = images.refusal(image, text(manifest))
    return found.reason if found else ""


async def test_the_list_is_fetched_from_another_node_and_kept_here(world: World) -> None:
    images = AllowedImages(world.projection, world.mesh)
    await images.sync()
    assert (images.restricts, reason(images, BAD)) == (False, "")
    restrict(world, ImagesRow(root=LIST.root, images=sha256(encode(LIST))))
    assert (images.restricts, reason(images, GOOD)) == (True, "ImageListMissing"), "closed until it is known"
    with pytest.raises(MeshUnavailable):
        await images.sync()
    await world.far.put(encode(LIST))
    await images.sync()
    assert (reason(images, GOOD), reason(images, BAD)) == ("", "ImageNotAllowed")
    assert await world.mesh.has(sha256(encode(LIST))), "others can have it from here"
    assert images.refusal("app:1", "") is not None, "a runtime without images has none that is allowed"
    restrict(world, ImagesRow(root=Digest(bytes(32)), images=Digest(bytes(32))))
    assert (images.restricts, reason(images, BAD)) == (False, "")


async def test_a_list_that_the_root_is_not_over_allows_nothing(world: World) -> None:
    images = AllowedImages(world.projection, world.mesh)
    other = LIST.changed(added=[BAD])
    await world.far.put(encode(other))
    restrict(world, ImagesRow(root=LIST.root, images=sha256(encode(other))))
    await images.sync()
    assert {reason(images, one) for one in (GOOD, BAD)} == {"ImageListMissing"}


async def test_a_later_root_counts_at_once(world: World) -> None:
    images = AllowedImages(world.projection, world.mesh)
    smaller = LIST.changed(removed=[GOOD])
    for one in (LIST, smaller):
        await world.far.put(encode(one))
    restrict(world, ImagesRow(root=LIST.root, images=sha256(encode(LIST))))
    await images.sync()
    assert reason(images, GOOD) == ""
    restrict(world, ImagesRow(root=smaller.root, images=sha256(encode(smaller))))
    assert reason(images, GOOD) == "ImageListMissing", "the old list is not the new one's"
    await images.sync()
    assert reason(images, GOOD) == "ImageNotAllowed"


async def test_a_name_stands_for_the_manifest_that_the_registry_commits_to(world: World) -> None:
    images = AllowedImages(world.projection, world.mesh)
    world.write(lambda writer: writer.put_manifest(image_name("app:1"), Digest(GOOD)))
    assert images.restricts
    assert (reason(images, GOOD), reason(images, BAD)) == ("", "ImageNotAllowed")
    assert reason(images, BAD, "docker.io/library/app:1") == "ImageNotAllowed", "by its full name too"
    assert reason(images, BAD, "app:2") == ""
    world.write(lambda writer: writer.put_manifest(image_name("app:1"), Digest(bytes(32))))
    assert (images.restricts, reason(images, BAD)) == (False, "")
