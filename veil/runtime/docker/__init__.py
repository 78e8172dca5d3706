"""The Docker API: dockerd, or podman's compatible socket."""

from veil.runtime.docker.driver import DockerRuntime

__all__ = ["DockerRuntime"]
