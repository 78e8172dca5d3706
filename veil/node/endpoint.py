"""The node's doors: TLS and token for people and tools, sockets for this machine; where each is, in files."""

import json

from veil.api.access import ensure_token
from veil.api.tls import Certificates, ensure_certificates
from veil.client.kubeconfig import KubeConfig, write
from veil.config import NodeSettings
from veil.types import Secret, SystemClock


class Endpoint:
    """Paths and secrets of one node's API below its directory."""

    def __init__(self, settings: NodeSettings) -> None:
        self.directory = settings.directory / "api"
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.host, _, port = settings.api_listen.rpartition(":")
        self.port = int(port)
        self.name = settings.name
        self.socket = settings.directory / "api.sock"
        self.controllers_socket = settings.directory / "ctl.sock"
        self._said = settings.directory / "endpoint.json"
        self._port_file = self.directory / "port"

    def wanted_port(self) -> int:
        """The configured port, else the one of the last start, so that kubeconfigs stay right over restarts."""
        if self.port == 0 and self._port_file.exists():
            return int(self._port_file.read_text())
        return self.port

    def token(self) -> Secret:
        """The bearer token; made at the first start."""
        return ensure_token(self.directory / "token")

    def certificates(self) -> Certificates:
        """A CA of the node's own and its certificate."""
        return ensure_certificates(self.directory, [self.host, "localhost"], SystemClock())

    def announce(self, port: int, certificates: Certificates) -> str:
        """Write the port and the kubeconfig; gives back the URL."""
        server = f"https://{self.host}:{port}"
        self._port_file.write_text(str(port))
        config = KubeConfig(server=server, ca_pem=certificates.ca_pem, token=self.token(), context=self.name)
        write(self.directory / "kubeconfig", {self.name: config}, self.name)
        return server

    def say(self, server: str, pids: dict[str, int]) -> None:
        """What `veil dev status` and service managers read."""
        draft = self._said.with_suffix(".new")
        draft.write_text(json.dumps({"api": server, "pids": pids}) + "\n")
        draft.replace(self._said)
