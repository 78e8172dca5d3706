"""How the controllers reach their node: the unix socket named by ``VEIL_CONTROLLERS_SOCKET``, with kopf's settings for it.

A node starts them as a child (``launch.py``). By hand, against a running node, the same files work with kopf's own command:

    VEIL_CONTROLLERS_SOCKET=… kopf run --standalone --all-namespaces controllers/connection.py controllers/workload.py

Nothing is written to the objects for kopf's own sake: handlers react to events and look at the whole state, so there is no
progress to persist, no finalizer to hold a deletion up and no last state to compare with.
"""

import os
from pathlib import Path
from typing import Any

import aiohttp
import kopf

from veil.client.api import ApiClient
from veil.client.kubeconfig import KubeConfig
from veil.errors import ConfigInvalid

SOCKET_VARIABLE = "VEIL_CONTROLLERS_SOCKET"

ERROR_BACKOFFS_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""kopf's own start at a second: too slow for a socket on the same machine."""


def config() -> KubeConfig:
    """For the client that the handlers use. Raises ConfigInvalid without a socket."""
    path = os.environ.get(SOCKET_VARIABLE, "")
    if not path:
        raise ConfigInvalid(f"{SOCKET_VARIABLE} is not set", hint="give it the node's controllers.sock")
    return KubeConfig(server=f"unix://{Path(path).absolute()}")


@kopf.on.login()
async def login(**_: Any) -> kopf.AiohttpSession:
    """kopf watches over the same socket."""
    connector = aiohttp.UnixConnector(str(config().socket), limit=0)
    session = aiohttp.ClientSession(connector=connector)
    return kopf.AiohttpSession(server="http://localhost", aiohttp_session=session, default_namespace="default")


@kopf.on.startup()
async def configure(settings: kopf.OperatorSettings, memo: kopf.Memo, **_: Any) -> None:
    """One operator, its own process, no traces on the objects; ``memo.client`` is the handlers' way to the API."""
    memo.client = ApiClient(config())
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.process.ultimate_exiting_timeout = None
    settings.networking.error_backoffs = ERROR_BACKOFFS_S


@kopf.on.cleanup()
async def close(memo: kopf.Memo, **_: Any) -> None:
    await memo.client.close()
