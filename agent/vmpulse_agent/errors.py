"""What can go wrong on a host, as one tree. Each message is one line and says how to mend it.

    AgentError                        exit code 1
    ├── HypervisorError                 a look, read or connection failed; nothing follows for the VMs (promise A2)
    │   ├── HypervisorUnavailable         no connection: socket missing, no permission, daemon down
    │   └── HypervisorTimeout             no answer before the deadline
    └── HostTaken                       another live agent answers for this host (promise A6)

The broker's errors are vmpulse_edges.errors; wrong settings are vmpulse_contract.errors.SettingsError, exit code 2.
"""

from __future__ import annotations


class AgentError(Exception):
    """Base of the agent's errors."""


class HypervisorError(AgentError):
    """The hypervisor did not give what was asked. It says nothing about the VMs."""


class HypervisorUnavailable(HypervisorError):
    """There is no connection to the hypervisor."""


class HypervisorTimeout(HypervisorError):
    """The hypervisor did not answer before the deadline."""


class HostTaken(AgentError):
    """Another agent holds this host's rpc queue."""
