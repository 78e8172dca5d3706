"""The containerd driver, on containerd's native gRPC services."""

from veil.runtime.containerd.driver import ContainerdRuntime

__all__ = ["ContainerdRuntime"]
