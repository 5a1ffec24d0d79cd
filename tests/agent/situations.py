"""Sessions in situations that tests look at."""

from __future__ import annotations

from collections.abc import Sequence

from tests.agent.receiver import Message, Receiver
from vmpulse_agent.hypervisor import DomainLook, Exit, Look, SectionReading
from vmpulse_agent.session import Policy, Session
from vmpulse_contract import sections
from vmpulse_contract.identity import HostId, VmId
from vmpulse_contract.sections import Info, Section, Status
from vmpulse_contract.stream import ChangeEvent, HostFacts
from vmpulse_contract.values import ExitCode, ExitReason, VmStatus

EPOCH = 77
A, B, C = (VmId(bytes([letter]) * 16) for letter in b"ABC")
MIGRATED = Exit(ExitCode.NORMAL, ExitReason.MIGRATION_SUCCEEDED)
SHUT_DOWN = Exit(ExitCode.NORMAL, ExitReason.USER_SHUTDOWN)
UNEXPLAINED = (ExitCode.UNKNOWN, ExitReason.LIBVIRT_DOMAIN_MISSING)


def up(vm: VmId, token: int = 1, status: VmStatus = VmStatus.UP) -> DomainLook:
    """A running VM as a look shows it."""
    return DomainLook(vm, token, status, 1000, 0, 0, 50)


def down(vm: VmId, remembered: Exit | None = None) -> DomainLook:
    """An inactive VM, with what is remembered of its end."""
    return DomainLook(vm, 0, VmStatus.DOWN, exit=remembered)


def new_session(policy: Policy | None = None) -> tuple[Session, Receiver]:
    """A session of the epoch, and one who hears it."""
    return Session(HostId("h1"), EPOCH, HostFacts(), 0.0, policy), Receiver(EPOCH)


def look_at(session: Session, at: float, *domains: DomainLook) -> None:
    """A look that began and ended at *at*."""
    session.looked(Look(at, domains), at)


def started(*domains: DomainLook, policy: Policy | None = None) -> tuple[Session, Receiver]:
    """A session at 10 s that has said its first roster and frame."""
    session, receiver = new_session(policy)
    look_at(session, 9.0, *domains)
    for look in domains:
        session.section_read(SectionReading(look.vm, info=Info(pid=1), status=Status()), 9.5)
    session.connected(9.6)
    session.begin(10.0)
    receiver.hear(session.drain())
    session.drain_unread()
    return session, receiver


def kinds_of(messages: Sequence[Message]) -> list[str]:
    """The kinds of messages, in order."""
    return [type(message).__name__ for message in messages]


def tell(session: Session, vm: VmId, pid: int, now: float) -> None:
    """A section of the VM is read, with this pid."""
    session.section_read(SectionReading(vm, info=Info(pid=pid)), now)


def pids_of(messages: Sequence[Message]) -> list[int | None]:
    """What the change events of info said, in order."""
    told = []
    for message in messages:
        if isinstance(message, ChangeEvent) and message.body is not None:
            info = sections.decode(Section.INFO, message.body)
            assert isinstance(info, Info)
            told.append(info.pid)
    return told
