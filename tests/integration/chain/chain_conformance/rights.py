"""Rights, roles, owners, limits and pauses."""

from dataclasses import replace

import pytest

from chain_conformance.setting import NAMESPACE, SPACE, WEB, WORKLOAD, Bench, join, peer, replay
from veil.chain.ports import (
    AccessChanged,
    DecisionLimitChanged,
    HomePeersChanged,
    NamespaceOwnerChanged,
    OtherEvent,
    RoleChanged,
)
from veil.chain.records import Right, role_id
from veil.errors import Forbidden, LimitExceeded, NotFound, Refused
from veil.types import Generation
from veil.wire.objects import KINDS, object_id


async def rights_owners_and_limits(bench: Bench) -> None:
    node = await join(bench, 3)
    admin, owner, other = await bench.client(0), await bench.client(1), await bench.client(2)
    space, team = SPACE[:16], role_id("TEAM")
    await owner.apply_object(NAMESPACE, SPACE, Generation(0), b"space")
    await owner.set_access(space, other.operator, Right.EDIT | Right.VIEW)
    assert await admin.rights_of(space, other.operator) == Right.EDIT | Right.VIEW
    await other.apply_object(KINDS["GitSource"], WEB, Generation(0), b"edited")
    with pytest.raises(Forbidden):
        await other.apply_object(WORKLOAD, WEB, Generation(0), b"needs REQUEST")
    await owner.set_home_peers(space, [node])
    assert any(await admin.home_peers_digest(space))
    with pytest.raises(NotFound):
        await owner.set_home_peers(space, [peer("nobody")])
    with pytest.raises(LimitExceeded):
        await owner.set_home_peers(space, [node] * 4)
    with pytest.raises(Forbidden):
        await other.set_namespace_owner(space, other.operator)
    await owner.set_namespace_owner_role(space, team)
    assert (await admin.namespace_owner(space)).role == team
    assert await admin.rights_of(space, other.operator) == Right.NONE, "rights end with their owner"
    with pytest.raises(Forbidden):
        await owner.set_access(space, other.operator, Right.ALL)
    with pytest.raises(Forbidden):
        await other.grant_role("TEAM", other.operator)
    await admin.grant_role("TEAM", other.operator)
    assert await admin.has_role("TEAM", other.operator)
    await other.apply_object(WORKLOAD, WEB, Generation(0), b"by the team")
    await admin.revoke_role("TEAM", other.operator)
    with pytest.raises(Forbidden):
        await other.apply_object(WORKLOAD, WEB, Generation(1), b"no longer")
    for refused in (other.set_restricted(True), other.set_decision_limit(space, 5)):
        with pytest.raises(Forbidden):
            await refused
    await admin.set_decision_limit(bytes(16), 50)
    assert await other.decision_limit(space) == 50
    await admin.set_decision_limit(space, 5)
    assert await other.decision_limit(space) == 5
    await admin.set_restricted(True)
    assert await other.is_restricted()
    with pytest.raises(Forbidden):
        await owner.apply_object(NAMESPACE, object_id("second", ""), Generation(0), b"x")
    events = (await replay(other)).events
    told = [event for event in events if isinstance(event, AccessChanged | HomePeersChanged | DecisionLimitChanged)]
    assert [replace(event, rv=0) for event in told] == [
        AccessChanged(rv=0, namespace=space, account=other.operator, rights=3),
        HomePeersChanged(rv=0, namespace=space, peers=(node,)),
        DecisionLimitChanged(rv=0, namespace=bytes(16), per_epoch=50),
        DecisionLimitChanged(rv=0, namespace=space, per_epoch=5),
    ]
    moved = [event for event in events if isinstance(event, NamespaceOwnerChanged)]
    assert [(event.object_id, event.owner) for event in moved] == [(SPACE, (await admin.namespace_owner(space)).address)]


async def a_pause(bench: Bench) -> None:
    admin, other = await bench.client(0), await bench.client(1)
    with pytest.raises(Forbidden):
        await other.set_paused(True)
    await admin.set_paused(True)
    with pytest.raises(Refused):
        await other.apply_object(NAMESPACE, SPACE, Generation(0), b"x")
    with pytest.raises(Refused):
        await admin.set_decision_limit(bytes(16), 5)
    assert await other.get_policy() == b""
    await admin.grant_role("NODE_ADMIN", other.operator)
    await admin.set_paused(False)
    await other.apply_object(NAMESPACE, SPACE, Generation(0), b"x")


async def roles_and_pauses_are_in_the_head_chain(bench: Bench) -> None:
    admin, other = await bench.client(0), await bench.client(1)
    first = (await admin.head()).rv
    await admin.grant_role("TEAM", other.operator)
    await admin.grant_role("TEAM", other.operator)
    await admin.set_role_admin("TEAM", "LEAD")
    with pytest.raises(Forbidden):
        await admin.revoke_role("TEAM", other.operator)
    with pytest.raises(Forbidden):
        await other.set_role_admin("TEAM", "TEAM")
    await admin.grant_role("LEAD", other.operator)
    await other.revoke_role("TEAM", other.operator)
    await admin.set_paused(True)
    await admin.set_paused(False)
    view = await replay(other)
    team, lead = role_id("TEAM"), role_id("LEAD")
    assert view.since(first) == [
        RoleChanged(rv=first + 1, role=team, account=other.operator, held=True),
        OtherEvent(rv=first + 2, name="RoleAdminSet"),
        RoleChanged(rv=first + 3, role=lead, account=other.operator, held=True),
        RoleChanged(rv=first + 4, role=team, account=other.operator, held=False),
        OtherEvent(rv=first + 5, name="PauseChanged"),
        OtherEvent(rv=first + 6, name="PauseChanged"),
    ]
    assert view.head == await admin.head()
