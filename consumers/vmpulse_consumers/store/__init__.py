"""What outlives the view: one SQLite file, written behind by a thread of its own."""

from vmpulse_consumers.store.keeper import Keeper

__all__ = ["Keeper"]
