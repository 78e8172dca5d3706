"""`veil audit`: what it prints, and its exit codes."""

import json
from typing import Any

from cli_ran import Veil

from veil.api.fake import FakeNode, an_instance

NODE = {"node": "node-2", "peer": "12D3KooWx"}


def a_report(verdict: str, *checks: tuple[str, str, list[dict[str, str]]], **changes: Any) -> dict[str, Any]:
    shown = [{"check": check, "state": state, "message": f"about {check}", "liars": liars} for check, state, liars in checks]
    liars = [liar for _, _, named in checks for liar in named]
    report = {"placement": "3-7-0", "verdict": verdict, "block": 9, "reevaluated": True, "checks": shown, "liars": liars}
    leaf = {"workload": "default/hello", "replica": 1, "round": "ab" * 16, "epoch": 1, "winner": NODE}
    return report | leaf | changes


async def test_a_placement_that_agrees_is_exit_code_0(veil: Veil, served: FakeNode) -> None:
    served.auditor.reports["3-7-0"] = a_report("agreed", ("log", "ok", []), ("evaluation", "ok", []))
    for word in ("3-7-0", "pl/3-7-0"):
        code, out, err = await veil("audit", word)
        assert (code, err) == (0, "")
        assert out.splitlines()[1] == "default/hello replica 1 on node-2, round abababab, key epoch 1"
        assert out.splitlines()[-1] == "all agrees, evaluated again"
    served.auditor.reports["3-7-0"] = a_report("agreed", ("log", "ok", []), reevaluated=False)
    assert "ask a member of the committee" in (await veil("audit", "3-7-0")).out
    served.auditor.reports["3-7-0"] = a_report("agreed", ("log", "ok", []), checked=False)
    assert "(DecryptionUnchecked)" in (await veil("audit", "3-7-0")).out


async def test_a_lie_is_exit_code_3_and_names_the_liar(veil: Veil, served: FakeNode) -> None:
    served.auditor.reports["3-7-0"] = a_report("lie", ("log", "ok", []), ("evaluation", "lie", [NODE]))
    code, out, _ = await veil("audit", "3-7-0")
    assert (code, out.splitlines()[-1]) == (3, "a lie: by node-2")
    assert out.splitlines()[4].split()[:3] == ["evaluation", "lie", "node-2"]
    served.auditor.reports["3-7-0"] = a_report("lie", ("decision", "lie", []))
    code, out, _ = await veil("audit", "3-7-0")
    assert (code, "by whom cannot be told" in out) == (3, True)


async def test_what_is_missing_is_exit_code_2_and_named(veil: Veil, served: FakeNode) -> None:
    served.auditor.reports["3-7-0"] = a_report("incomplete", ("log", "ok", []), ("transcript", "missing", []))
    code, out, _ = await veil("audit", "3-7-0")
    assert (code, out.splitlines()[-1]) == (2, "not enough at hand: transcript; nothing that is there is a lie")


async def test_json_is_the_nodes_report_and_the_transcript_what_it_keeps(veil: Veil, served: FakeNode) -> None:
    served.auditor.reports["3-7-0"] = a_report("lie", ("log", "lie", [NODE]))
    code, out, _ = await veil("audit", "3-7-0", "-o", "json")
    assert (code, json.loads(out)) == (3, served.auditor.reports["3-7-0"])
    served.auditor.transcripts["3-7-0"] = {"placement": "3-7-0", "transcripts": []}
    code, out, _ = await veil("audit", "3-7-0", "--transcript")
    assert (code, json.loads(out)) == (0, served.auditor.transcripts["3-7-0"])


async def test_an_instance_means_its_placement(veil: Veil, served: FakeNode) -> None:
    leaf = {"shard": 3, "sequence": 7, "leaf": "ab", "root": "cd"}
    served.store.put(an_instance(placement=leaf))
    served.store.put(an_instance("hello-1-1"))
    served.auditor.reports |= {name: a_report("agreed", placement=name) for name in ("3-7", "3-7-1")}
    for word in ("hello-1-0", "inst/hello-1-0"):
        assert (await veil("audit", word)).out.startswith("placement 3-7,")
    for index, known in enumerate(("ff", "ab")):
        spec = {"shard": 3, "sequence": 7, "index": index, "leaf": known}
        metadata = {"name": f"3-7-{index}", "labels": {"veil.dev/shard": "3"}}
        served.store.put({"apiVersion": "veil.dev/v1alpha1", "kind": "Placement", "metadata": metadata, "spec": spec})
    assert (await veil("audit", "hello-1-0")).out.startswith("placement 3-7-1,")
    code, _, err = await veil("audit", "hello-1-1")
    assert (code, "`veil why hello-1-1`" in err) == (1, True)
    assert (await veil("audit", "wl/hello")).code == 1
    assert (await veil("audit", "nothere-1-0")).code == 1


async def test_no_such_placement_is_exit_code_1_and_a_node_that_is_away_2(veil: Veil, served: FakeNode) -> None:
    assert (await veil("audit", "3-9-0")).code == 1
    await served.server.close()
    assert (await veil("audit", "3-9-0")).code == 2
