"""`veil exec` into containers of every node from the user's own, with a terminal and without."""

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from e2e_cluster import ROOT, Cluster, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

SPREAD = "  placement:\n    policy: Spread"


def in_terminal(cluster: Cluster, *arguments: str, typed: bytes, until: bytes) -> tuple[bytes, int]:
    """What a person sees who runs `veil` in a terminal of 91 x 23 and types; and its exit code."""
    ours, theirs = pty.openpty()
    subprocess.run(["stty", "cols", "91", "rows", "23"], stdin=theirs, check=True)
    environment = {**os.environ, "VEIL_KUBECONFIG": str(cluster.directory / "kubeconfig")}
    command = [sys.executable, "-m", "veil", *arguments]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=ROOT, close_fds=True)
    os.close(theirs)
    seen, deadline_s, sent = b"", time.monotonic() + 60, False
    while until not in seen and time.monotonic() < deadline_s and process.poll() is None:
        if select.select([ours], [], [], 0.2)[0]:
            seen += os.read(ours, 65536)
        if seen and not sent:
            os.write(ours, typed)
            sent = True
    os.write(ours, b"exit 4\n")
    code = process.wait(timeout=30)
    os.close(ours)
    return seen, code


def test_commands_run_where_the_instance_is(cluster: Cluster, manifest: Callable[..., Path]) -> None:
    if cluster.runtime == "process":
        pytest.skip("plain processes have no commands to speak with")
    cluster.veil("apply", "-f", str(manifest("spoken", replicas=3, extra=SPREAD)))
    cluster.veil("wait", "workload/spoken", "--for=condition=Available", "--timeout", "60s")
    instances = [one for one in cluster.get("instances") if one["spec"]["workload"] == "spoken"]
    assert {one["status"]["node"] for one in instances} == {"node-1", "node-2", "node-3"}
    for instance in instances:
        name = instance["metadata"]["name"]
        ran = cluster.veil("exec", name, "--", "sh", "-c", "echo in $VEIL_INSTANCE of $VEIL_NODE; exit 3", check=False)
        assert (ran.returncode, ran.stdout) == (3, f"in {name} of {instance['status']['node']}\n"), ran.stderr
    (there,) = [one["metadata"]["name"] for one in instances if one["status"]["node"] == "node-2"]
    seen, code = in_terminal(cluster, "exec", "-it", there, "--", "sh", typed=b"stty size; echo six$((3+3))\n", until=b"six6")
    assert b"23 91" in seen, seen
    assert code == 4
    wrong = cluster.veil("exec", there, "--", "no-such-program", check=False)
    assert (wrong.returncode, "no-such-program" in wrong.stderr) == (1, True)
    cluster.veil("delete", "workload", "spoken")
    eventually(lambda: not any(cluster.all_containers().values()), timeout_s=60, what="no container left")
