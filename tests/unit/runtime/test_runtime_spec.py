"""The specification given to runc: what follows from the container, from the image, and from neither."""

import json
from dataclasses import dataclass, field
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import pytest

from veil.errors import ContainerFailed, LimitExceeded
from veil.runtime.containerd import schema
from veil.runtime.containerd.seccomp import default_profile
from veil.runtime.containerd.spec import User, resources, runtime_spec
from veil.runtime.containerd.tasks import _stats
from veil.runtime.containerd.user import layer_roots, needs_files, resolve_user
from veil.runtime.ids import MAX_ID_CHARS, check_id
from veil.runtime.isolation import MIN_CPU_QUOTA_US, MIN_CPU_SHARES, PIDS_DEFAULT
from veil.runtime.ports import ContainerSpec, Stats

PLAIN = ContainerSpec(id="a", image="i", command=("run",), stdout=Path("/o"), stderr=Path("/e"))


def build(image: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return runtime_spec(changed(PLAIN, **changes), image or {}, User(), "/c/a")


@pytest.mark.parametrize(
    ("command", "args", "wanted"),
    [
        ((), (), ["entry", "cmd"]),
        (("own",), (), ["own"]),
        ((), ("x",), ["entry", "x"]),
        (("own",), ("x", "y"), ["own", "x", "y"]),
    ],
)
def test_what_runs(command: tuple[str, ...], args: tuple[str, ...], wanted: list[str]) -> None:
    image = {"Entrypoint": ["entry"], "Cmd": ["cmd"]}
    assert build(image, command=command, args=args)["process"]["args"] == wanted


def test_nothing_to_run() -> None:
    with pytest.raises(ContainerFailed):
        build(command=())


def test_environment_own_over_image_over_default() -> None:
    env = build({"Env": ["PATH=/bin", "A=image", "B=b=c"]}, env={"A": "own"})["process"]["env"]
    assert env == ["PATH=/bin", "A=own", "B=b=c"]
    assert build()["process"]["env"][0].startswith("PATH=/usr/local/sbin:")


def test_limits() -> None:
    assert resources(250, 1 << 20, 7) == {
        "cpu": {"shares": 256, "quota": 25000, "period": 100000},
        "memory": {"limit": 1 << 20},
        "pids": {"limit": 7},
    }
    assert resources(0, 0, 0) == {}
    assert resources(1, 0, 0)["cpu"] == {"shares": MIN_CPU_SHARES, "quota": MIN_CPU_QUOTA_US, "period": 100000}
    assert build()["linux"]["resources"]["pids"] == {"limit": PIDS_DEFAULT}


def test_what_sandboxes_refuse_is_left_out() -> None:
    process = build()["process"]
    assert "rlimits" not in process
    assert "oomScoreAdj" not in process


def test_network_namespace() -> None:
    kinds = {entry["type"] for entry in build()["linux"]["namespaces"]}
    assert kinds == {"pid", "ipc", "mount", "uts", "network"}
    assert {"type": "network"} not in build(network="host")["linux"]["namespaces"]


def test_dangerous_calls_are_not_allowed() -> None:
    profile = default_profile()
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    allowed = {name for rule in profile["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}
    dangerous = (
        "mount umount2 pivot_root setns unshare bpf perf_event_open keyctl add_key request_key ptrace process_vm_writev"
        " userfaultfd io_uring_setup open_by_handle_at init_module finit_module delete_module kexec_load reboot swapon"
        " settimeofday clock_settime clock_adjtime iopl ioperm acct quotactl syslog fsopen fsmount move_mount open_tree clone3"
    )
    assert not allowed & set(dangerous.split())
    unconditional = {name for rule in profile["syscalls"] if "args" not in rule for name in rule["names"]}
    assert not unconditional & {"clone", "socket", "personality"}
    json.dumps(profile)


def test_ids() -> None:
    assert check_id("a" * MAX_ID_CHARS)
    for wrong in ("", ".", "..", "a/b", "-a", "a--b", "a" * (MAX_ID_CHARS + 1), "a\n"):
        with pytest.raises(LimitExceeded):
            check_id(wrong)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nbroken\nweb:x:33:44::/:/bin/sh\n")
    (tmp_path / "etc/group").write_text("root:x:0:\nlogs:x:55:root,web\nweb:x:44:\n")
    return tmp_path


def test_users(root: Path) -> None:
    assert resolve_user("", [root]) == User(0, 0)
    assert resolve_user("7", [root]) == User(7, 0)
    assert resolve_user("7:8", []) == User(7, 8)
    assert resolve_user("web", [root / "nothing", root]) == User(33, 44, (55,))
    assert resolve_user("web:logs", [root]) == User(33, 55)
    assert not needs_files("7:8")
    assert needs_files("7:logs")


@pytest.mark.parametrize("user", ["ghost", "web:ghost", "99999999999", "0:-1"])
def test_users_that_are_none(root: Path, user: str) -> None:
    with pytest.raises(ContainerFailed):
        resolve_user(user, [root])


def test_links_out_of_the_image_are_not_followed(root: Path) -> None:
    (root / "etc/passwd").rename(root / "elsewhere")
    (root / "etc/passwd").symlink_to(root / "elsewhere")
    with pytest.raises(ContainerFailed):
        resolve_user("web", [root])


@dataclass
class Mount:
    type: str
    source: str = ""
    options: list[str] = field(default_factory=list)


def test_layers_of_a_snapshot() -> None:
    assert layer_roots([Mount("bind", "/s")]) == [Path("/s")]
    assert layer_roots([Mount("overlay", "overlay", ["index=off", "upperdir=/u", "workdir=/w", "lowerdir=/b:/a"])]) == [
        Path("/u"),
        Path("/b"),
        Path("/a"),
    ]


def test_stats_of_both_cgroup_versions() -> None:
    v1 = schema.message("io.containerd.cgroups.v1.Metrics")()
    v1.cpu.usage.total, v1.memory.usage.usage, v1.memory.total_inactive_file, v1.pids.current = 1_500_000_000, 100, 30, 4
    v2 = schema.message("io.containerd.cgroups.v2.Metrics")()
    v2.cpu.usage_usec, v2.memory.usage, v2.memory.inactive_file, v2.pids.current = 1_500_000, 100, 30, 4
    for metrics in (v1, v2):
        packed = schema.message("google.protobuf.Any")(type_url=metrics.DESCRIPTOR.full_name, value=metrics.SerializeToString())
        assert _stats(schema.unpack(packed)) == Stats(cpu_seconds=1.5, memory_bytes=70, pids=4)
    assert schema.unpack(schema.message("google.protobuf.Any")(type_url="no.such.Message")) is None


def test_only_the_machines_own_system_calls_are_known() -> None:
    """Each further architecture is compiled by runc at every start."""
    assert len(default_profile()["architectures"]) == 1
