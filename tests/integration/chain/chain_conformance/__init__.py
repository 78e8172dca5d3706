"""What every Chain must do: run against the real registry on anvil and against the fake.

A bench gives clients of one fresh registry: ``client(i)`` is account i, account 0 is the administrator.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from chain_conformance import following, members, money, objects, rights

CASES: list[Callable[[Any], Awaitable[None]]] = [
    objects.object_lifecycle,
    objects.generation_conflicts,
    objects.namespaces_belong_to_their_creator,
    objects.policy_and_epochs,
    objects.kinds_with_their_own_functions,
    objects.labels_images_and_epoch_parts,
    members.membership,
    members.append_fence,
    members.leaves_are_verified,
    members.down_marks,
    money.stakes_and_payments,
    money.disputes,
    money.an_append_is_disputed_as_a_whole,
    rights.rights_owners_and_limits,
    rights.a_pause,
    rights.roles_and_pauses_are_in_the_head_chain,
    following.follow_and_finality,
    following.resume_from_cursor,
    following.reorg_while_following,
    following.reorg_while_away,
    following.a_cursor_of_another_history,
]
"""Each takes a :class:`chain_conformance.setting.Bench`."""
