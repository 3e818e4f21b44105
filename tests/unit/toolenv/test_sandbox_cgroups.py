"""The group around the pool, on imitated hierarchies."""

import asyncio
import os

import pytest

from services.toolenv.sandbox.cgroups import open_cgroup

MIB = 1 << 20


@pytest.fixture
def membership(tmp_path):
    path = tmp_path / "membership"

    def write(text):
        path.write_text(text, "ascii")
        return path

    return write


def _open(root, membership):
    return open_cgroup(memory_bytes=700 * MIB, pids=99, root=root, membership=membership)


def _only_child(folder):
    (child,) = [path for path in folder.iterdir() if path.is_dir()]
    return child


def test_v1_hierarchies_get_one_group_each(tmp_path, membership):
    root = tmp_path / "v1"
    for controller in ("memory", "pids", "cpu"):
        (root / controller / "mine").mkdir(parents=True)
    group = _open(root, membership("3:memory:/mine\n2:pids:/mine\n1:cpu,cpuacct:/mine\n0::/\n"))
    assert group.mode == "v1"
    memory = _only_child(root / "memory/mine")
    assert memory.name.startswith(f"toolwright-sandbox-{os.getpid()}-")
    assert (memory / "memory.limit_in_bytes").read_text() == str(700 * MIB)
    assert (_only_child(root / "pids/mine") / "pids.max").read_text() == "99"
    assert (_only_child(root / "cpu/mine") / "cpu.shares").read_text() == "512"
    group.attach(4711)
    assert (memory / "cgroup.procs").read_text() == "4711"


def test_v2_is_used_where_its_controllers_are_delegated(tmp_path, membership):
    parent = tmp_path / "v2" / "mine"
    parent.mkdir(parents=True)
    (parent / "cgroup.subtree_control").write_text("cpu memory pids\n")
    group = _open(tmp_path / "v2", membership("0::/mine\n"))
    assert group.mode == "v2"
    folder = _only_child(parent)
    assert (folder / "memory.max").read_text() == str(700 * MIB)
    assert (folder / "pids.max").read_text() == "99"
    assert (folder / "cpu.weight").read_text() == "50"


@pytest.mark.parametrize("text", ["", "garbage", "0::/\n", "3:memory:/elsewhere\n"])
def test_without_a_writable_hierarchy_there_is_no_group_and_no_error(tmp_path, membership, text):
    group = _open(tmp_path / "nowhere", membership(text))
    assert group.mode == "none"
    group.attach(1)
    group.close()


def test_v2_without_delegated_controllers_is_not_used(tmp_path, membership):
    parent = tmp_path / "v2"
    parent.mkdir()
    (parent / "cgroup.subtree_control").write_text("hugetlb\n")
    assert _open(parent, membership("0::/\n")).mode == "none"


def test_the_group_of_a_dead_host_is_removed_and_that_of_a_living_one_stays(tmp_path, membership):
    parent = tmp_path / "memory"
    dead, alive = parent / "toolwright-sandbox-4194305-1", parent / "toolwright-sandbox-1-1"
    dead.mkdir(parents=True)
    alive.mkdir()
    _open(tmp_path, membership("1:memory:/\n"))
    assert not dead.exists()
    assert alive.exists()


@pytest.mark.anyio
async def test_closing_waits_until_the_group_is_empty(tmp_path, membership):
    (tmp_path / "memory").mkdir()
    group = _open(tmp_path, membership("1:memory:/\n"))
    folder = _only_child(tmp_path / "memory")
    asyncio.get_running_loop().call_later(0.05, (folder / "memory.limit_in_bytes").unlink)
    await group.aclose()
    assert not folder.exists()
