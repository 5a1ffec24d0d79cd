"""Device statistics as people read them: what there is, device by device, and a table of the rates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from vmpulse_consumers.cli.tables import Column, console, pairs, shown, table
from vmpulse_contract.fields import FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.table import Table
    from rich.text import Text

Plain = dict[str, Any]
EXTREMES: Final = (("Min", "Max"), ("_min", "_max"))
"""What follows the name of a rate: camel and snake, as in the contract."""
UNITS: Final = {(field.group, field.name): field.unit for field in FIELDS}


class Rate(NamedTuple):
    """One rate of one device, as read."""

    device: str
    name: str
    unit: str
    mean: float
    least: float
    most: float


def show_device_stats(stats: Mapping[str, Any]) -> None:
    """Print the device statistics of one VM."""
    out, rest, rates = console(), {}, []
    for device, group, values in _devices(stats):
        found = list(_rates(device, group, values))
        rates += found
        told = {name + end for _, name, *_ in found for end in ("", *(end for pair in EXTREMES for end in pair))}
        rest[device] = {name: value for name, value in values.items() if name not in told}
    known = {name: value for name, value in stats.items() if not isinstance(value, dict)}
    out.print(pairs(known | rest))
    if rates:
        out.print(_table(rates))


def _devices(stats: Mapping[str, Any]) -> Iterator[tuple[str, str, Plain]]:
    """Each map of values, with a name for people and the name of its group in the contract."""
    for group, value in stats.items():
        if not isinstance(value, dict):
            continue
        if value and all(isinstance(part, dict) for part in value.values()):
            for name, part in value.items():
                yield f"{group} {name}", group, part
        else:
            yield group, group, value


def _rates(device: str, group: str, values: Plain) -> Iterator[Rate]:
    for name, value in values.items():
        for least, most in EXTREMES:
            if name + least in values and name + most in values:
                unit = UNITS.get((group, name), "")
                yield Rate(device, name, unit, value, values[name + least], values[name + most])


def _table(rates: list[Rate]) -> Table:
    columns = (
        *(Column("DEVICE", cut=True), Column("RATE"), Column("MEAN", right=True), Column("LEAST", right=True)),
        *(Column("MOST", right=True), Column("UNIT")),
    )
    rows = [
        [shown(rate.device), shown(rate.name), *map(_figure, (rate.mean, rate.least, rate.most)), shown(rate.unit)]
        for rate in rates
    ]
    return table(columns, rows)


def _figure(value: float) -> Text:
    """A number with its thousands apart: rates of disks have up to ten digits."""
    return shown(f"{value:,.2f}".rstrip("0").rstrip("."))
