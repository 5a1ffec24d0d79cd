"""The device statistics of one VM."""

from __future__ import annotations

import httpx
import pytest

from tests.consumers.http.stocked_view import Fleet, guest_id
from vmpulse_contract.identity import vm_text

API = "/api/v1/vms"


def path_of(number: int) -> str:
    """Where a guest's device statistics are."""
    return f"{API}/{vm_text(guest_id(number))}/devices"


async def test_the_last_report_is_served(api: httpx.AsyncClient, fleet: Fleet) -> None:
    """What was reported comes with its host, its age since the sample, and the names of the contract."""
    fleet.tick()
    reply = (await api.get(path_of(1))).json()
    assert 3 <= reply.pop("age_s") < 3.1
    assert reply == {
        "id": vm_text(guest_id(1)),
        "host": "alpha",
        "deviceStats": {
            "disks": {
                "vda": {
                    "readOps": 7,
                    "readBytes": 7 << 20,
                    "readRate": 244668.0,
                    "readRateMin": 69905.0,
                    "readRateMax": 419430.0,
                }
            },
            "network": {"vnet0": {"name": "vnet0", "rx": 1500, "rxRate": 0.0, "rxRateMin": 0.0, "rxRateMax": 0.0}},
            "interval": 30.0,
        },
    }
    schema = (await api.get("/schema/openapi.json")).json()
    assert f"{API}/{{vm}}/devices" in schema["paths"]


@pytest.mark.parametrize(
    "number, words",
    [
        (99, ["there is no VM"]),
        (3, ["does not run"]),
        (4, ["none have come yet", "device_report_s", f"vmpulse call beta getAllDeviceStats {vm_text(guest_id(4))}"]),
    ],
)
async def test_what_is_not_there_is_explained(api: httpx.AsyncClient, number: int, words: list[str]) -> None:
    """A VM that is not known, does not run, or was not reported yet is a 404 of its own, with what to do."""
    reply = await api.get(path_of(number))
    assert reply.status_code == 404
    error = reply.json()["error"]
    assert all(word in error["what"] for word in words)
    assert error["allowed"]
