"""The state machine's model of a store: it keeps what the file keeps."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.consumers.view.back_to_back import MIGRATED, Table, vm_number
from tests.consumers.view.situations import OTHER, silence
from tests.consumers.view.test_memory import Shelf
from vmpulse_consumers.store.file import StoreFile
from vmpulse_consumers.view import HostState
from vmpulse_consumers.view.memory import Kept
from vmpulse_contract import wire

ACTS = ["starts", "stops", "migrates", "comes", "goes", "logs in", "dies", "is forgotten", "ticks", "is written"]


def act(table: Table, word: str, number: int) -> None:
    """Something happens to a VM, or to its host."""
    host = list(table.hosts.values())[(number - 1) // 2]
    vm, domain = vm_number(number), host.domains.get(vm_number(number))
    if word == "comes":
        host.define_vm(vm)
    elif word == "dies":
        table.dead.add(host.id)
        silence(table, 17)
    elif word == "is forgotten" and OTHER in table.view.hosts and table.view.hosts[OTHER].state is HostState.LOST:
        table.view.forget(OTHER, table.now)
        table.dead.discard(OTHER)
        table.hosts[OTHER].begin(table.now, table.next_epoch())
    elif domain is not None and word == "starts":
        host.start_vm(vm)
    elif domain is not None and word in {"stops", "migrates"} and domain.token:
        host.stop_vm(vm, table.now, *([MIGRATED] if word == "migrates" else []))
    elif domain is not None and word == "goes":
        host.undefine_vm(vm, table.now)
    elif domain is not None and word == "logs in":
        domain.user = f"user-{table.now}"
    elif word == "ticks":
        table.step()


def said(kept: Kept) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """What is kept, comparable: the order means nothing."""

    def packed(records: Iterable[object]) -> list[bytes]:
        return sorted(wire.write(record) for record in records)

    return packed(kept.hosts), packed([section[:] for section in kept.sections]), packed(kept.transits)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(ACTS), st.integers(1, 4)), max_size=25))
def test_the_model_keeps_what_the_file_keeps(acts: list[tuple[str, int]]) -> None:
    """Whatever has happened, after the same batches both give the same."""
    table, shelf = Table(hosts=2, vms=2), Shelf()
    table.view.memory.keeping = True
    table.settle()
    with TemporaryDirectory() as folder:
        file = StoreFile(Path(folder) / "store")
        file.open()
        for word, number in [*acts, ("ticks", 1), ("is written", 1)]:
            act(table, word, number)
            while word == "is written" and table.view.memory:
                batch = table.view.memory.drain(table.view.hosts, table.view.vms, table.view.runtime)
                shelf.put(batch)
                file.write(batch)
        assert said(file.load()) == said(shelf.kept())
        file.close()
