"""`veil why`: why a replica does not run, or a workload is not complete: the class of reason, what it means, what to do.

It reads what the node's API shows anyway (conditions and reasons) and adds words. Nobody's capacity or demand comes into it:
there is none in a status, and nothing else is asked. Instances that wait for the same reason are told together.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from veil.cli.connection import Connection, namespace_option
from veil.cli.explanations import EXPLANATIONS, Cause, explanation
from veil.cli.output import dump

if TYPE_CHECKING:
    from veil.client.blocking import BlockingClient

Obj = dict[str, Any]

NAMED_MAX = 5
"""Instances named in one finding's text; `-o json` names all."""


class Finding(NamedTuple):
    """Why ``subjects`` (names of one kind) are as they are. ``notes`` are public facts about the surroundings."""

    kind: str
    subjects: tuple[str, ...]
    condition: str
    reason: str
    message: str
    since: str
    notes: tuple[str, ...] = ()

    @property
    def cause(self) -> Cause:
        return explanation(self.reason).cause


@click.command()
@click.argument("target", metavar="INSTANCE | workload/NAME", required=False)
@click.option("--reason", help="explain this reason instead, for example one from a log")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="the form of the output")
@namespace_option
@click.pass_obj
def why(connection: Connection, target: str | None, reason: str | None, output: str, namespace: str) -> None:
    """Explain why an instance or a workload waits, and what to do. Exit code 0 whenever it could be explained."""
    from veil.errors import ConfigInvalid

    if (target is None) == (reason is None):
        raise ConfigInvalid("either an object or --reason", hint="`veil why hello-1-0`, `veil why wl/hello`")
    if target is None:
        findings = [_of_reason(str(reason))]
        where = ""
    else:
        where = connection.namespace(namespace)
        with connection.client() as client:
            findings = [_with_notes(client, where, finding) for finding in _findings(client, target, where)]
    if output == "json":
        click.echo(dump([_as_json(finding, where) for finding in findings], "json"))
    else:
        click.echo("\n\n".join("\n".join(_text(finding, where)) for finding in findings))


def _of_reason(reason: str) -> Finding:
    from veil.errors import ConfigInvalid

    known = {name.lower(): name for name in EXPLANATIONS}
    if reason.lower() not in known:
        raise ConfigInvalid(f"there is no reason {reason!r}", hint=f"one of: {', '.join(sorted(EXPLANATIONS))}")
    return Finding("", (), "", known[reason.lower()], "", "")


# what is found


def _findings(client: "BlockingClient", target: str, where: str) -> list[Finding]:
    """Raises NotFound."""
    from veil.client.kinds import INSTANCES, PODS, WORKLOADS, find
    from veil.errors import ConfigInvalid, NotFound

    kind, slash, name = target.rpartition("/")
    resource = find(kind) if slash else INSTANCES
    if resource not in (INSTANCES, WORKLOADS, PODS) or not name:
        raise ConfigInvalid(f"{target!r} is no instance and no workload", hint="`veil why INSTANCE` or `veil why workload/NAME`")
    if resource != WORKLOADS and (instance := client.find(INSTANCES, name, where)):
        return of_instance(instance)
    workload = client.find(WORKLOADS, name, where) if resource == WORKLOADS or not slash else None
    if workload is None:
        raise NotFound(
            f"there is no {'workload' if resource == WORKLOADS else 'instance'} {name} in namespace {where}",
            hint="`veil get wl,inst` lists them; the instances of other namespaces need `-n`",
        )
    listed = client.list(INSTANCES, where, labels=f"veil.dev/workload={name}")["items"]
    return of_workload(workload, listed)


def of_instance(instance: Obj) -> list[Finding]:
    """The condition that keeps it back (or says that it runs), then what else is not as it should be."""
    status = instance.get("status") or {}
    conditions = {entry["type"]: entry for entry in status.get("conditions") or []}
    placed, ready = conditions.pop("Placed", {}), conditions.pop("Ready", {})
    main = ("Placed", placed) if placed.get("status") != "True" else ("Ready", ready)
    reason = str(main[1].get("reason") or status.get("reason") or "")
    found = [_finding("Instance", instance, main[0], main[1] | {"reason": reason})]
    found += [_finding("Instance", instance, kind, entry) for kind, entry in conditions.items() if entry["status"] == "False"]
    return found


def of_workload(workload: Obj, instances: list[Obj]) -> list[Finding]:
    """What keeps its instances back, those of one reason together; its own conditions where no instance says more."""
    grouped: dict[tuple[str, str], Finding] = {}
    for instance in instances:
        for finding in of_instance(instance):
            if finding.cause is Cause.WELL:
                continue
            before = grouped.setdefault((finding.condition, finding.reason), finding)
            if before is not finding:
                grouped[finding.condition, finding.reason] = before._replace(subjects=before.subjects + finding.subjects)
    conditions = (workload.get("status") or {}).get("conditions") or []
    told = {finding.reason for finding in grouped.values()}
    own = [entry for entry in conditions if entry["status"] == "False" and entry.get("reason") not in told]
    if not grouped and not own:
        own = [entry for entry in conditions if entry["type"] in ("Placed", "Available")] or [{"type": "Placed"}]
    return [_finding("Workload", workload, entry["type"], entry) for entry in own] + list(grouped.values())


def _finding(kind: str, obj: Obj, condition: str, entry: Obj) -> Finding:
    message, status = entry.get("message") or "", obj.get("status") or {}
    if kind == "Instance" and not message:
        message = status.get("message") or ""
    since = entry.get("lastTransitionTime") or ""
    return Finding(kind, (obj["metadata"]["name"],), condition, str(entry.get("reason") or ""), message, since)


# what the surroundings add


def _with_notes(client: "BlockingClient", where: str, finding: Finding) -> Finding:
    """Public facts that narrow the cause down: labels that no node has, members that this node does not reach."""
    from veil.client.kinds import INSTANCES, NODES, WORKLOADS

    if finding.cause is Cause.NO_CANDIDATE:
        name = finding.subjects[0]
        if finding.kind == "Instance":
            found = client.find(INSTANCES, name, where) or {"spec": {}}
            name = found["spec"].get("workload", "")
        workload = client.find(WORKLOADS, name, where) or {}
        placement, nodes = (workload.get("spec") or {}).get("placement", {}), client.list(NODES)["items"]
        notes = [
            *label_notes(placement.get("nodeSelector") or {}, nodes),
            *taint_notes(placement.get("tolerations") or {}, nodes),
            *(vouch_notes(nodes) if placement.get("vouchedLabels") else ()),
            *mark_notes(nodes),
        ]
        return finding._replace(notes=tuple(notes))
    if finding.cause in (Cause.QUORUM_MISSING, Cause.KEYS_MISSING, Cause.DECRYPTION_UNCHECKED):
        return finding._replace(notes=tuple(node_notes(client.list(NODES)["items"])))
    return finding


def label_notes(selector: dict[str, str], nodes: list[Obj]) -> Iterator[str]:
    """Which of the wanted labels no Active node has, and who matches."""
    active = [node for node in nodes if (node.get("status") or {}).get("phase") == "Active"]
    labels = {node["metadata"]["name"]: node["metadata"].get("labels") or {} for node in active}
    if not active:
        yield "no node is Active"
    for key, value in sorted(selector.items()):
        if active and not any(known.get(key) == value for known in labels.values()):
            yield f"no Active node has the label {key}={value}"
    matching = sorted(name for name, known in labels.items() if selector.items() <= known.items())
    if matching:
        yield f"Active and matching now: {', '.join(matching[:NAMED_MAX])}{' …' * (len(matching) > NAMED_MAX)}"


def taint_notes(tolerations: dict[str, str], nodes: list[Obj]) -> Iterator[str]:
    """Which Active nodes have a taint that is not tolerated."""
    for node in nodes:
        taints = (node.get("spec") or {}).get("taints") or {}
        kept_off = sorted(taints.items() - tolerations.items())
        if kept_off and (node.get("status") or {}).get("phase") == "Active":
            yield f"{node['metadata']['name']} has taints that are not tolerated: {', '.join('='.join(one) for one in kept_off)}"


def vouch_notes(nodes: list[Obj]) -> Iterator[str]:
    """For which Active nodes' labels no administrator vouches."""
    for node in nodes:
        status = node.get("status") or {}
        if status.get("phase") == "Active" and status.get("labelsVouchedBy", "") in ("", status.get("operator")):
            yield f"no administrator vouches for the labels of {node['metadata']['name']}"


def mark_notes(nodes: list[Obj]) -> Iterator[str]:
    """Which nodes members have marked down on chain."""
    for node in nodes:
        conditions = (node.get("status") or {}).get("conditions") or []
        if any(entry["type"] == "Eligible" and entry.get("reason") == "MarkedDown" for entry in conditions):
            yield f"{node['metadata']['name']} is marked down"


def node_notes(nodes: list[Obj]) -> Iterator[str]:
    """Nodes that are not reached from here, and parts of this node that do not work."""
    for node in nodes:
        name, status = node["metadata"]["name"], node.get("status") or {}
        for entry in status.get("conditions") or []:
            if entry["type"] == "Reachable" and entry["status"] != "True" and status.get("phase") in ("Active", "Cordoned"):
                yield f"{name} is not reached from here ({entry.get('reason', '')})"
            elif entry["type"] in ("KeysReady", "FheReady") and entry["status"] == "False":
                yield f"{name}: {entry['type']} is False ({entry.get('reason', '')}): {entry.get('message', '')}"


# what is printed


def _text(finding: Finding, where: str) -> Iterator[str]:
    words = explanation(finding.reason)
    if finding.subjects:
        shown = ", ".join(finding.subjects[:NAMED_MAX])
        more = f" and {len(finding.subjects) - NAMED_MAX} more" if len(finding.subjects) > NAMED_MAX else ""
        yield click.style(f"{finding.kind} {shown}{more}", bold=True) + f" (namespace {where}), {finding.condition}:"
    code = f" ({finding.reason})" if finding.reason else ""
    yield f"  why     {words.cause}{code}"
    yield f"          {words.meaning}"
    yield f"  do      {words.todo}"
    if finding.message:
        yield f"  said    {finding.message}"
    for note in finding.notes:
        yield f"  seen    {note}"
    if finding.since:
        yield f"  since   {finding.since}"


def _as_json(finding: Finding, where: str) -> Obj:
    words = explanation(finding.reason)
    return {
        "kind": finding.kind,
        "namespace": where,
        "names": list(finding.subjects),
        "condition": finding.condition,
        "class": str(words.cause),
        "reason": finding.reason,
        "meaning": words.meaning,
        "todo": words.todo,
        "message": finding.message,
        "notes": list(finding.notes),
        "since": finding.since,
    }
