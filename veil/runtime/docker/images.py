"""Images of the daemon: it pulls and keeps them; this names, loads and lists them."""

import asyncio
import base64
import contextlib
import io
import json
import tarfile
import tempfile
from pathlib import Path
from typing import IO, Any

from veil.errors import Conflict, ImageUnavailable, NotFound, RuntimeFailed
from veil.runtime.credentials import Login, login_for
from veil.runtime.docker.connection import Connection
from veil.runtime.oci import MANIFEST_TYPES
from veil.runtime.ports import Image
from veil.runtime.reference import Reference, parse_reference

PULL_TIMEOUT_S = 600.0
LOAD_TIMEOUT_S = 120.0
_LAYOUT = ("index.json", "oci-layout")
"""With these podman takes it for what it was, and forgets the name."""


class Images:
    """``credentials``: the file of registry logins. ``guarded``: this driver's own, of names fetched with a caller's."""

    def __init__(self, connection: Connection, credentials: Path | None, guarded: Path) -> None:
        self._connection = connection
        self._credentials = credentials
        self._guarded = guarded
        self._granted: set[tuple[str, Login]] = set()
        """Guarded names that the registry gave to this login."""

    async def digest(self, name: str) -> str:
        """Of the manifest, or where the daemon does not keep that (a loaded image) of the config. Raises ImageUnavailable."""
        reference = parse_reference(name)
        try:
            found = await self._connection.call("GET", f"/images/{reference}/json")
        except NotFound as error:
            raise ImageUnavailable(f"image {reference} is not here", hint="pull it first") from error
        digests = [one.partition("@")[2] for one in found.get("RepoDigests") or []]
        return str(reference.digest or (digests[0] if digests else found["Id"]))

    async def pull(self, name: str, own: Login | None) -> str:
        """``own``: the caller's login. A guarded image that is here is fetched again, of which the daemon does what is new."""
        reference = parse_reference(name)
        guarded = str(reference) in await asyncio.to_thread(self._read_guarded)
        with contextlib.suppress(ImageUnavailable):
            digest = await self.digest(name)
            if not guarded or (own is not None and (str(reference), own) in self._granted):
                return digest
        login = own or await asyncio.to_thread(login_for, self._credentials, reference.registry)
        if own is not None and not guarded:
            await asyncio.to_thread(self._guard, str(reference))
        await self._fetch(reference, login)
        if own is not None:
            self._granted.add((str(reference), own))
        return await self.digest(name)

    def _read_guarded(self) -> set[str]:
        return set(self._guarded.read_text().splitlines()) if self._guarded.exists() else set()

    def _guard(self, name: str) -> None:
        """Before it is here: a crash in between guards what is not there."""
        with self._guarded.open("a") as file:
            file.write(f"{name}\n")

    async def _fetch(self, reference: Reference, login: Login | None) -> None:
        headers = {"X-Registry-Auth": _auth(login, reference.registry)} if login else None
        query = {"fromImage": f"{reference.registry}/{reference.repository}", "tag": reference.wanted}
        try:
            async with self._connection.open(
                "POST", "/images/create", query=query, headers=headers, timeout_s=PULL_TIMEOUT_S
            ) as response:
                async for line in response.content:
                    if problem := json.loads(line).get("error"):
                        raise _not_pulled(reference, str(problem))
        except (NotFound, RuntimeFailed) as error:
            if isinstance(error, ImageUnavailable):
                raise
            raise _not_pulled(reference, error.message) from error

    async def load(self, name: str, archive: Path) -> str:
        with tempfile.TemporaryFile() as file:
            digest = await asyncio.to_thread(as_docker_archive, archive, str(parse_reference(name)), file)
            async with self._connection.open(
                "POST", "/images/load", data=file, headers={"Content-Type": "application/x-tar"}, timeout_s=LOAD_TIMEOUT_S
            ) as response:
                said = await response.text()
        if '"error"' in said:
            raise ImageUnavailable(f"{archive} was not loaded: {said[:200]}", hint="is it an OCI image layout?")
        return digest

    async def list(self) -> list[Image]:
        listed = await self._connection.call("GET", "/images/json")
        return [
            Image(name=str(parse_reference(tag)), pulled=bool(one.get("RepoDigests")))
            for one in listed
            for tag in one.get("RepoTags") or []
            if tag != "<none>:<none>"
        ]

    async def remove(self, name: str) -> None:
        try:
            await self._connection.call("DELETE", f"/images/{parse_reference(name)}", query={"force": "0"})
        except NotFound:
            return
        except Conflict as error:
            raise Conflict(f"image {name} is in use: {error.message}", hint="the daemon keeps it for its containers") from error


def _auth(login: Login, registry: str) -> str:
    said = {"username": login.username, "password": login.password.reveal().decode(), "serveraddress": registry}
    if token := login.identity_token.reveal().decode():
        said = {"identitytoken": token, "serveraddress": registry}
    return base64.urlsafe_b64encode(json.dumps(said).encode()).decode()


def _not_pulled(reference: Reference, why: str) -> ImageUnavailable:
    return ImageUnavailable(f"image {reference} cannot be had: {why[:200]}", hint="check its name and the registry's login")


def as_docker_archive(archive: Path, name: str, into: IO[bytes]) -> str:
    """The layout's tar with the ``manifest.json`` that `docker load` goes by; gives back the image manifest's digest."""
    try:
        with tarfile.open(archive) as layout, tarfile.open(fileobj=into, mode="w") as out:
            index = _json(layout, "index.json")
            entry = next(one for one in index["manifests"] if one["mediaType"] in MANIFEST_TYPES)
            manifest = _json(layout, _blob(entry["digest"]))
            listed = [
                {
                    "Config": _blob(manifest["config"]["digest"]),
                    "RepoTags": [name],
                    "Layers": [_blob(layer["digest"]) for layer in manifest["layers"]],
                }
            ]
            for member in layout.getmembers():
                if member.name in _LAYOUT:
                    continue
                out.addfile(member, layout.extractfile(member) if member.isfile() else None)
            data = json.dumps(listed).encode()
            added = tarfile.TarInfo("manifest.json")
            added.size = len(data)
            out.addfile(added, io.BytesIO(data))
    except (OSError, tarfile.TarError, ValueError, KeyError, StopIteration) as error:
        raise ImageUnavailable(f"{archive} is no OCI image layout: {error!r}", hint="build it anew") from error
    into.seek(0)
    return str(entry["digest"])


def _json(layout: tarfile.TarFile, name: str) -> Any:
    member = layout.extractfile(name)
    if member is None:
        raise KeyError(name)
    return json.loads(member.read())


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"
