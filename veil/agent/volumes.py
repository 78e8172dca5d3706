"""Volumes of Instances: what containers find under their mount paths, made before they start and removed with their Instance.

Below the node's directory each Instance has ``disk`` (emptyDir) and ``memory``, one tmpfs of its own for what must not reach a
disk: configuration, secrets, emptyDir in memory. The tmpfs is as large as the Instance's memory figure, so one Instance cannot
fill another's; what is written there counts for the container that writes it. After the machine was restarted it is made and
filled anew. A path of the machine is mounted only if the node's operator listed exactly that path: nothing a container does
inside a mount can change where a listed path leads.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from threading import Lock
from typing import Any

from veil.errors import Forbidden, NotFound
from veil.manifest.quantity import parse_bytes
from veil.runtime.disk_use import remove_tree
from veil.runtime.mounts import mount_tmpfs, unmount_below
from veil.runtime.ports import Mount

MEMORY_DEFAULT_BYTES = 64 << 20
"""The tmpfs of an Instance whose containers have no memory figure."""


class VolumeKind(StrEnum):
    """The values are the template's fields."""

    EMPTY_DIR = "emptyDir"
    HOST_PATH = "hostPath"
    CONFIG = "config"
    SECRET = "secret"  # noqa: S105 - a field


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """One volume of an Instance, and where it is on the machine."""

    name: str
    kind: VolumeKind
    source: Path
    files: Mapping[str, str]
    """Of a config or secret: contents by name."""
    in_memory: bool
    limit_bytes: int = 0
    """Of an emptyDir: what it may hold; 0 = no limit of its own."""


def volumes_of(template: Mapping[str, Any], home: Path) -> dict[str, Volume]:
    """The template's volumes by name; ``home`` is the Instance's directory.

    Raises KeyError, TypeError, ValueError, InvalidInput.
    """
    found: dict[str, Volume] = {}
    for given in template.get("volumes") or ():
        name = str(given["name"])
        (kind,) = [kind for kind in VolumeKind if kind.value in given]
        what = given[kind.value]
        in_memory = kind in (VolumeKind.CONFIG, VolumeKind.SECRET) or what.get("medium") == "Memory"
        source = Path(what["path"]) if kind is VolumeKind.HOST_PATH else home / ("memory" if in_memory else "disk") / name
        files = {str(file): str(content) for file, content in (what.get("files") or {}).items()}
        if name in found or any("/" in part or part in ("", ".", "..") for part in (name, *files)):
            raise ValueError("names of volumes or files")
        limit = parse_bytes(what["sizeLimit"]) if kind is VolumeKind.EMPTY_DIR and "sizeLimit" in what else 0
        found[name] = Volume(name=name, kind=kind, source=source, files=files, in_memory=in_memory, limit_bytes=limit)
    return found


def mounts_of(container: Mapping[str, Any], volumes: Mapping[str, Volume]) -> tuple[Mount, ...]:
    """Where a container has them, the outer before the inner. Raises KeyError, TypeError, ValueError."""
    mounts = []
    for given in container.get("volumeMounts") or ():
        volume, path = volumes[str(given["name"])], str(given["mountPath"])
        if not path.startswith("/") or ".." in path.split("/"):
            raise ValueError("a mount path")
        read_only = bool(given.get("readOnly", False)) or bool(volume.files)
        mounts.append(Mount(source=volume.source, destination=path, read_only=read_only))
    return tuple(sorted(mounts, key=lambda mount: mount.destination))


class Volumes:
    """The volumes below one directory. Every method blocks: not for the event loop."""

    def __init__(
        self,
        root: Path,
        *,
        host_paths: Sequence[Path] = (),
        make_memory: Callable[[Path, int], None] = mount_tmpfs,
        unmake_memory: Callable[[Path], None] = unmount_below,
    ) -> None:
        self._root = root.resolve()  # as mountinfo has it
        self._host_paths = frozenset(host_paths)
        self._make_memory = make_memory
        self._unmake_memory = unmake_memory
        self._lock = Lock()

    def home(self, instance: str) -> Path:
        """Where an Instance's volumes are."""
        return self._root / instance

    def prepare(self, instance: str, volumes: Iterable[Volume], memory_bytes: int) -> None:
        """Make what is not there. Raises Forbidden, NotFound for paths of the machine; OSError."""
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._lock:
            self._prepare(instance, volumes, memory_bytes)

    def _prepare(self, instance: str, volumes: Iterable[Volume], memory_bytes: int) -> None:
        for volume in volumes:
            if volume.kind is VolumeKind.HOST_PATH:
                self._check(volume)
                continue
            if volume.in_memory:
                self._memory(instance, memory_bytes)
            if not volume.source.is_dir():
                volume.source.mkdir(parents=True)
                volume.source.chmod(0o755 if volume.files else 0o777)
            for name, content in volume.files.items():
                _write(volume.source / name, content)

    def remove(self, instance: str) -> None:
        """Forget everything. Nothing there = done."""
        home = self.home(instance)
        with self._lock:
            if home.exists():
                self._unmake_memory(home)
                remove_tree(home)

    def instances(self) -> set[str]:
        """Those that have something here."""
        return {path.name for path in self._root.iterdir()} if self._root.is_dir() else set()

    def _check(self, volume: Volume) -> None:
        if volume.source not in self._host_paths:
            raise Forbidden(f"volume {volume.name}: this node does not allow its path", hint="set VEIL_HOST_PATHS on the node")
        if not volume.source.exists():
            raise NotFound(f"volume {volume.name}: its path is not there on this node", hint="make it")

    def _memory(self, instance: str, memory_bytes: int) -> None:
        point = self.home(instance) / "memory"
        point.mkdir(parents=True, exist_ok=True, mode=0o700)
        marker = point / ".mounted"
        if not marker.exists():  # inside the file system: gone with it
            self._make_memory(point, memory_bytes or MEMORY_DEFAULT_BYTES)
            marker.touch()


def _write(path: Path, content: str) -> None:
    """Whole or not at all; left alone when it is so already, because containers may be reading it."""
    if path.exists() and path.read_text() == content:
        return
    new = path.with_name(f".{path.name}.new")
    new.write_text(content)
    new.chmod(0o444)
    new.replace(path)
