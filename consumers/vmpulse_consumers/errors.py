"""What can go wrong on the engine side, as one tree. Each message is one line and says how to mend it.

    ConsumerError                 exit code 1
    ├── NotInstalled                the distribution was installed without what this command needs
    ├── PortTaken                   the HTTP address is in use or not ours
    ├── TokensUnusable              the file of the HTTP API's tokens cannot be read, or a line of it is none
    ├── CertificateUnusable         the HTTP API's certificate or key cannot be used
    ├── StoreUnusable               the file that keeps the view's memory cannot be opened, read or written
    │   ├── StoreInUse                another view has it open
    │   ├── StoreTooNew               a newer vmpulse has written it
    │   ├── StoreFull                 its disk is full
    │   └── StoreBroken               it is damaged, or no store
    ├── CaptureUnwritable           a capture cannot be made or written to
    ├── CaptureUnreadable           a file is no capture, or of another version, or damaged
    ├── BadHostList                 a list of hosts cannot be read, or a line of it is none
    ├── PasswordUnusable            a user's password file cannot be made or read, or is open to everybody
    ├── ManagementUnreachable       no management API of RabbitMQ answers
    ├── ManagementRefused           it answers with an error: wrong user, no administrator
    ├── NotInCapture                what a replay is to show is not in its capture
    ├── ViewUnreachable             no view answers at the API's address
    └── ViewRefused                 the view answers with an error: unknown VM, bad filter
        └── ViewBusy                  it has no room for one more reader now

    NotApplied                    a stream message met a fault of ours (a MessageError, as any that is refused)
    IllegalTransition             a state machine got an input that its table does not have; nothing has changed

The broker's errors are vmpulse_edges.errors; wrong settings are vmpulse_contract.errors.SettingsError, exit code 2.
"""

from __future__ import annotations

from vmpulse_contract.errors import MistypedMessage


class ConsumerError(Exception):
    """Base of the errors that end a program of the engine side."""


class NotInstalled(ConsumerError):
    """A package of the extra ``consumers`` is not installed."""


class PortTaken(ConsumerError):
    """The HTTP API cannot listen where it should."""


class TokensUnusable(ConsumerError):
    """The file of the HTTP API's tokens cannot be read or written, or a line of it is none."""


class CertificateUnusable(ConsumerError):
    """The HTTP API's certificate or key cannot be used."""


class StoreUnusable(ConsumerError):
    """The file that keeps the view's memory cannot be opened, read or written."""


class StoreInUse(StoreUnusable):
    """Another view has the store open."""


class StoreTooNew(StoreUnusable):
    """A newer vmpulse has written the store."""


class StoreFull(StoreUnusable):
    """The store's disk is full."""


class StoreBroken(StoreUnusable):
    """The store is damaged, or is no store."""


class CaptureUnwritable(ConsumerError):
    """A capture cannot be made or written to."""


class CaptureUnreadable(ConsumerError):
    """A file is no capture, or one of another version, or damaged."""


class BadHostList(ConsumerError):
    """A list of hosts cannot be read, or a line of it is no host's name."""


class PasswordUnusable(ConsumerError):
    """The file of a user's password cannot be made or read, or is open to everybody."""


class ManagementUnreachable(ConsumerError):
    """No management API of RabbitMQ answers."""


class ManagementRefused(ConsumerError):
    """RabbitMQ's management API answers with an error."""


class NotInCapture(ConsumerError):
    """What a replay is to show is not in its capture, as far as that was replayed."""


class ViewUnreachable(ConsumerError):
    """No view answers at the API's address."""


class ViewRefused(ConsumerError):
    """The view answers with an error."""


class ViewBusy(ViewRefused):
    """The view has no room for one more reader now."""


class NotApplied(MistypedMessage):
    """A stream message met a fault of ours, which is the cause; it costs this one message."""


class IllegalTransition(Exception):
    """A state machine got an input that its table does not have in that state; nothing has changed."""

    def __init__(self, state: object, given: object) -> None:
        super().__init__(f"{given} is not possible in state {state}")
        self.state = state
        self.given = given
