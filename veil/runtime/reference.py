"""Image references: ``[registry/]repository[:tag][@digest]``, filled up the way Docker users expect.

Source: the OCI distribution specification and the reference grammar of the distribution project.
"""

import ipaddress
import re
from dataclasses import dataclass

from veil.errors import ImageUnavailable

_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class Reference:
    """Where an image is. ``digest`` (may be empty) pins it: then the tag is only decoration."""

    registry: str
    repository: str
    tag: str
    digest: str

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.registry}/{self.repository}{tag}{'@' + self.digest if self.digest else ''}"

    @property
    def wanted(self) -> str:
        """What to ask the registry for: the digest if there is one."""
        return self.digest or self.tag

    @property
    def endpoint(self) -> str:
        """The registry's address: plain http for loopback addresses, https for all others."""
        host = "registry-1.docker.io" if self.registry == "docker.io" else self.registry
        return f"{'http' if is_loopback(host) else 'https'}://{host}"


def parse_reference(text: str) -> Reference:
    """Raises ImageUnavailable when ``text`` names no image."""
    rest, _, digest = text.partition("@")
    head, slash, tail = rest.partition("/")
    if slash and ("." in head or ":" in head or head == "localhost"):
        registry, path = head, tail
    else:
        registry, path = "docker.io", rest if slash else f"library/{rest}"
    repository, colon, tag = path.partition(":")
    if not tag and not digest and not colon:
        tag = "latest"
    wrong = (
        not _HOST.fullmatch(registry)
        or not _REPOSITORY.fullmatch(repository)
        or (tag and not _TAG.fullmatch(tag))
        or (colon and not tag)
        or ("@" in text and not _DIGEST.fullmatch(digest))
    )
    if wrong:
        raise ImageUnavailable(
            f"{text!r} is not the name of an image", hint="write it as registry/repository:tag or registry/repository@sha256:…"
        )
    return Reference(registry, repository, tag, digest)


def is_loopback(host: str) -> bool:
    """Whether ``host[:port]`` never leaves this machine."""
    name = host.rpartition(":")[0] if re.search(r":[0-9]+$", host) and not host.endswith("]") else host
    name = name.strip("[]")
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
