"""The one configuration file of the command line: a kubeconfig, so that kubectl and GitOps tools read the same file.

``VEIL_KUBECONFIG`` names it, ``~/.veil/config`` is the default. Only what Veil's API uses is read: server, CA, bearer token,
namespace. A server ``unix:///path`` means a unix socket (kubectl does not know that form).
"""

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from veil.errors import ConfigInvalid
from veil.types import Secret

VARIABLE = "VEIL_KUBECONFIG"
DEFAULT_PATH = Path("~/.veil/config")
FILE_MAX_BYTES = 1024 * 1024

_HINT = "start a cluster with `veil dev up`, or set VEIL_KUBECONFIG to the kubeconfig you were given"


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeConfig:
    """How one API is reached. ``ca_pem`` is empty when the system's certificates are meant to be used."""

    server: str
    ca_pem: str = ""
    token: Secret | None = None
    namespace: str = "default"
    context: str = ""

    @property
    def socket(self) -> Path | None:
        """The unix socket of a ``unix://`` server."""
        return Path(self.server.removeprefix("unix://")) if self.server.startswith("unix://") else None


def config_path(environment: Mapping[str, str] | None = None) -> Path:
    """The file that counts: ``VEIL_KUBECONFIG`` or the default."""
    environment = os.environ if environment is None else environment
    return Path(environment.get(VARIABLE) or DEFAULT_PATH).expanduser()


def load(path: Path | None = None, context: str = "") -> KubeConfig:
    """The configuration of ``context`` (empty: the file's current one). Raises ConfigInvalid."""
    path = path or config_path()
    document = _read(path)
    context = context or str(document.get("current-context") or "")
    chosen = _entry(path, document, "contexts", "context", context)
    cluster = _entry(path, document, "clusters", "cluster", str(chosen.get("cluster", "")))
    user = _entry(path, document, "users", "user", str(chosen["user"])) if chosen.get("user") else {}
    server = str(cluster.get("server", ""))
    if not server.startswith(("https://", "unix://")):
        raise ConfigInvalid(f"{path}: the server {server!r} is not https:// or unix://", hint=_HINT)
    token = user.get("token")
    return KubeConfig(
        server=server.rstrip("/"),
        ca_pem=_ca(path, cluster),
        token=Secret(str(token).encode()) if token else None,
        namespace=str(chosen.get("namespace") or "default"),
        context=context,
    )


def dump(configs: Mapping[str, KubeConfig], current: str) -> str:
    """The text of a kubeconfig with one context for each entry. It contains the tokens: keep the file private."""
    document: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": current,
        "clusters": [{"name": name, "cluster": _cluster(config)} for name, config in configs.items()],
        "users": [{"name": name, "user": _user(config)} for name, config in configs.items()],
        "contexts": [
            {"name": name, "context": {"cluster": name, "user": name, "namespace": config.namespace}}
            for name, config in configs.items()
        ],
    }
    return yaml.safe_dump(document, sort_keys=False)


def write(path: Path, configs: Mapping[str, KubeConfig], current: str) -> None:
    """Write :func:`dump` to ``path``, readable by its owner only, in one step."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(dump(configs, current))
    draft.replace(path)


def _cluster(config: KubeConfig) -> dict[str, Any]:
    ca = {"certificate-authority-data": base64.b64encode(config.ca_pem.encode()).decode()} if config.ca_pem else {}
    return {"server": config.server} | ca


def _user(config: KubeConfig) -> dict[str, Any]:
    return {"token": config.token.reveal().decode()} if config.token else {}


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > FILE_MAX_BYTES:
            raise ConfigInvalid(f"{path}: larger than FILE_MAX_BYTES={FILE_MAX_BYTES}", hint=_HINT)
        document = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise ConfigInvalid(f"{path}: there is no such file, so no cluster is known", hint=_HINT) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigInvalid(f"{path}: not a kubeconfig: {error}", hint=_HINT) from error
    if not isinstance(document, dict):
        raise ConfigInvalid(f"{path}: not a kubeconfig", hint=_HINT)
    return document


def _entry(path: Path, document: dict[str, Any], section: str, key: str, name: str) -> dict[str, Any]:
    entries = document.get(section)
    names = []
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get(key), dict):
            names.append(str(entry.get("name")))
            if names[-1] == name:
                found: dict[str, Any] = entry[key]
                return found
    raise ConfigInvalid(f"{path}: {section} has no {name!r}", hint=f"it has: {', '.join(names) or 'none'}")


def _ca(path: Path, cluster: dict[str, Any]) -> str:
    try:
        if data := cluster.get("certificate-authority-data"):
            return base64.b64decode(data, validate=True).decode()
        if file := cluster.get("certificate-authority"):
            return (path.parent / str(file)).read_text()
    except (OSError, ValueError) as error:
        raise ConfigInvalid(f"{path}: its certificate authority cannot be read: {error}", hint=_HINT) from error
    return ""
