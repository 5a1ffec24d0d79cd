"""What can go wrong on a host, as one tree. Each message is one line and says how to mend it.

    AgentError                        exit code 1
    ├── HypervisorError                 a look, read or connection failed; nothing follows for the VMs (promise A2)
    │   ├── HypervisorUnavailable         no connection: socket missing, daemon down
    │   │   └── HypervisorRefused             it is there, and does not let us in: no permission, wrong password
    │   ├── HypervisorTimeout             no answer before the deadline
    │   └── HypervisorFault               an answer, or one domain's data, met an error in this program
    ├── NotInstalled                    the distribution was installed without what this command needs
    ├── NoSuchVm                        the hypervisor does not have a VM that was asked for
    ├── HostTaken                       another live agent answers for this host (promise A6)
    └── PortTaken                       the address of the metrics is in use or not ours

The broker's errors are vmpulse_edges.errors; wrong settings are vmpulse_contract.errors.SettingsError, exit code 2.
"""

from __future__ import annotations


class AgentError(Exception):
    """Base of the agent's errors."""


class HypervisorError(AgentError):
    """The hypervisor did not give what was asked. It says nothing about the VMs."""


class HypervisorUnavailable(HypervisorError):
    """There is no connection to the hypervisor."""


class HypervisorRefused(HypervisorUnavailable):
    """The hypervisor does not let us in; trying again soon would be of no use, and might lock an account."""


class HypervisorTimeout(HypervisorError):
    """The hypervisor did not answer before the deadline."""


class HypervisorFault(HypervisorError):
    """What the hypervisor gave met an error in this program; its traceback has been logged."""


class NotInstalled(AgentError):
    """A package of the extra ``agent`` is not installed."""


class NoSuchVm(AgentError):
    """A VM that the command line names is not there."""


class HostTaken(AgentError):
    """Another agent holds this host's rpc queue."""


class PortTaken(AgentError):
    """The metrics cannot be served where they should."""
