"""The GPUs of this machine as NVIDIA's management library (NVML) sees them, and which container has which.

The library belongs to the driver and is loaded when the node looks, so that a driver that comes later is found. Without it there
are no GPUs here: that is said, and is no error. A GPU goes to one container as a whole; which ones a container has stands in its
labels, so a later agent finds them where they are. One that a process of somebody else's uses is offered to nobody.
Source: the NVML API reference, r535.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from veil.errors import Conflict, NotFound
from veil.runtime.ports import ContainerSpec, Runtime

log = logging.getLogger(__name__)

PERIOD_S = 10.0
LIBRARY = "libnvidia-ml.so.1"
LABEL_GPUS = "veil.dev/gpus"
"""On a container: the UUIDs of its GPUs, with commas."""

CONTROL_DEVICES = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset")
"""Beside a GPU's own: what CUDA opens, as far as the driver has made them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU now. ``minor`` is the number of its device, ``pids`` are the processes that compute on it."""

    uuid: str
    name: str
    minor: int
    memory_bytes: int
    memory_used_bytes: int
    busy_percent: int
    pids: tuple[int, ...] = ()


class Gpus:
    """What was seen at the last :meth:`sync`, which is level-triggered. ``devices`` is where device nodes are."""

    def __init__(self, runtime: Runtime, *, devices: Path = Path("/dev"), read: Callable[[], list[Gpu]] | None = None) -> None:
        self._runtime = runtime
        self._devices = devices
        self._read = read or read_nvml
        self._seen: tuple[Gpu, ...] = ()
        self._ours: set[str] = set()
        self._giving = asyncio.Lock()
        self.problem = ""
        """Why no GPU is offered although there are some; empty when there are none, or all is well."""

    async def sync(self) -> None:
        """Look. Raises VeilError when the runtime does not say who has which."""
        await asyncio.to_thread(self._look)
        if self._seen:
            self._ours = await self._assigned()

    def _look(self) -> None:
        nodes = [path for path in self._devices.glob("nvidia[0-9]*") if path.name[6:].isdecimal()]
        try:
            self._seen, self.problem = tuple(self._read()), ""
        except NvmlAway as error:
            self._seen, self.problem = (), f"there are device nodes of GPUs, but {error}" if nodes else ""

    @property
    def seen(self) -> tuple[Gpu, ...]:
        return self._seen

    @property
    def usable_count(self) -> int:
        """Those that are ours to give, given or not."""
        return sum(1 for gpu in self._seen if gpu.uuid in self._ours or not _is_others(gpu))

    async def give(self, spec: ContainerSpec, count: int, create: Callable[[ContainerSpec], Awaitable[None]]) -> None:
        """``create`` the container with ``count`` GPUs of its own.

        Raises NotFound where there are none at all, Conflict where too few are left, and what ``create`` raises.
        """
        async with self._giving:
            chosen = self._choose(count, await self._assigned())
            uuids = ",".join(gpu.uuid for gpu in chosen)
            devices = await asyncio.to_thread(self._device_nodes, chosen)
            env = {**spec.env, "NVIDIA_VISIBLE_DEVICES": uuids}
            await create(replace(spec, devices=devices, env=env, labels={**spec.labels, LABEL_GPUS: uuids}))

    async def _assigned(self) -> set[str]:
        """The GPUs that containers have."""
        listed = [one.labels.get(LABEL_GPUS, "") for one in await self._runtime.list()]
        return {uuid for text in listed for uuid in text.split(",") if uuid}

    def _choose(self, count: int, taken: set[str]) -> tuple[Gpu, ...]:
        if not self._seen:
            raise NotFound(
                "this node has no GPU that it can see" + (f": {self.problem}" if self.problem else f" ({LIBRARY} is not there)"),
                hint="install NVIDIA's driver with its libraries, or run it elsewhere",
            )
        free = [gpu for gpu in self._seen if gpu.uuid not in taken and not _is_others(gpu)]
        if len(free) < count:
            raise Conflict("not as many GPUs are free on this node as are asked for", hint="see who uses them with nvidia-smi")
        return tuple(free[:count])

    def _device_nodes(self, gpus: Sequence[Gpu]) -> tuple[Path, ...]:
        """What a container needs to use them. Raises NotFound when a GPU's own is missing."""
        own = [self._devices / f"nvidia{gpu.minor}" for gpu in gpus]
        if missing := [path for path in own if not path.exists()]:
            raise NotFound(f"there is no device node {missing[0]}", hint="run nvidia-modprobe, or nvidia-smi once")
        control = [self._devices / name for name in CONTROL_DEVICES]
        return (*own, *(path for path in control if path.exists()))


class NvmlAway(Exception):
    """The library is not there, or its driver is not."""


def read_nvml() -> list[Gpu]:
    """Every GPU. Raises NvmlAway. Blocks for some milliseconds."""
    nvml = _binding()
    try:
        nvml.nvmlInit()
        try:
            handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
            return [gpu for gpu in map(_read_one, handles) if gpu is not None]
        finally:
            nvml.nvmlShutdown()
    except nvml.NVMLError_LibraryNotFound as error:
        raise NvmlAway(f"{LIBRARY} is not there") from error
    except nvml.NVMLError as error:
        raise NvmlAway(f"NVML says: {error}") from error


def _read_one(handle: Any) -> Gpu | None:
    """None for one that has failed: it has fallen off the bus, or hangs."""
    nvml = _binding()
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        return Gpu(
            uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
            name=_text(nvml.nvmlDeviceGetName(handle)),
            minor=int(nvml.nvmlDeviceGetMinorNumber(handle)),
            memory_bytes=int(memory.total),
            memory_used_bytes=int(memory.used),
            busy_percent=_or_zero(lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu),
            pids=tuple(int(process.pid) for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle)),
        )
    except nvml.NVMLError as error:
        log.warning("a GPU does not answer and is not offered: %s", error)
        return None


def _or_zero(read: Callable[[], int]) -> int:
    """Not every GPU counts how busy it is."""
    nvml = _binding()
    try:
        return int(read())
    except nvml.NVMLError:
        return 0


def _binding() -> Any:
    """NVIDIA's module, which has no types; it loads the library only when it is initialised."""
    import pynvml

    return pynvml


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _is_others(gpu: Gpu) -> bool:
    """Whether a process uses it: asked of those only that none of our containers has."""
    return any(psutil.pid_exists(pid) for pid in gpu.pids)
