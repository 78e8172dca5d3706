"""What every container may do by default, whatever runs it: few capabilities, a bound on its processes, shares of the CPU."""

CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)
"""What common images need to drop from root to their own user; not MKNOD, NET_RAW, SETFCAP, AUDIT_WRITE."""

PIDS_DEFAULT = 1024
"""The limit on processes of a container that asks for none: a fork bomb stays in its container."""

CPU_PERIOD_US = 100_000
MIN_CPU_QUOTA_US = 1000
"""The kernel refuses less."""
MIN_CPU_SHARES = 2


def cpu_quota_us(cpu_milli: int) -> int:
    """Of each CPU_PERIOD_US."""
    return max(MIN_CPU_QUOTA_US, cpu_milli * CPU_PERIOD_US // 1000)


def cpu_shares(cpu_milli: int) -> int:
    return max(MIN_CPU_SHARES, cpu_milli * 1024 // 1000)
