"""Text that a guest or a stranger chose: what of it may travel (promise A5)."""

from __future__ import annotations

import unicodedata
from typing import Final

from vmpulse_contract import limits

_REFUSED: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that never pass.

Controls, format characters (bidi marks among them), lone surrogates, private use, unassigned, and the line breaks that
are not controls.
"""


def clean(text: object) -> str | None:
    """Give what may travel of *text*; None if nothing is left.

    That is without the refused characters, stripped, and no longer than texts of the contract. What is no text gives
    None as well: libvirt's typed parameters are as hostile as the guest that filled them.
    """
    if not isinstance(text, str):
        return None
    # Cut first, with room for what is taken out: the work must not grow with the hostility.
    cut = text[: 4 * limits.TEXT_CHARACTERS.maximum]
    if not (cut.isascii() and cut.isprintable()):
        cut = "".join(character for character in cut if unicodedata.category(character) not in _REFUSED)
    return cut.strip()[: limits.TEXT_CHARACTERS.maximum].rstrip() or None
