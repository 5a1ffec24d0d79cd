"""What can go wrong on a host, as one tree. Each message is one line and says how to mend it.

    AgentError                        exit code 1
    ├── HypervisorError                 a look, read or connection failed; nothing follows for the VMs (promise A2)
    │   ├── HypervisorUnavailable         no connection: socket missing, no permission, daemon down
    │   └── HypervisorTimeout             no answer before the deadline
    ├── BrokerError                     the broker cannot be used
    │   ├── BrokerUnreachable             nobody listens, or the connection broke
    │   └── BrokerRefused                 it listens and says no: password, permission, vhost
    └── HostTaken                       another live agent answers for this host (promise A6)

Wrong settings are vmpulse_contract.errors.SettingsError, exit code 2.
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


class BrokerError(AgentError):
    """The broker cannot be used."""


class BrokerUnreachable(BrokerError):
    """There is no connection to the broker; trying again later may help."""


class BrokerRefused(BrokerError):
    """The broker refuses us; somebody has to change a setting or a permission."""


class HostTaken(AgentError):
    """Another agent holds this host's rpc queue."""
