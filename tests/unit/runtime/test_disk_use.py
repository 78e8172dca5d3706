"""What a directory tree takes, whoever made it."""

import os
from pathlib import Path

import pytest

from veil.runtime import disk_use
from veil.runtime.disk_use import UNCOUNTABLE, remove_tree, tree_bytes


def fill(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(os.urandom(size))
        file.flush()
        os.fsync(file.fileno())  # blocks are counted once they are there


def test_nothing_is_there(tmp_path: Path) -> None:
    assert tree_bytes(tmp_path / "none") == 0
    (tmp_path / "file").touch()
    assert tree_bytes(tmp_path / "file") == 0


def test_files_at_every_depth_count_and_hard_links_count_once(tmp_path: Path) -> None:
    for name in ("a", "d/b", "d/e/c"):
        fill(tmp_path / "tree" / name, 100_000)
    os.link(tmp_path / "tree" / "a", tmp_path / "tree" / "d" / "again")
    assert 300_000 <= tree_bytes(tmp_path / "tree") < 350_000


def test_holes_take_nothing(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    assert tree_bytes(tmp_path) < 1 << 20


def test_links_are_not_followed(tmp_path: Path) -> None:
    fill(tmp_path / "outside" / "big", 1 << 20)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "dir").symlink_to(tmp_path / "outside")
    (tmp_path / "tree" / "file").symlink_to(tmp_path / "outside" / "big")
    assert tree_bytes(tmp_path / "tree") < 1 << 16
    (tmp_path / "link").symlink_to(tmp_path / "outside")
    assert tree_bytes(tmp_path / "link") == 0


def deep(root: Path, levels: int, *, beside: bool) -> None:
    root.mkdir()
    handle = os.open(root, os.O_RDONLY)
    for _ in range(levels):
        if beside:
            os.mkdir("beside", dir_fd=handle)
        os.mkdir("d", dir_fd=handle)
        below = os.open("d", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = below
    file = os.open("big", os.O_WRONLY | os.O_CREAT, dir_fd=handle)
    os.write(file, os.urandom(200_000))
    os.fsync(file)
    os.close(file)
    os.close(handle)


def test_nothing_hides_below_a_path_that_is_too_long(tmp_path: Path) -> None:
    deep(tmp_path / "tree", 3000, beside=False)
    opened = len(os.listdir("/proc/self/fd"))
    assert 200_000 <= tree_bytes(tmp_path / "tree") < UNCOUNTABLE
    remove_tree(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()
    assert len(os.listdir("/proc/self/fd")) == opened
    remove_tree(tmp_path / "tree")


def test_what_cannot_be_counted_is_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep(tmp_path / "tree", 30, beside=True)
    opened = len(os.listdir("/proc/self/fd"))
    assert tree_bytes(tmp_path / "tree") < UNCOUNTABLE
    monkeypatch.setattr(disk_use, "ENTRIES_MAX", 10)
    assert tree_bytes(tmp_path / "tree") == UNCOUNTABLE
    monkeypatch.setattr(disk_use, "ENTRIES_MAX", 1000)
    monkeypatch.setattr(disk_use, "OPEN_MAX", 4)
    monkeypatch.setattr(disk_use, "_entries", lambda handle: sorted(entries(handle), key=lambda one: one[0] == "d"))
    assert tree_bytes(tmp_path / "tree") == UNCOUNTABLE
    assert len(os.listdir("/proc/self/fd")) == opened


entries = disk_use._entries
