"""What a container may not do, and what it may not use: seen from inside and from its cgroups."""

import asyncio
import io
import json
import os
import stat
import tarfile
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from veil.errors import ContainerFailed
from veil.runtime import leftovers
from veil.runtime.containerd import ContainerdRuntime
from veil.runtime.containerd.spec import CAPABILITIES, PIDS_DEFAULT
from veil.runtime.daemon import PrivateContainerd
from veil.runtime.images import BUSYBOX_IMAGE
from veil.runtime.oci import sha256
from veil.runtime.ports import ContainerSpec

pytestmark = pytest.mark.runtime

BITS = {"CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "FSETID": 4, "KILL": 5, "SETGID": 6, "SETUID": 7, "SETPCAP": 8} | {
    "NET_BIND_SERVICE": 10,
    "SYS_CHROOT": 18,
}
"""Numbers of capabilities(7)."""
CAPABILITY_MASK = sum(1 << BITS[name.removeprefix("CAP_")] for name in CAPABILITIES)


@pytest.fixture
async def runtime(connect_containerd: Callable[[], ContainerdRuntime], archive: Path) -> AsyncIterator[ContainerdRuntime]:
    one = connect_containerd()
    await one.start_driver()
    await one.import_image(BUSYBOX_IMAGE, archive)
    try:
        yield one
    finally:
        for container in await one.list():
            await one.delete(container.id)
        await one.close()


@pytest.fixture
def spec(tmp_path: Path) -> ContainerSpec:
    return ContainerSpec(
        id="jail",
        image=BUSYBOX_IMAGE,
        command=("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"),
        stdout=tmp_path / "out",
        stderr=tmp_path / "err",
    )


async def started(runtime: ContainerdRuntime, spec: ContainerSpec) -> None:
    await runtime.create(spec)
    await runtime.start(spec.id)


async def ask(runtime: ContainerdRuntime, script: str) -> tuple[int, str]:
    result = await runtime.exec("jail", ["sh", "-c", script])
    return result.exit_code, result.output.decode().strip()


async def test_privileges_are_dropped(runtime: ContainerdRuntime, spec: ContainerSpec) -> None:
    await started(runtime, spec)
    for place in ("/proc/1/status", "/proc/self/status"):  # the main process and every exec
        _, text = await ask(runtime, f"cat {place}")
        status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"
        for kind in ("CapBnd", "CapEff", "CapPrm"):
            assert int(status[kind], 16) == CAPABILITY_MASK
        assert int(status["CapAmb"], 16) == 0


@pytest.mark.parametrize(
    "script",
    [
        "mount -t tmpfs x /tmp",
        "unshare -U true",
        "unshare -m true",
        "mknod /tmp/disk b 254 0",
        "grep . /proc/interrupts",
        "grep . /proc/keys",
        "echo 1 > /proc/sys/kernel/printk",
        "hostname other",
        "chroot /proc/1/root mount -t proc p /tmp",
        "dmesg",
        "ping -c 1 127.0.0.1",
    ],
)
async def test_what_is_refused(runtime: ContainerdRuntime, spec: ContainerSpec, script: str) -> None:
    await started(runtime, spec)
    code, text = await ask(runtime, f"{script} && echo DONE || exit 9")
    assert (code, "DONE" in text) == (9, False), text


async def test_no_network_is_loopback_only(runtime: ContainerdRuntime, spec: ContainerSpec) -> None:
    await started(runtime, spec)
    _, text = await ask(runtime, "ls /sys/class/net; cat /sys/class/net/lo/operstate")
    assert text.split()[0] == "lo"
    assert len(text.split()) == 2


async def test_host_network_is_the_hosts(runtime: ContainerdRuntime, spec: ContainerSpec) -> None:
    await started(runtime, replace(spec, network="host"))
    _, text = await ask(runtime, "readlink /proc/self/ns/net; cat /etc/hosts")
    assert text.splitlines()[0] == str(Path("/proc/self/ns/net").readlink())
    assert text.split("\n", 1)[1].strip() == Path("/etc/hosts").read_text().strip()


async def test_unknown_network_is_refused(runtime: ContainerdRuntime, spec: ContainerSpec) -> None:
    with pytest.raises(ContainerFailed, match="network"):
        await runtime.create(replace(spec, network="bridge"))


async def test_limits_are_the_kernels(runtime: ContainerdRuntime, spec: ContainerSpec, private: PrivateContainerd) -> None:
    await started(runtime, replace(spec, memory_bytes=64 << 20, cpu_milli=250))
    assert limits(private) == {"memory": str(64 << 20), "cpu": "25000", "pids": str(PIDS_DEFAULT)}
    await runtime.update("jail", memory_bytes=96 << 20, cpu_milli=500, pids=33)
    wanted = {"memory": str(96 << 20), "cpu": "50000", "pids": "33"}
    assert limits(private) == wanted
    await runtime.stop("jail", grace_s=5)
    await runtime.start("jail")
    assert limits(private) == wanted


def limits(private: PrivateContainerd) -> dict[str, str]:
    files = {
        "memory.limit_in_bytes": "memory",
        "memory.max": "memory",
        "cpu.cfs_quota_us": "cpu",
        "cpu.max": "cpu",
        "pids.max": "pids",
    }
    found = {}
    for root in leftovers.cgroup_roots():
        for file, limit in files.items():
            path = root / private.cgroup_parent.lstrip("/") / "jail" / file
            if path.exists():
                found[limit] = path.read_text().split()[0]
    return found


async def test_a_fork_bomb_stays_inside(runtime: ContainerdRuntime, spec: ContainerSpec) -> None:
    await started(runtime, replace(spec, pids=20))
    code, text = await ask(runtime, "i=0; while [ $i -lt 40 ]; do sleep 5 & i=$((i+1)); done; exit 0")
    assert "can't fork" in text or code != 0
    assert (await runtime.stats("jail")).pids <= 20


async def test_read_only_root(runtime: ContainerdRuntime, spec: ContainerSpec) -> None:
    await started(runtime, replace(spec, read_only_root=True))
    assert (await ask(runtime, "touch /x"))[0] != 0
    assert (await ask(runtime, "touch /run/x"))[0] == 0


async def test_environment_workdir_and_arguments(runtime: ContainerdRuntime, spec: ContainerSpec) -> None:
    await started(
        runtime,
        replace(
            spec,
            command=(),
            args=("-c", "echo $GREETING $PATH $PWD"),
            env={"GREETING": "hello"},
            workdir="/tmp",
        ),
    )
    async with asyncio.timeout(5):
        while not spec.stdout.read_text():
            await asyncio.sleep(0.02)
    assert spec.stdout.read_text() == "hello /bin /tmp\n"


@pytest.mark.parametrize(
    ("user", "identity"),
    [("nobody", "65534 65534"), ("1234", "1234 0"), ("1234:5", "1234 5"), ("nobody:root", "65534 0"), ("", "0 0")],
)
async def test_the_images_user(
    runtime: ContainerdRuntime, spec: ContainerSpec, archive: Path, tmp_path: Path, user: str, identity: str
) -> None:
    await runtime.import_image("veil.dev/user:1", with_config(archive, tmp_path / "user.tar", User=user))
    await started(runtime, replace(spec, image="veil.dev/user:1"))
    assert (await ask(runtime, "id -u; id -g"))[1].split() == identity.split()


async def test_a_user_the_image_does_not_know(
    runtime: ContainerdRuntime, spec: ContainerSpec, archive: Path, tmp_path: Path
) -> None:
    await runtime.import_image("veil.dev/user:1", with_config(archive, tmp_path / "user.tar", User="ghost"))
    with pytest.raises(ContainerFailed, match="ghost"):
        await runtime.create(replace(spec, image="veil.dev/user:1"))
    assert await runtime.list() == []


def with_config(archive: Path, target: Path, **changes: object) -> Path:
    """The same image with another config: what a Dockerfile's last lines change."""
    with tarfile.open(archive) as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar.getmembers()}  # type: ignore[union-attr]
    index = json.loads(members["index.json"])

    def put(document: object) -> dict[str, object]:
        data = json.dumps(document).encode()
        members[f"blobs/sha256/{sha256(data)[7:]}"] = data
        return {"digest": sha256(data), "size": len(data)}

    manifest = json.loads(members["blobs/" + index["manifests"][0]["digest"].replace(":", "/")])
    config = json.loads(members["blobs/" + manifest["config"]["digest"].replace(":", "/")])
    config["config"].update(changes)
    manifest["config"].update(put(config))
    index["manifests"][0].update(put(manifest))
    members["index.json"] = json.dumps(index).encode()
    with tarfile.open(target, "w") as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return target


async def test_devices_that_are_given(runtime: ContainerdRuntime, spec: ContainerSpec, tmp_path: Path) -> None:
    """A node of a device that containers may not use otherwise: it is there under its path and may be opened."""
    given, number = tmp_path / "nvidia0", os.stat("/dev/fuse").st_rdev if Path("/dev/fuse").exists() else os.makedev(10, 200)
    try:
        os.mknod(given, stat.S_IFCHR | 0o600, number)
    except PermissionError:
        pytest.skip("this sandbox makes no device nodes")
    await started(runtime, replace(spec, devices=(given,)))
    numbers = f"{os.major(number):x}:{os.minor(number):x}"
    assert await ask(runtime, f"test -c {given} && stat -c '%t:%T' {given}") == (0, numbers)
    assert "not permitted" not in (await ask(runtime, f"head -c 0 {given}"))[1]
    with pytest.raises(ContainerFailed, match="no character device"):
        await runtime.create(replace(spec, id="other", devices=(tmp_path,)))
    with pytest.raises(ContainerFailed, match="No such file"):
        await runtime.create(replace(spec, id="other", devices=(tmp_path / "nvidia1",)))
