"""Pulling from an OCI registry: plain http on loopback only, with or without a login, content checked by whoever stores it.

Redirects (registries send blobs from elsewhere) are followed by hand: never from https to http, and never with the token.
Source: the OCI distribution specification 1.0; Docker's token authentication.
"""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urljoin, urlsplit

import aiohttp
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from veil.errors import DigestMismatch, ImageUnavailable
from veil.runtime.credentials import Login
from veil.runtime.oci import INDEX_TYPES, MANIFEST_TYPES, MAX_MANIFEST_BYTES, Descriptor, sha256
from veil.runtime.reference import Reference, is_loopback

ATTEMPTS = 3
BACKOFF_MAX_S = 5.0
CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 30.0
MAX_REDIRECTS = 5
_CHUNK_BYTES = 1 << 20
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


class _TryAgain(Exception):
    """The registry failed in a way that may pass."""


class RegistrySource:
    """One image of one registry. Use as ``async with``."""

    def __init__(self, reference: Reference, login: Login | None = None) -> None:
        self._reference = reference
        self._login = login
        self._authorization = ""
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "RegistrySource":
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=READ_TIMEOUT_S)
        self._session = aiohttp.ClientSession(timeout=timeout, auto_decompress=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def root(self) -> tuple[bytes, str]:
        raw, media_type = await self._manifest(self._reference.wanted)
        if self._reference.digest and sha256(raw) != self._reference.digest:
            raise DigestMismatch(
                f"image {self._reference}: the registry sent sha256 {sha256(raw)}", hint="do not use this registry"
            )
        return raw, media_type

    async def document(self, descriptor: Descriptor) -> bytes:
        return (await self._manifest(descriptor.digest))[0]

    async def blob(self, descriptor: Descriptor) -> AsyncIterator[bytes]:
        """One attempt: bytes already handed on cannot be taken back."""
        try:
            async with self._get(f"/v2/{self._reference.repository}/blobs/{descriptor.digest}", {}) as response:
                async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                    yield chunk
        except (aiohttp.ClientError, TimeoutError, _TryAgain) as error:
            raise self._unavailable(f"blob {descriptor.digest}: {error or type(error).__name__}") from error

    async def _manifest(self, wanted: str) -> tuple[bytes, str]:
        path = f"/v2/{self._reference.repository}/manifests/{wanted}"
        accept = {"Accept": ", ".join((*MANIFEST_TYPES, *INDEX_TYPES))}
        try:
            async for attempt in AsyncRetrying(
                stop=stop_after_attempt(ATTEMPTS),
                wait=wait_random_exponential(multiplier=0.2, max=BACKOFF_MAX_S),
                retry=retry_if_exception_type((aiohttp.ClientError, TimeoutError, _TryAgain)),
                reraise=True,
            ):
                with attempt:
                    async with self._get(path, accept) as response:
                        raw = await _read_bounded(response.content, MAX_MANIFEST_BYTES)
                        return raw, response.headers.get("Content-Type", "").split(";")[0]
        except (aiohttp.ClientError, TimeoutError, _TryAgain) as error:
            raise self._unavailable(str(error) or type(error).__name__) from error
        raise AssertionError("AsyncRetrying ends by return or raise")

    @asynccontextmanager
    async def _get(self, path: str, headers: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        """GET with a token if the registry asks for one, through redirects; yields a 200."""
        url, renewed = self._reference.endpoint + path, False
        for _ in range(MAX_REDIRECTS + 2):
            async with self._request(url, headers) as response:
                if response.status == 401 and not renewed:
                    renewed = True  # a token may have ended since the last request
                    await self._authenticate(response.headers.get("WWW-Authenticate", ""))
                elif response.status in (301, 302, 303, 307, 308):
                    url = self._redirected(url, response.headers.get("Location", ""))
                elif response.status == 200:
                    yield response
                    return
                elif response.status == 429 or response.status >= 500:
                    raise _TryAgain(_words(response.status, urlsplit(url).netloc))
                else:
                    raise self._unavailable(_words(response.status, urlsplit(url).netloc))
        raise self._unavailable(f"over {MAX_REDIRECTS} redirects")

    def _request(self, url: str, headers: Mapping[str, str]) -> "aiohttp.client._RequestContextManager":
        assert self._session is not None
        own = urlsplit(url).netloc == urlsplit(self._reference.endpoint).netloc
        token = {"Authorization": self._authorization} if self._authorization and own else {}
        return self._session.get(url, headers={**headers, **token}, allow_redirects=False)

    def _redirected(self, url: str, location: str) -> str:
        target = urljoin(url, location)
        parts = urlsplit(target)
        if parts.scheme != "https" and not (parts.scheme == "http" and url.startswith("http:") and is_loopback(parts.netloc)):
            raise self._unavailable(f"redirected to {parts.scheme}://{parts.netloc}, which is not safe")
        return target

    async def _authenticate(self, challenge: str) -> None:
        """As the registry wants it: the login itself, or a token for it; without a login a token for nobody in particular."""
        kind = challenge.partition(" ")[0].lower()
        if kind == "basic" and self._login is not None and self._login.password.reveal():
            self._authorization = self._login.basic
            return
        fields = dict(_CHALLENGE.findall(challenge))
        realm = fields.pop("realm", "")
        if kind != "bearer" or not realm:
            raise self._unavailable("it wants a login" if self._login is None else "it takes no login of this kind")
        token = await self._token(self._redirected(self._reference.endpoint, realm), fields)
        self._authorization = f"Bearer {token}"

    async def _token(self, realm: str, fields: dict[str, str]) -> str:
        """Docker's token authentication; with an identity token OAuth 2's refresh."""
        assert self._session is not None
        login = self._login
        if login is not None and (refresh := login.identity_token.reveal().decode()):
            form = {**fields, "grant_type": "refresh_token", "refresh_token": refresh, "client_id": "veil"}
            request = self._session.post(realm, data=form, allow_redirects=False)
        else:
            headers = {"Authorization": login.basic} if login is not None else {}
            request = self._session.get(realm, params=fields, headers=headers, allow_redirects=False)
        async with request as response:
            if response.status != 200:
                whose = "anonymous" if login is None else f"of {login.words}"
                raise self._unavailable(f"no token {whose}: status {response.status}")
            answer = await response.json(content_type=None)
        token = str(answer.get("token") or answer.get("access_token") or "")
        if not token:
            raise self._unavailable("no token in the answer to the login")
        return token

    def _unavailable(self, why: str) -> ImageUnavailable:
        return ImageUnavailable(
            f"image {self._reference}: {why}",
            hint="check its name, the way to the registry, and the login: imagePullSecrets, or VEIL_REGISTRY_CREDENTIALS",
        )


def _words(status: int, host: str) -> str:
    said = {401: "wants a login", 403: "refuses", 404: "does not have it", 429: "wants fewer requests"}
    return f"{host} {said.get(status, 'fails' if status >= 500 else 'gives no image')} (status {status})"


async def _read_bounded(stream: aiohttp.StreamReader, max_bytes: int) -> bytes:
    data = bytearray()
    async for chunk in stream.iter_chunked(_CHUNK_BYTES):
        data += chunk
        if len(data) > max_bytes:
            raise ImageUnavailable(f"a manifest of over {max_bytes} bytes", hint="this is no usable image")
    return bytes(data)
