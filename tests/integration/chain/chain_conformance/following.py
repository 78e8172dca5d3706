"""Following the events: finality, cursors and reorganisations."""

from chain_conformance.setting import WEB, WORKLOAD, Bench, View, caught_up, fill, replay, until
from veil.chain.ports import (
    EMPTY_HEAD,
    Finality,
    Head,
    ObjectApplied,
)
from veil.types import Generation


async def follow_and_finality(bench: Bench) -> None:
    chain = await bench.client()
    view, stream = View(), chain.follow(from_block=0, from_head=EMPTY_HEAD)
    await fill(chain, 3)
    await caught_up(chain, stream, view)
    await until(stream, view, lambda seen: seen.finalized.get(Finality.LATEST, 0) >= seen.blocks[-1][0].number)
    before = view.known[-1].number
    await bench.mine(2)
    await until(stream, view, lambda seen: seen.finalized[Finality.LATEST] >= before + 2)
    assert view.known[-1].number >= before + 2, "blocks without events move the cursor"
    await until(stream, view, lambda seen: seen.finalized.get(Finality.FINALIZED, 0) > 0)
    assert view.finalized[Finality.FINALIZED] <= view.finalized[Finality.SAFE] <= view.finalized[Finality.LATEST]


async def resume_from_cursor(bench: Bench) -> None:
    chain = await bench.client()
    first = (await chain.head()).rv
    await fill(chain, 3)
    view = await replay(chain)
    await chain.apply_object(WORKLOAD, WEB, Generation(0), b"while away")
    last = view.known[-1].number
    for known in (view.known[-3:], []):
        again = View()
        again.blocks = list(view.blocks)
        await caught_up(chain, chain.follow(from_block=last, from_head=view.head, known=known), again)
        assert [event.rv for event in again.since(first)] == [first + n for n in (1, 2, 3, 4, 5)]


async def reorg_while_following(bench: Bench, depth: int = 3) -> None:
    chain = await bench.client()
    await fill(chain, 5)
    view, stream = View(), chain.follow(from_block=0, from_head=EMPTY_HEAD)
    await caught_up(chain, stream, view)
    await bench.reorg(depth)
    await chain.apply_object(WORKLOAD, WEB, Generation(0), b"on the other branch")
    await caught_up(chain, stream, view)
    assert view.rollbacks >= 1
    assert view.events == (await replay(chain)).events
    assert [event.rv for event in view.events] == list(range(1, len(view.events) + 1))
    last = view.events[-1]
    assert isinstance(last, ObjectApplied)
    assert last.envelope == b"on the other branch"


async def reorg_while_away(bench: Bench) -> None:
    chain = await bench.client()
    await fill(chain, 5)
    stored = await replay(chain)
    await bench.reorg(3)
    await chain.apply_object(WORKLOAD, WEB, Generation(0), b"on the other branch")
    fresh = await replay(chain)
    for known in (stored.known, stored.known[-1:], []):
        view = View()
        view.blocks = list(stored.blocks)
        stream = chain.follow(from_block=stored.known[-1].number, from_head=stored.head, known=known)
        await until(stream, view, lambda seen: seen.head == fresh.head)
        assert view.rollbacks >= 1
        assert view.events == fresh.events


async def a_cursor_of_another_history(bench: Bench) -> None:
    chain = await bench.client()
    await fill(chain, 2)
    view = View()
    stream = chain.follow(from_block=(await replay(chain)).known[-1].number, from_head=Head(2, b"\1" * 24))
    await until(stream, view, lambda seen: seen.rollbacks > 0)
    await caught_up(chain, stream, view)
    assert view.events == (await replay(chain)).events
