"""Everything the contract can refuse, as one tree.

ContractError
├── MessageError            a received message cannot be used (theirs); ``reason`` labels counters and vmpulse.dead
│   ├── MalformedMessage      not msgpack, or beyond a structural limit
│   ├── MistypedMessage       msgpack of the wrong shape or types
│   ├── UnknownVersion        a wire version that this reader does not speak
│   ├── WrongSender           user_id missing, or unlike the routing key
│   ├── HashMismatch          a body that does not hash to its own hash
│   └── LimitBreached         a limit of limits.py does not hold; ``limit`` says which
│       ├── MessageTooBig, BodyTooBig, TooManyVms, TooManyIds, TooManyTombstones
│       ├── DeviceStatsTooBig, TooManyDevices, TooManyRows
│       └── TooManyApps, TooManyInterfaces, TooManyAddresses, TooManyLabels, TextTooLong
├── VerbError               an answer to a request that is not the reply asked for; ``code`` travels
│   ├── UnknownVerb, BadRequest, NotAllowed, NotReady, HypervisorFailed, ReplyFailed
│   └── UnknownHost, HostDidNotAnswer      (raised by the asking side; no agent sent them)
├── BadName                 a host or VM id that is none
└── SettingsError           a setting that is none; names the setting, the value and what is allowed
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from vmpulse_contract import limits

if TYPE_CHECKING:
    from vmpulse_contract.limits import Limit


class ContractError(Exception):
    """Base of all errors of the contract."""


class MessageError(ContractError):
    """A received message cannot be used. Readers count it under ``reason`` and go on."""

    reason: ClassVar[str] = "message"


class MalformedMessage(MessageError):
    """The bytes are not msgpack, or break a structural limit of the unpacker."""

    reason = "malformed"


class MistypedMessage(MessageError):
    """The msgpack is well formed but not the shape that its type asks for."""

    reason = "mistyped"


class UnknownVersion(MessageError):
    """The message's wire version is not one that this reader speaks.

    ``shown`` is the version for people; ``newer``: whether it is one that a newer vmpulse speaks, None where it is no
    version at all.
    """

    reason = "version"

    def __init__(self, version: object, allowed: int) -> None:
        self.version = version
        self.allowed = allowed
        self.newer = version > allowed if isinstance(version, int) and version > 0 else None
        # Not repr(): a hostile version may be nested deeper than repr can follow.
        self.shown = str(version) if isinstance(version, int) else f"of type {type(version).__name__}"
        super().__init__(f"contract version {self.shown} is not spoken here, only {allowed}{self._remedy}")

    @property
    def _remedy(self) -> str:
        return {None: "", True: ": upgrade this side", False: ": upgrade the other side"}[self.newer]


class WrongSender(MessageError):
    """The broker-checked user_id is missing, or is not the host that the routing key names (design: section 4)."""

    reason = "sender"


class HashMismatch(MessageError):
    """A section's body does not hash to the hash that came with it (promise V5)."""

    reason = "hash"


class LimitBreached(MessageError):
    """A value breaks a limit of the contract. Raised alike for what we would send and for what we received."""

    reason = "oversized"
    limit: ClassVar[Limit]

    def __init__(self, value: int, where: str) -> None:
        super().__init__(f"{where}: {self.limit.name} is {value}; allowed: at most {self.limit.maximum}")
        self.value = value
        self.where = where


class MessageTooBig(LimitBreached):
    """A message body has more bytes than its kind may have."""

    limit = limits.MESSAGE_BYTES


class BodyTooBig(LimitBreached):
    """A section's body has more bytes than a reply could carry."""

    limit = limits.BODY_BYTES


class TooManyVms(LimitBreached):
    """A host names more VMs than a host may have."""

    limit = limits.VMS_PER_HOST


class DeviceStatsTooBig(LimitBreached):
    """The device statistics of one VM are longer than anything a host reports."""

    limit = limits.DEVICE_STATS_BYTES


class TooManyDevices(LimitBreached):
    """A VM has more disks, cards or file systems than are carried of one."""

    limit = limits.DEVICES_PER_VM


class TooManyRows(LimitBreached):
    """A message has more disks, cards or file systems than one may carry."""

    limit = limits.DEVICES_PER_MESSAGE


class TooManyIds(LimitBreached):
    """A request names more VM ids than one request may."""

    limit = limits.IDS_PER_REQUEST


class TooManyTombstones(LimitBreached):
    """A roster carries more tombstones than it may."""

    limit = limits.TOMBSTONES_PER_HOST


class TooManyApps(LimitBreached):
    """A guest lists more applications than are carried."""

    limit = limits.APPS_PER_VM


class TooManyInterfaces(LimitBreached):
    """A guest lists more network interfaces than are carried."""

    limit = limits.INTERFACES_PER_VM


class TooManyAddresses(LimitBreached):
    """A guest interface lists more addresses than are carried."""

    limit = limits.ADDRESSES_PER_INTERFACE


class TooManyLabels(LimitBreached):
    """A host has more labels than it may."""

    limit = limits.LABELS_PER_HOST


class TextTooLong(LimitBreached):
    """A text is longer than texts may be."""

    limit = limits.TEXT_CHARACTERS


class VerbError(ContractError):
    """A request was not answered by its reply. ``code`` is what travels and what machines compare."""

    code: ClassVar[str] = "error"


class UnknownVerb(VerbError):
    """The host does not know the verb."""

    code = "unknown_verb"


class BadRequest(VerbError):
    """The request's body is not a request."""

    code = "bad_request"


class NotAllowed(VerbError):
    """The asking user is not an engine user: its name has no dot in it."""

    code = "not_allowed"


class NotReady(VerbError):
    """The agent has not yet had its first good look at the hypervisor, so it has nothing true to say."""

    code = "not_ready"


class ReplyFailed(VerbError):
    """The host has an answer that it cannot put into a reply: the fault is the host's, not the asker's."""

    code = "reply_failed"


class HypervisorFailed(VerbError):
    """The agent asked the hypervisor and got no answer in time, or an error."""

    code = "hypervisor_failed"


class UnknownHost(VerbError):
    """No live agent holds the host's rpc queue: the broker returned the mandatory request."""

    code = "unknown_host"


class HostDidNotAnswer(VerbError):
    """The host holds its rpc queue but did not answer before the deadline."""

    code = "no_answer"


class BadName(ContractError):
    """Not a host id or not a VM id."""


class SettingsError(ContractError):
    """A setting cannot be used.

    Args:
        setting: the setting's name as a user writes it.
        value: what was given, shortened.
        allowed: what would be accepted.
    """

    def __init__(self, setting: str, value: object, allowed: str) -> None:
        super().__init__(f"setting {setting}: {value!r:.120} is not allowed; allowed: {allowed}")
        self.setting = setting
        self.value = value
        self.allowed = allowed


VERB_ERRORS: dict[str, type[VerbError]] = {
    kind.code: kind
    for kind in (
        UnknownVerb,
        BadRequest,
        NotAllowed,
        NotReady,
        HypervisorFailed,
        ReplyFailed,
        UnknownHost,
        HostDidNotAnswer,
    )
}
"""Error code on the wire -> class. A code not in here is a plain VerbError (rolling upgrades)."""
