"""Writes docs/reference/contract.md: every function, event, error and role of the registry, from the artifact and the sources.

``make contracts`` runs it, and a test fails when the page is not what it would write.
"""

import json
import re
from pathlib import Path
from typing import Any

from veil.chain import reverts

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "contracts" / "src"
PAGE = ROOT / "docs" / "reference" / "contract.md"
_FUNCTION = re.compile(r"function (\w+)\(([^)]*)\)([^{};]*)[{;]")
_ROLE = re.compile(r'((?:    ///[^\n]*\n)*)    bytes32 public constant (\w+) = keccak256\("(\w+)"\);')
_LIMIT = re.compile(r"    uint\d+ public constant (\w+) = ([\w ]+);")

INTRODUCTION = """# The registry's contract

One proxy (ERC-1967, UUPS) with two contracts' code behind it, VeilRegistry and VeilRegistryExtension, because one contract's code
is limited to 24,576 bytes. Callers see one address with all functions. Everything here is made from the sources by `make contracts`.

- Every event of the registry has four topics: its signature, `rv`, and two more. `head()` is a hash chain over all of them
  (`contracts/src/HeadChain.sol` has the formula). OpenZeppelin's own events (roles, pause, upgrades) stand outside; what they say
  is said again in the chain, by `RoleChanged`, `RoleAdminSet`, `PauseChanged` and `CodeChanged`.
- While the registry is paused every function that changes something reverts with `EnforcedPause`, but those for roles, pause and
  upgrades. Everything can be read.
- Amounts are in wei, periods and dates in seconds. A `peerID` is a raw Ed25519 public key, a `namespace` the upper 16 bytes of its
  objects' ids.
- What each operation costs: [gas.md](gas.md).
"""


def page() -> str:
    """The whole page."""
    artifact = json.loads((ROOT / "contracts" / "artifacts" / "VeilRegistry.json").read_text())
    abi, natspec = artifact["abi"], artifact["natspec"]
    source = "".join(file.read_text() for file in sorted(SOURCES.glob("*.sol")))
    parts = [INTRODUCTION, _roles(source), _functions(abi, natspec, source), _events(abi), _errors(abi), _limits(source)]
    return "\n".join(parts)


def _roles(source: str) -> str:
    rows = [("`DEFAULT_ADMIN_ROLE`", "May grant and revoke every role, upgrade, end a pause and pay out of the pool.")]
    rows += [(f"`{name}`", _comment(comment)) for comment, name, _ in sorted(_ROLE.findall(source), key=lambda found: found[1])]
    known = {row[0].strip("`") for row in rows}
    if known != set(reverts.ROLES):
        raise SystemExit(f"roles of the sources and of veil.chain.reverts differ: {known ^ set(reverts.ROLES)}")
    text = "A role's id is keccak256 of its name. `initialize` gives its argument all of them but `REQUESTER`; a cluster that strangers\n"
    text += "share gives them to a Timelock, but for `GUARDIAN`. Any other role can be made to own namespaces (`setRoleAdmin`).\n"
    return "## Roles\n\n" + text + "\n" + _table(("role", "holders"), rows)


def _functions(abi: list[dict[str, Any]], natspec: dict[str, Any], source: str) -> str:
    who = {(name, _arity(arguments)): _callers(rest) for name, arguments, rest in _FUNCTION.findall(source)}
    writes, views = [], []
    for item in sorted((item for item in abi if item["type"] == "function"), key=lambda item: str(item["name"])):
        if item["name"].isupper():
            continue
        text = natspec.get(_signature(item), "")
        if item["stateMutability"] in ("view", "pure"):
            views.append((f"`{_call(item)}`", f"`{_names(item['outputs'])}`", text or "OpenZeppelin"))
        else:
            caller = who.get((item["name"], len(item["inputs"])), "")
            name = f"`{_call(item)}`" + (" payable" if item["stateMutability"] == "payable" else "")
            writes.append((name, caller, text or "OpenZeppelin"))
    return (
        "## Functions that change something\n\n"
        + _table(("function", "who", "what"), writes)
        + "\n## Functions that read\n\n"
        + _table(("function", "gives", "what"), views)
    )


def _callers(rest: str) -> str:
    roles = re.findall(r"onlyRole\((\w+)\)", rest)
    if roles:
        return f"`{roles[0]}`"
    return "members' operators" if "onlyMember" in rest else ""


def _events(abi: list[dict[str, Any]]) -> str:
    rows = []
    for item in sorted((item for item in abi if item["type"] == "event"), key=lambda item: str(item["name"])):
        topics = [part["name"] for part in item["inputs"] if part["indexed"]]
        data = [f"{part['type']} {part['name']}" for part in item["inputs"] if not part["indexed"]]
        ours = bool(topics) and topics[0] == "rv"
        rows.append((f"`{item['name']}`", f"`{', '.join(topics)}`" if topics else "", f"`{', '.join(data)}`" if data else "", "yes" if ours else "no"))
    return "## Events\n\n" + _table(("event", "topics", "data", "in the chain of `head()`"), rows)


def _errors(abi: list[dict[str, Any]]) -> str:
    rows = []
    for item in sorted((item for item in abi if item["type"] == "error"), key=lambda item: str(item["name"])):
        meaning = reverts.meaning_of(item["name"])
        names = [f"<{part['name'] or part['type']}>" for part in item["inputs"]]
        text, kind = (meaning.message.format(*names), meaning.kind.__name__) if meaning else ("of a broken deployment or upgrade", "Refused")
        rows.append((f"`{_call(item)}`", text.replace("<", "*").replace(">", "*"), f"`{kind}`"))
    text = "The client turns each into an error of `veil.errors` and names the argument that was wrong, where it is about one.\n\n"
    return "## Errors\n\n" + text + _table(("error", "means", "in Python"), rows)


def _limits(source: str) -> str:
    return "## Limits\n\n" + _table(("limit", "value"), [(f"`{name}`", value) for name, value in sorted(_LIMIT.findall(source)) if "MAX" in name])


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def _call(item: dict[str, Any]) -> str:
    return f"{item['name']}({_names(item['inputs'])})"


def _names(parts: list[dict[str, Any]]) -> str:
    return ", ".join(f"{part.get('internalType', part['type']).removeprefix('enum ').removeprefix('struct ')} {part['name']}".strip() for part in parts)


def _signature(item: dict[str, Any]) -> str:
    return f"{item['name']}({','.join(_type(part) for part in item['inputs'])})"


def _type(part: dict[str, Any]) -> str:
    if not part["type"].startswith("tuple"):
        return str(part["type"])
    return "(" + ",".join(_type(inner) for inner in part["components"]) + ")" + part["type"].removeprefix("tuple")


def _arity(arguments: str) -> int:
    return len([argument for argument in arguments.split(",") if argument.strip()])


def _comment(text: str) -> str:
    return " ".join(line.strip().removeprefix("///").strip() for line in text.splitlines()).removeprefix("@notice ").strip()


if __name__ == "__main__":
    PAGE.write_text(page())
