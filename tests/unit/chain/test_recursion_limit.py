"""Using the chain must not leave a recursion limit under which nested input ends the process."""

import subprocess
import sys

import pytest

NESTED_JSON = "import msgspec\ntry: msgspec.json.decode(b'[' * 200_000)\nexcept RecursionError: print('refused')"


def test_nested_input_is_refused_and_ends_nobody() -> None:
    code = f"import veil.chain.signer\n{NESTED_JSON}"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "refused")


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="CPython 3.12 bounds recursion in C by itself")
def test_the_same_input_ends_a_process_with_the_limit_of_py_ecc() -> None:
    code = f"import sys; sys.setrecursionlimit(100_000)\n{NESTED_JSON}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode < 0
