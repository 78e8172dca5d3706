"""The system calls a container may make: an allow list, everything else is refused with EPERM.

The list (``seccomp.json``, grouped by purpose) leaves out what a container without privileges has no use for and what has been
the way out of one before: mounting, namespaces, modules, bpf, perf, keyrings, ptrace, userfaultfd, io_uring, handles to
files outside its root, clocks, swap, reboot. A few calls are allowed by argument.
"""

import functools
import json
import platform
from importlib import resources
from typing import Any

_EPERM, _ENOSYS = 1, 38
_CLONE_NAMESPACES = 0x7E020000
"""CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET} of clone(2)."""
_AF_VSOCK = 40
"""Reaches the hypervisor, past every network namespace."""
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
_ARCHITECTURES = {"x86_64": ["SCMP_ARCH_X86_64"], "aarch64": ["SCMP_ARCH_AARCH64"]}
"""The machine's own alone: a program of another (32 bits, x32) is killed at its first call. Those have been a way out as well,
and each makes runc compile the whole list once more, at every start, on the container's own CPU limit."""


@functools.cache
def default_profile() -> dict[str, Any]:
    """``linux.seccomp`` of the OCI runtime specification, for this machine."""
    groups = json.loads(resources.files(__package__).joinpath("seccomp.json").read_text())
    names = sorted(name for group in groups.values() for name in group)
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": _EPERM,
        "architectures": _ARCHITECTURES.get(platform.machine(), []),
        "syscalls": [
            {"names": names, "action": "SCMP_ACT_ALLOW"},
            _allow("clone", {"index": 0, "value": _CLONE_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}),
            # glibc falls back to clone, whose flags can be looked at; those of clone3 are behind a pointer
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS},
            _allow("socket", {"index": 0, "value": _AF_VSOCK, "op": "SCMP_CMP_NE"}),
            *(_allow("personality", {"index": 0, "value": value, "op": "SCMP_CMP_EQ"}) for value in _PERSONALITIES),
        ],
    }


def _allow(name: str, argument: dict[str, Any]) -> dict[str, Any]:
    return {"names": [name], "action": "SCMP_ACT_ALLOW", "args": [argument]}
