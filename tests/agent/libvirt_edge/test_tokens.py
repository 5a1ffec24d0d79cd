"""Start tokens from a proc file system that is written for the test."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmpulse_agent.libvirt_edge.tokens import Life, Lives, start_ticks, token
from vmpulse_contract.identity import VmId, vm_text

VM = VmId(bytes(range(16)))


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A machine with one domain, "d", of pid 42, and a run folder."""
    (tmp_path / "sys/kernel/random").mkdir(parents=True)
    (tmp_path / "sys/kernel/random/boot_id").write_text("a6dea2d3\n")
    (tmp_path / "run").mkdir()
    process(tmp_path, 42, 163083)
    return tmp_path


def process(proc: Path, pid: int, ticks: int, uuid: str = vm_text(VM)) -> None:
    """A QEMU process and libvirt's note of it."""
    (proc / str(pid)).mkdir(exist_ok=True)
    (proc / str(pid) / "cmdline").write_bytes(f"qemu\0-uuid\0{uuid}\0".encode())
    (proc / str(pid) / "stat").write_text(f"{pid} (qemu) x) S {'0 ' * 18}{ticks} 1556856832 0\n")
    (proc / "run" / "d.pid").write_text(f"{pid}\n")


def lives(proc: Path) -> Lives:
    """A new agent's."""
    return Lives(proc / "run", proc)


def test_stable_over_agents_and_new_at_each_start(proc: Path) -> None:
    """The same process has the same token for every agent; the next process another."""
    first = lives(proc).life(VM, 1, "d", starting=False)
    assert first is not None
    assert first.pid == 42
    assert first.started_ns is not None
    assert lives(proc).life(VM, 1, "d", starting=False) == first
    process(proc, 43, 163999)
    again = lives(proc).life(VM, 1, "d", starting=False)
    assert again is not None
    assert again.token != first.token


def test_files_are_read_once(proc: Path) -> None:
    """Per domain id; what is gone from the looks is forgotten."""
    ours = lives(proc)
    first = ours.life(VM, 1, "d", starting=False)
    (proc / "run" / "d.pid").unlink()
    assert ours.life(VM, 1, "d", starting=False) is first
    ours.keep_only([])
    assert ours.life(VM, 1, "d", starting=False) != first


def test_no_token_before_the_process_is_known(proc: Path) -> None:
    """A start whose pid file is not written yet gets none, rather than one that would have to change."""
    (proc / "run" / "d.pid").unlink()
    ours = lives(proc)
    assert ours.life(VM, 1, "d", starting=True) is None
    process(proc, 42, 163083)
    found = ours.life(VM, 1, "d", starting=True)
    assert found is not None
    assert found.pid == 42


def test_a_pid_of_somebody_else_is_not_believed(proc: Path) -> None:
    """Pids are used again; the command line says whose it is."""
    process(proc, 42, 163083, uuid="00000000-0000-0000-0000-000000000000")
    found = lives(proc).life(VM, 1, "d", starting=False)
    assert found is not None
    assert (found.pid, found.started_ns) == (None, None)


@pytest.mark.parametrize("content", ["", "x", "42x", "-1", "../42"])
def test_rubbish_in_a_pid_file(proc: Path, content: str) -> None:
    """It is no pid."""
    (proc / "run" / "d.pid").write_text(content)
    found = lives(proc).life(VM, 1, "d", starting=False)
    assert found is not None
    assert found.pid is None


def test_without_processes_the_domain_id_counts() -> None:
    """Remote and test URIs."""
    ours = Lives(None)
    first, second = ours.life(VM, 1, "d", starting=False), ours.life(VM, 2, "d", starting=False)
    assert first is not None
    assert second is not None
    assert first.token != second.token
    assert Lives(None).life(VM, 1, "d", starting=False) == first


@given(st.binary(max_size=20), st.binary(max_size=20), st.integers(-1, 1 << 31))
def test_token_is_64_bits_and_never_0(boot_id: bytes, start: bytes, domain_id: int) -> None:
    """0 is the token of an inactive domain."""
    assert 0 < token(boot_id, start, domain_id) < 1 << 64


@given(st.binary())
def test_any_stat_line_is_survived(stat: bytes) -> None:
    """A number or none."""
    assert start_ticks(stat) is None or start_ticks(b"1 (x) S " + b"0 " * 18 + b"5 0") == 5


@pytest.mark.parametrize("letter,blocked", [("S", False), ("R", False), ("D", True), ("T", True), ("t", True)])
def test_blocked_process(tmp_path: Path, letter: str, *, blocked: bool) -> None:
    """Stopped or waiting for a device, whatever its name holds; without a pid nothing is said."""
    (tmp_path / "5").mkdir()
    (tmp_path / "5" / "stat").write_text(f"5 (a) D (b) {letter} 1 5 5 0\n")
    lives = Lives(None, tmp_path)
    assert lives.blocked(Life(1, 5)) is blocked
    assert not lives.blocked(Life(1, 6))
    assert not lives.blocked(Life(1))
