"""`veil key` as it is typed: what needs no chain, and what is refused before anything is asked."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from veil.cli.key import _plan
from veil.cli.main import run
from veil.errors import ConfigInvalid
from veil.identity import Identity, parse_peer_id

PLANS = Path(__file__).parents[3] / "manifests" / "keys"


def test_a_generated_key_is_the_one_whose_peer_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "peer.key"
    assert run(["key", "generate", str(path)]) == 0
    assert parse_peer_id(capsys.readouterr().out.strip()) == Identity.load(path).peer_id
    assert path.stat().st_mode & 0o077 == 0
    before = path.read_text()
    assert run(["key", "generate", str(path)]) == 1
    assert path.read_text() == before
    assert "there already" in capsys.readouterr().err


def test_every_verb_has_help() -> None:
    from veil.cli.key import key

    assert set(key.commands) == {"activate", "ceremony", "classes", "generate", "list", "publish", "retire", "show"}
    for name in key.commands:
        shown = CliRunner().invoke(key, [name, "--help"])
        assert (shown.exit_code, "Usage:" in shown.output) == (0, True)


def test_what_is_given_counts_more_than_the_plan() -> None:
    plan = _plan(PLANS / "small.yaml", None, None, None)
    assert (plan.threshold, plan.members, plan.candidates) == (2, 3, (4,))
    plan = _plan(PLANS / "small.yaml", 3, None, None)
    assert (plan.threshold, plan.members, plan.candidates) == (3, None, (4,))
    assert _plan(None, None, None, "designated").threshold == 1
    assert _plan(None, 5, "plain", None).threshold == 5
    with pytest.raises(ConfigInvalid, match="how many"):
        _plan(None, None, None, None)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ceremony", "--threshold", "2"], "--committee"),
        (["ceremony", "--threshold", "0", "--committee", "c.yaml", "--dir", "d"], "--threshold"),
        (["activate", "zero", "--dir", "d"], "EPOCH"),
        (["list"], "--dir"),
        (["show", "1", "--dir", "nowhere"], "VEIL_NODE_NAME"),
    ],
)
def test_a_wrong_command_is_an_error_of_the_user(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VEIL_DIR", raising=False)
    assert run(["key", *arguments]) == 1
    printed = capsys.readouterr()
    assert (printed.out, words in printed.err) == ("", True)
