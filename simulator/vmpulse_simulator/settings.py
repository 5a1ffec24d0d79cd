"""Settings of the simulator's programs: one frozen object each, built at the entry point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeVar

from msgspec import Meta, Struct

from vmpulse_contract import broker_url
from vmpulse_contract.limits import VMS_PER_HOST
from vmpulse_edges.broker_settings import PasswordFile
from vmpulse_simulator.dynamics import ROUND_S, Rates
from vmpulse_simulator.view_api import ALLOWED

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")

PREFIX: Final = "VMPULSE_SIMULATOR_"
METRICS_PORT: Final = "metrics_port"
MOST_HOSTS: Final = 25_000
MOST_MIGRATIONS: Final = 100_000

Hosts = Annotated[
    int, Meta(ge=1, le=MOST_HOSTS, description="simulated hosts", extra={"allowed": f"1 to {MOST_HOSTS}"})
]
Vms = Annotated[
    int,
    Meta(
        ge=1,
        le=VMS_PER_HOST.maximum,
        description="VMs on each host",
        extra={"allowed": f"1 to {VMS_PER_HOST.maximum}"},
    ),
]
Seed = Annotated[
    int, Meta(ge=0, description="decides the fleet and what happens in it", extra={"allowed": "0 or more"})
]
Tick = Annotated[
    float, Meta(ge=0.5, le=60, description="seconds between two frames of a host", extra={"allowed": "0.5 to 60"})
]
Port = Annotated[int, Meta(ge=1, le=65535, description="port of the view's HTTP API", extra={"allowed": "1 to 65535"})]
Limit = Annotated[
    Annotated[float, Meta(ge=1, le=86400)] | None,
    Meta(
        description="stop after so many seconds of changes, and check the view against the truth; without: run on",
        extra={"allowed": "1 to 86400, or nothing for no limit"},
    ),
]
CHANGES: Final = f"percent of the VMs of which a section changes within {ROUND_S:.0f} s"
CYCLES: Final = f"percent of the VMs that are stopped and started again within {ROUND_S:.0f} s"
RESTARTS: Final = f"percent of the hosts whose agent restarts within {ROUND_S:.0f} s, every second time by a crash"
LOSS: Final = "percent of the messages that are lost on purpose"
MIGRATIONS: Final = f"live migrations that begin within {ROUND_S:.0f} s in the whole fleet; they take two hosts"
SHARE: Final = {"allowed": "0 to 100"}


class FleetSettings(Struct, frozen=True, kw_only=True):
    """Settings of any simulated fleet."""

    hosts: Hosts = 250
    vms: Vms = 40
    seed: Seed = 1
    tick: Tick = 3.0
    change_percent: Annotated[float, Meta(ge=0, le=100, description=CHANGES, extra=SHARE)] = 2.0
    power_cycle_percent: Annotated[float, Meta(ge=0, le=100, description=CYCLES, extra=SHARE)] = 0.5
    agent_restart_percent: Annotated[float, Meta(ge=0, le=100, description=RESTARTS, extra=SHARE)] = 2.0
    migrations: Annotated[
        int,
        Meta(ge=0, le=MOST_MIGRATIONS, description=MIGRATIONS, extra={"allowed": f"0 to {MOST_MIGRATIONS}"}),
    ] = 10
    loss_percent: Annotated[float, Meta(ge=0, le=100, description=LOSS, extra=SHARE)] = 1.0

    @property
    def rates(self) -> Rates:
        """How often things happen."""
        return Rates(
            self.change_percent / 100, self.power_cycle_percent / 100, self.agent_restart_percent / 100, self.migrations
        )


class RunSettings(FleetSettings, frozen=True, kw_only=True):
    """Settings of ``vmpulse-simulator run``."""

    broker_url: Annotated[
        str,
        Meta(description="the broker; its user needs the tag impersonator", extra={"allowed": broker_url.ALLOWED}),
    ] = "amqp://engine.simulator@127.0.0.1:5672/"
    broker_password_file: PasswordFile = ""
    api: Annotated[
        str,
        Meta(
            description="address of the HTTP API of the view that is compared with the truth on SIGUSR1; empty: none",
            extra={"allowed": ALLOWED},
        ),
    ] = ""
    metrics_host: Annotated[str, Meta(description="address of the agents' metrics and of /healthz")] = "127.0.0.1"
    metrics_port: Annotated[
        Annotated[int, Meta(ge=0, le=65535)] | Literal[""],
        Meta(
            description="port of the agents' metrics and of /healthz; 0: any free one; empty: they are not served",
            extra={"allowed": "0 to 65535, or empty"},
        ),
    ] = 9178


class DemoSettings(FleetSettings, frozen=True, kw_only=True):
    """Settings of ``vmpulse-simulator demo``."""

    port: Port = 8080
    seconds_limit: Limit = None

    @property
    def round_s(self) -> float:
        """Things are spread over rounds of so many seconds: a short demo gets some of everything too."""
        return min(ROUND_S, self.seconds_limit or ROUND_S)


def given(values: Mapping[str, T], prefix: str = "") -> dict[str, T]:
    """Drop empty values, for a Makefile passes ``--seconds-limit ""`` for none; but not where empty means something.

    Args:
        values: by setting, or by variable.
        prefix: of the variables, whose names are then in capitals.
    """
    kept = prefix + METRICS_PORT.upper() if prefix else METRICS_PORT
    return {name: value for name, value in values.items() if value not in {None, ""} or (name == kept and value == "")}
