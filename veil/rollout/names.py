"""How an Instance is named and labelled, and the way back.

One name for one (workload, template generation, replica): two controllers that make the same decision make the same object,
and the second one is told AlreadyExists instead of making a twin. Scaling leaves the template's generation, and so the names.
"""

import re
from typing import NamedTuple

LABEL_WORKLOAD = "veil.dev/workload"
LABEL_GENERATION = "veil.dev/generation"
LABEL_REPLICA = "veil.dev/replica"

TEMPLATE_GENERATION = "veil.dev/template-generation"
"""The annotation of a Workload that says in which generation what it runs, or where it may run, last changed."""

_NAME = re.compile(r"(?P<workload>.+)-(?P<generation>0|[1-9][0-9]*)-(?P<replica>0|[1-9][0-9]*)", re.ASCII)


class InstanceName(NamedTuple):
    """What an Instance's name says."""

    workload: str
    generation: int
    replica: int


def instance_name(workload: str, generation: int, replica: int) -> str:
    """The name of a workload's replica in one template generation; unique within the namespace."""
    return f"{workload}-{generation}-{replica}"


def parse_instance_name(name: str) -> InstanceName | None:
    """The inverse of :func:`instance_name`; None for any other name."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    return InstanceName(match["workload"], int(match["generation"]), int(match["replica"]))


def instance_labels(workload: str, generation: int, replica: int) -> dict[str, str]:
    """The three labels that every Instance carries besides its workload's own."""
    return {LABEL_WORKLOAD: workload, LABEL_GENERATION: str(generation), LABEL_REPLICA: str(replica)}
