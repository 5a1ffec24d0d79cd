"""Text that a guest or a stranger chose: what of it may travel (promise A5)."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Final

from vmpulse_contract import limits

if TYPE_CHECKING:
    from vmpulse_agent.measures import Mended

_REFUSED: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that never pass.

Controls, format characters, lone surrogates, private use, unassigned, and the line breaks that are not controls. Format
characters are what turns a line around (U+202A to U+202E, U+2066 to U+2069, U+200E, U+200F, U+061C) and what nobody
sees (zero width, soft hyphen, tags). The joiners U+200C and U+200D are among them and go as well: two names that look
alike must not differ by what nobody sees. An emoji that is made of several by joiners falls into these.
"""


def clean(text: object, mended: Mended | None = None) -> str | None:
    """Give what may travel of *text*; None if nothing is left.

    That is without the refused characters, stripped, and no longer than texts of the contract. What is no text gives
    None as well: libvirt's typed parameters are as hostile as the guest that filled them.

    Args:
        text: what was given.
        mended: where it is counted that something was taken out or cut off.
    """
    if not isinstance(text, str):
        if mended is not None and text is not None:
            mended.add("type")
        return None
    most = limits.TEXT_CHARACTERS.maximum
    # Cut first, with room for what is taken out: the work must not grow with the hostility.
    cut = text[: 4 * most]
    if not (cut.isascii() and cut.isprintable()):
        kept = "".join(character for character in cut if unicodedata.category(character) not in _REFUSED)
        if mended is not None and kept != cut:
            mended.add("characters")
        cut = kept
    cut = cut.strip()
    if mended is not None and (len(cut) > most or len(text) > 4 * most):
        mended.add("length")
    return cut[:most].rstrip() or None
