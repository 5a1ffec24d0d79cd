"""What ``vmpulse call`` shows to people, made from the plain values that ``--json`` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vmpulse_consumers.cli.device_tables import show_device_stats
from vmpulse_consumers.cli.tables import Column, console, duration, number, pairs, shown, table
from vmpulse_contract.verbs import Verb

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table

Plain = dict[str, Any]


def show(verb: Verb, answer: Mapping[str, Any]) -> None:
    """Print an answer."""
    out = console()
    if "stats" in answer:
        out.print(pairs(answer["stats"]))
    elif "roster" in answer:
        _show_roster(answer)
    elif verb is Verb.LIST:
        out.print(_list(answer["vms"]))
    elif verb is Verb.GET_ALL_RUNTIME_STATS:
        out.print(_runtime(answer["vms"]))
    else:
        _show_each(verb, answer.get("vms", {}))
    for name in ("missing", "remaining"):
        if answer.get(name):
            out.print(pairs({name: answer[name]}))


def _list(vms: Mapping[str, Plain]) -> Table:
    columns = (Column("ID"), Column("NAME", cut=True), Column("STATUS"))
    return table(columns, [[shown(vm), shown(row.get("vmName")), shown(row["status"])] for vm, row in vms.items()])


def _runtime(vms: Mapping[str, Plain]) -> Table:
    columns = (
        *(Column("ID"), Column("STATUS", cut=True), Column("CPU USER %", right=True), Column("CPU SYS %", right=True)),
        *(Column("MEM %", right=True), Column("UP", right=True), Column("AGE", right=True)),
    )
    return table(
        columns,
        [
            [
                *(shown(vm), shown(row["status"]), number(row.get("cpuUser")), number(row.get("cpuSys"))),
                number(row.get("memUsage"), 0),
                *(duration(row.get("elapsedTime")), duration(row.get("statsAge"))),
            ]
            for vm, row in vms.items()
        ],
    )


def _show_each(verb: Verb, vms: Mapping[str, Plain]) -> None:
    """Print VM after VM: sections and device statistics by their fields, a configuration as the XML that it is."""
    out = console()
    for vm, record in vms.items():
        out.print(shown(vm), style="bold")
        if verb is Verb.GET_ALL_DEVICE_STATS:
            show_device_stats(record)
            continue
        config = record.get("config")
        if config is None:
            out.print(pairs(_flat(record)))
            continue
        for line in config.splitlines():
            # Folding would break what somebody wants to copy.
            out.print(shown(line), soft_wrap=True)


def _flat(record: Mapping[str, Any]) -> Plain:
    """A section's fields, without its name."""
    rows: Plain = {}
    for name, value in record.items():
        rows |= value if isinstance(value, dict) else {name: value}
    return rows


def _show_roster(answer: Mapping[str, Any]) -> None:
    out, roster = console(), answer["roster"]
    facts = {"epoch": answer["epoch"], "as of": answer["asOf"], "layout": roster["layout"]}
    out.print(pairs(facts | roster["facts"]))
    if roster["vms"]:
        out.print(_roster_vms(roster["vms"]))
    if roster["tombstones"]:
        out.print(_tombstones(roster["tombstones"], answer["monotonicMs"]))


def _roster_vms(vms: list[Plain]) -> Table:
    columns = (Column("ID"), Column("TOKEN"), Column("UP", right=True), Column("HASHES", cut=True))
    return table(
        columns,
        [
            [shown(row["vm"]), shown(row["token"]), duration(_seconds(row["elapsedMs"])), shown(row["hashes"])]
            for row in vms
        ],
    )


def _tombstones(stones: list[Plain], now_ms: int) -> Table:
    columns = (Column("ENDED"), Column("EXIT"), Column("REASON", cut=True), Column("AGO", right=True))
    return table(
        columns,
        [
            [
                *(shown(stone["vm"]), shown(stone["exitCode"]), shown(stone["exitReason"])),
                duration(_seconds(now_ms - stone["endedMs"])),
            ]
            for stone in stones
        ],
    )


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
