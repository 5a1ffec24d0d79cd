"""What can go wrong at the shared edges, as one tree. Each message is one line and says how to mend it.

    EdgeError                     exit code 1
    └── BrokerError                 the broker cannot be used
        ├── BrokerUnreachable         nobody listens, or the connection broke
        └── BrokerRefused             it listens and says no: password, permission, virtual host, topology, certificate
            └── TlsFilesUnusable        files of ours for TLS cannot be read, or do not fit

Wrong settings are vmpulse_contract.errors.SettingsError, exit code 2.
"""

from __future__ import annotations


class EdgeError(Exception):
    """Base of the errors of the shared edges."""


class BrokerError(EdgeError):
    """The broker cannot be used."""


class BrokerUnreachable(BrokerError):
    """There is no connection to the broker; trying again later may help."""


class BrokerRefused(BrokerError):
    """The broker refuses us; somebody has to change a setting or a permission."""


class TlsFilesUnusable(BrokerRefused):
    """Files of ours for TLS cannot be read, or do not fit together."""
