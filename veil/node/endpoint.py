"""The node's doors: TLS and token for people and tools, sockets for this machine; where each is, in files."""

import json
import re

from veil.api.access import ensure_token
from veil.api.tls import Certificates, ensure_certificates
from veil.client.kubeconfig import KubeConfig, write
from veil.config import NodeSettings
from veil.errors import ConfigInvalid, StorageUnavailable
from veil.types import Secret, SystemClock


class Endpoint:
    """Paths and secrets of one node's API below its directory."""

    def __init__(self, settings: NodeSettings) -> None:
        self.directory = settings.directory / "api"
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.host, _, port = settings.api_listen.rpartition(":")
        if not self.host or not re.fullmatch(r"[0-9]{1,5}", port):
            raise ConfigInvalid(f"VEIL_API_LISTEN: {settings.api_listen!r} is not host:port", hint="for example 127.0.0.1:6443")
        self.port = int(port)
        self.name = settings.name
        self.socket = settings.directory / "api.sock"
        self.controllers_socket = settings.directory / "ctl.sock"
        self._said = settings.directory / "endpoint.json"
        self._port_file = self.directory / "port"
        self._last_said = ""

    def wanted_port(self) -> int:
        """The configured port, else the one of the last start, so that kubeconfigs stay right over restarts."""
        if self.port:
            return self.port
        try:
            return int(self._port_file.read_text())
        except (OSError, ValueError):
            return 0

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
        """What `veil dev status` and service managers read. Raises StorageUnavailable."""
        text = json.dumps({"api": server, "pids": pids}) + "\n"
        if text == self._last_said:
            return
        draft = self._said.with_suffix(".new")
        try:
            draft.write_text(text)
            draft.replace(self._said)
        except OSError as error:
            raise StorageUnavailable(f"{self._said}: {error.strerror}", hint="make room on the disk") from error
        self._last_said = text
