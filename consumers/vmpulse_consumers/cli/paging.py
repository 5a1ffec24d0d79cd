"""Fetches pages: the one that was asked for, or all of them as if they were one."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from vmpulse_consumers.cli.replies import Page
from vmpulse_consumers.errors import ViewRefused

if TYPE_CHECKING:
    from msgspec import Raw

    from vmpulse_consumers.cli.api_client import Api


def add_paging_options(parser: argparse.ArgumentParser, *, largest: int) -> None:
    """Add the flags that say which rows of a list to fetch; the view itself checks their values."""
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--limit", metavar="N", help=f"rows at most, 1 to {largest} (default: 100)")
    amount.add_argument("--all", action="store_true", help="all rows, fetched page by page")
    parser.add_argument("--offset", metavar="N", help="rows to skip (default: 0)")


def fetch(
    api: Api, rows: Literal["vms", "hosts"], parameters: dict[str, Any], args: argparse.Namespace, largest: int
) -> tuple[Page, bytes]:
    """Fetch the page that *args* ask for: decoded, and as JSON. Raises ConsumerError."""
    # An empty value is a value: the view says whether it is allowed.
    parameters = {name: value for name, value in parameters.items() if value is not None}
    path, offset = f"/api/v1/{rows}", {"offset": args.offset} if args.offset is not None else {}
    if not args.all:
        limit = {"limit": args.limit} if args.limit is not None else {}
        raw = api.get(path, {**parameters, **limit, **offset})
        return api.read(raw, Page), raw
    first = page = api.read(api.get(path, {**parameters, "limit": largest, **offset}), Page)
    found = _rows(page, rows)
    # The fleet changes between pages: a VM may come twice or be missed. One that stays where it is comes once.
    while page.offset + largest < page.total:
        page = api.read(api.get(path, {**parameters, "limit": largest, "offset": page.offset + largest}), Page)
        found += _rows(page, rows)
    merged = {"total": page.total, "limit": len(found), "offset": first.offset, rows: found}
    setattr(first, rows, found)
    return first, msgspec.json.encode(merged)


def _rows(page: Page, rows: Literal["vms", "hosts"]) -> list[Raw]:
    found: list[Raw] | None = getattr(page, rows)
    if found is None:
        raise ViewRefused(f"the reply has no {rows}; is this address a view's?")
    return found
