"""The node's hot loop: makes the containers of this machine equal to the Instances that are bound to this node."""

from veil.agent.agent import Agent
from veil.agent.capacity import MeasuredCapacity
from veil.agent.keys import DesiredInstance, InstanceKey

__all__ = ["Agent", "DesiredInstance", "InstanceKey", "MeasuredCapacity"]
