"""Settings: the environment wins over node.env, and everything wrong is said at once."""

from pathlib import Path

import pytest

from veil.config import MeshLimits, load_settings, settings_by_variable, write_settings
from veil.errors import ConfigInvalid

NEEDED = {"VEIL_NODE_NAME": "a", "VEIL_CHAIN_RPC": "http://127.0.0.1:1", "VEIL_CONTRACT_ADDRESS": "0x0"}


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    write_settings(tmp_path, NEEDED | {"VEIL_RUNTIME": "process"})
    settings = load_settings(tmp_path, {"VEIL_NODE_NAME": "b"})
    assert (settings.name, settings.runtime, settings.directory) == ("b", "process", tmp_path)


def test_the_directory_that_was_given_wins_over_the_environment(tmp_path: Path) -> None:
    write_settings(tmp_path, NEEDED)
    assert load_settings(tmp_path, {"VEIL_DIR": "/elsewhere"}).directory == tmp_path


def test_every_wrong_setting_is_named(tmp_path: Path) -> None:
    (tmp_path / "node.env").write_text("VEIL_RUNTIME=magic\nVEIL_CAPACITY_SHARE=2\nVEIL_COLOUR=red\n")
    with pytest.raises(ConfigInvalid) as caught:
        load_settings(tmp_path, {})
    for name in ("VEIL_RUNTIME", "VEIL_CAPACITY_SHARE", "VEIL_COLOUR", "VEIL_NODE_NAME", "VEIL_CHAIN_RPC"):
        assert name in caught.value.message


def test_only_known_settings_are_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid):
        write_settings(tmp_path, {"VEIL_COLOUR": "red"})


def test_labels_are_pairs(tmp_path: Path) -> None:
    assert load_settings(tmp_path, NEEDED | {"VEIL_NODE_LABELS": "zone=a, disk=ssd"}).labels == (("zone", "a"), ("disk", "ssd"))
    assert load_settings(tmp_path, NEEDED | {"VEIL_NODE_TAINTS": "dedicated=db"}).taints == (("dedicated", "db"),)
    with pytest.raises(ConfigInvalid, match=r"VEIL_NODE_TAINTS.* must be at most 8"):
        load_settings(tmp_path, NEEDED | {"VEIL_NODE_TAINTS": ",".join(f"a{number}=b" for number in range(9))})
    with pytest.raises(ConfigInvalid, match="VEIL_NODE_LABELS"):
        load_settings(tmp_path, NEEDED | {"VEIL_NODE_LABELS": "zone"})


MESH_LIMITS = [(variable, item) for variable, (group, item) in settings_by_variable().items() if group == "mesh"]


@pytest.mark.parametrize(("variable", "item"), MESH_LIMITS, ids=[variable for variable, _ in MESH_LIMITS])
def test_a_limit_of_the_mesh_has_a_default_within_bounds_and_takes_nothing_outside_of_them(tmp_path, variable, item) -> None:
    least, most = (int(word) for word in item.metadata["parse"].__doc__.split(" to "))
    assert least <= getattr(load_settings(tmp_path, NEEDED).mesh, item.name) == item.default <= most
    for value in (least, most):
        settings = load_settings(tmp_path, NEEDED | {variable: str(value)})
        assert getattr(settings.mesh, item.name) == value
        assert settings.mesh == MeshLimits(**{item.name: value})
    for value in (least - 1, most + 1):
        with pytest.raises(ConfigInvalid, match=f"{variable}: '{value}' must be {least} to {most}"):
            load_settings(tmp_path, NEEDED | {variable: str(value)})


def test_a_limit_of_the_mesh_can_be_written(tmp_path: Path) -> None:
    write_settings(tmp_path, NEEDED | {"VEIL_MESH_STREAMS": "64"})
    assert load_settings(tmp_path, {}).mesh.streams == 64
