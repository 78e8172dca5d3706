"""The plan of each desired Instance, made once: a look at everything is not to read every template again."""

from veil.agent.keys import DesiredInstance, InstanceKey
from veil.agent.networks import Networks, RuntimeNetworks
from veil.agent.spec import InstancePlan, LogPaths, plan_instance
from veil.agent.volumes import Volumes


class Plans:
    """Plans of one node."""

    def __init__(self, node: str, log_paths: LogPaths, volumes: Volumes, networks: Networks | RuntimeNetworks | None) -> None:
        self._node = node
        self._log_paths = log_paths
        self._volumes = volumes
        self._networks = networks
        self._made: dict[InstanceKey, tuple[DesiredInstance, InstancePlan]] = {}

    def of(self, desired: DesiredInstance) -> InstancePlan:
        """Raises InvalidInput for a template that cannot be run."""
        made = self._made.get(desired.key)
        if made is None or made[0] != desired:
            made = self._made[desired.key] = (desired, self._make(desired))
        return made[1]

    def made(self) -> dict[InstanceKey, InstancePlan]:
        """Those of now."""
        return {key: plan for key, (_, plan) in self._made.items()}

    def forget(self, key: InstanceKey) -> None:
        self._made.pop(key, None)

    def _make(self, desired: DesiredInstance) -> InstancePlan:
        instance = desired.key.text
        return plan_instance(
            desired,
            node=self._node,
            log_paths=self._log_paths,
            volumes_home=self._volumes.home(instance),
            network_home=self._networks.home(instance) if self._networks is not None else None,
            network_by_runtime=self._networks is not None and self._networks.by_runtime,
        )
