"""What the docker driver sends and reads, without a daemon."""

import asyncio
import io
import json
import tarfile
from pathlib import Path

import pytest

from veil.errors import ContainerFailed, ImageUnavailable
from veil.runtime.docker.connection import frames
from veil.runtime.docker.images import as_docker_archive
from veil.runtime.docker.spec import create_body, limits, view
from veil.runtime.docker.timestamps import nanoseconds, query_time
from veil.runtime.images import build_busybox
from veil.runtime.isolation import PIDS_DEFAULT
from veil.runtime.ports import BRIDGE, ContainerSpec, ContainerState, Mount, PortMapping


def spec(**changes: object) -> ContainerSpec:
    plain = {"id": "one", "image": "busybox", "stdout": Path("/l/out"), "stderr": Path("/l/err")}
    return ContainerSpec(**plain | changes)  # type: ignore[arg-type]


def test_times_to_the_nanosecond() -> None:
    assert nanoseconds("1970-01-01T00:00:01.000000002Z") == 1_000_000_002
    assert nanoseconds("1970-01-01T00:00:01Z") == 1_000_000_000
    assert nanoseconds("1970-01-01T01:00:01.5+01:00") == 1_500_000_000
    assert nanoseconds("0001-01-01T00:00:00Z") == 0
    assert query_time(1_000_000_002) == "1.000000002"
    with pytest.raises(ValueError, match="Invalid"):
        nanoseconds("yesterday")


def test_a_container_is_isolated_by_default() -> None:
    body = create_body(spec(), "n")
    host = body["HostConfig"]
    assert (host["CapDrop"], host["SecurityOpt"], host["NetworkMode"]) == (["ALL"], ["no-new-privileges"], "none")
    assert "NET_RAW" not in host["CapAdd"]
    assert host["PidsLimit"] == PIDS_DEFAULT
    assert "Entrypoint" not in body
    assert body["Image"] == "docker.io/library/busybox:latest"
    with pytest.raises(ContainerFailed, match="no network"):
        create_body(spec(network="/run/netns/a"), "n")
    ports = [PortMapping(host_port=8080, container_port=80), PortMapping(host_port=53, container_port=53, protocol="udp")]
    body = create_body(spec(network=BRIDGE, ports=ports, devices=[Path("/dev/nvidia0")]), "n")
    assert body["HostConfig"]["NetworkMode"] == "bridge"
    assert body["HostConfig"]["PortBindings"] == {"80/tcp": [{"HostPort": "8080"}], "53/udp": [{"HostPort": "53"}]}
    assert body["ExposedPorts"] == {"80/tcp": {}, "53/udp": {}}
    assert [one["PathInContainer"] for one in body["HostConfig"]["Devices"]] == ["/dev/nvidia0"]


def test_what_is_asked_for_is_in_the_request() -> None:
    mount = Mount(source=Path("/a"), destination="/b", read_only=True)
    asked = spec(command=("sh",), args=("-c",), workdir="/w", env={"A": "b"}, mounts=(mount,), cpu_milli=500, labels={"k": ""})
    body = create_body(asked, "n")
    assert (body["Entrypoint"], body["Cmd"], body["WorkingDir"], body["Env"]) == (["sh"], ["-c"], "/w", ["A=b"])
    assert body["HostConfig"]["Mounts"] == [{"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": True}]
    assert body["HostConfig"]["CpuQuota"] == 50_000
    assert body["Labels"]["k"] == ""
    assert limits(0, 0, 0) == {}


@pytest.mark.parametrize(
    ("word", "state", "code"),
    [
        ("created", ContainerState.CREATED, None),
        ("running", ContainerState.RUNNING, None),
        ("exited", ContainerState.EXITED, 3),
        ("dead", ContainerState.UNKNOWN, None),
    ],
)
def test_states(word: str, state: ContainerState, code: int | None) -> None:
    said = {"Status": word, "Pid": 7, "ExitCode": 3, "StartedAt": "1970-01-01T00:00:01Z", "FinishedAt": "0001-01-01T00:00:00Z"}
    labels = create_body(spec(labels={"mine": "x"}), "n")["Labels"]
    seen = view({"State": said, "Config": {"Labels": labels}})
    assert (seen.id, seen.state, seen.exit_code, dict(seen.labels)) == ("one", state, code, {"mine": "x"})
    assert seen.pid == (7 if state is ContainerState.RUNNING else 0)
    assert seen.image == "busybox"


async def test_output_comes_in_frames_however_it_is_cut() -> None:
    whole = bytes([1, 0, 0, 0, 0, 0, 0, 3]) + b"out" + bytes([2, 0, 0, 0, 0, 0, 0, 4]) + b"err\n"
    for size in (1, 3, 8, 100):
        pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
        assert [one async for one in frames(Pieces(pieces))] == [(1, b"out"), (2, b"err\n")]  # type: ignore[arg-type]
    with pytest.raises(asyncio.IncompleteReadError):
        [one async for one in frames(Pieces([whole[:10]]))]  # type: ignore[arg-type]


class Pieces:
    """As aiohttp's stream: a read gives what has come, at most what was asked for."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    async def read(self, count: int) -> bytes:
        if not self._pieces:
            return b""
        piece = self._pieces.pop(0)
        if len(piece) > count:
            self._pieces.insert(0, piece[count:])
        return piece[:count]

    async def readexactly(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            more = await self.read(count - len(found))
            if not more:
                raise asyncio.IncompleteReadError(found, count)
            found += more
        return found


def test_a_layout_becomes_what_docker_loads(tmp_path: Path) -> None:
    layout = tmp_path / "busybox.tar"
    build_busybox(layout)
    file = io.BytesIO()
    digest = as_docker_archive(layout, "docker.io/library/one:1", file)
    with tarfile.open(fileobj=file) as made:
        (listed,) = json.loads(made.extractfile("manifest.json").read())  # type: ignore[union-attr]
        assert listed["RepoTags"] == ["docker.io/library/one:1"]
        assert {listed["Config"], *listed["Layers"]} <= set(made.getnames())
    assert digest.startswith("sha256:")
    (tmp_path / "text").write_text("no tar")
    with pytest.raises(ImageUnavailable):
        as_docker_archive(tmp_path / "text", "one", io.BytesIO())
