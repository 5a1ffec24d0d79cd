"""Guests of a few bytes: boot sectors, each of which does one thing to its machine, for ever or once.

They stand in for an operating system where only one outb or one BIOS call of it matters, and start within a second.
The ports are those of QEMU's machine type ``pc`` under SeaBIOS. 16-bit code, loaded by the BIOS at 0x7C00 and run there
with interrupts on; the BIOS's timer ticks 18.2 times a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

TICKS_PER_S: Final = 18.2
SECTOR: Final = 512
_LOADED_AT: Final = 0x7C00
_PM1_CONTROL: Final = 0x604
"""PIIX4's power management; SeaBIOS puts its ports at 0x600."""
_SLEEP: Final = 1 << 13
# xor ax,ax; mov ds,ax; mov ss,ax; mov sp,7000h; sti
_START: Final = bytes.fromhex("31c0 8ed8 8ed0 bc0070 fb")
# l: hlt; jmp l
_REST: Final = bytes.fromhex("f4 ebfd")


def wait(seconds: float) -> bytes:
    """Halt for so many ticks: mov cx,n; l: hlt; loop l."""
    return b"\xb9" + _word(max(1, round(seconds * TICKS_PER_S))) + bytes.fromhex("f4 e2fd")


def out8(port: int, value: int) -> bytes:
    """Give a byte to a port: mov dx,port; mov al,value; out dx,al."""
    return b"\xba" + _word(port) + b"\xb0" + bytes([value]) + b"\xee"


def out16(port: int, value: int) -> bytes:
    """Give a word to a port: mov dx,port; mov ax,value; out dx,ax."""
    return b"\xba" + _word(port) + b"\xb8" + _word(value) + b"\xef"


def for_ever(body: bytes) -> bytes:
    """Repeat a short body: jmp."""
    return body + b"\xeb" + bytes([0x100 - len(body) - 2])


def power_off() -> bytes:
    """Switch the machine off by ACPI, as a guest does that has shut down."""
    return out16(_PM1_CONTROL, _SLEEP)


def sleep_s3() -> bytes:
    """Go to sleep by ACPI (S3)."""
    return out16(_PM1_CONTROL, _SLEEP | 1 << 10)


def reboot() -> bytes:
    """Reset the machine through the keyboard controller, as guests do."""
    return out8(0x64, 0xFE)


def panic() -> bytes:
    """Tell pvpanic that the kernel has panicked: the device <panic model='isa'/>."""
    return out8(0x505, 1)


def watchdog_2s() -> bytes:
    """Arm an ib700 watchdog with 2 s; nobody feeds it."""
    return out8(0x443, 0x0E)


def set_clock(register: int, value: int) -> bytes:
    """Write a register of the real-time clock; 0 is seconds, 2 minutes, 4 hours, in BCD."""
    return out8(0x70, register) + out8(0x71, value)


def write_disk() -> bytes:
    """Write 4 KiB further on the boot disk at each tick, for ever: int 13h, function 43h."""
    packet = _LOADED_AT + len(_START) + 18
    code = (
        b"\xf4"  # l: hlt
        b"\xbe"
        + _word(packet)  # mov si,packet
        + bytes.fromhex("b80043 b280 cd13")  # mov ax,4300h; mov dl,80h; int 13h
        + b"\x83\x06"
        + _word(packet + 8)
        + b"\x08"  # add word [packet.lba],8
        + b"\xeb\xee"  # jmp l
    )
    size, sectors = 16, 8
    target = _word(_LOADED_AT) + _word(0)
    return code + bytes([size, 0]) + _word(sectors) + target + (8).to_bytes(8, "little")


def dirty_memory() -> bytes:
    """Write another value to 512 KiB of memory at each tick, for ever, so that a slow migration never ends.

    QEMU's emulation notices a second write to a page only after its address cache was emptied: toggling CR0.WP does it.
    """
    return bytes.fromhex(
        "f4 0f20c2 6681f200000100 0f22c2"  # l: hlt; mov edx,cr0; xor edx,10000h; mov cr0,edx
        "bb0010"  # mov bx,1000h
        "8ec3 31ff b90080 40 f3ab"  # n: mov es,bx; xor di,di; mov cx,8000h; inc ax; rep stosw
        "81c30010 81fb0090 72ec ebd9"  # add bx,1000h; cmp bx,9000h; jb n; jmp l
    )


def fill_memory(mib: int) -> bytes:
    """Fill so much memory from 1 MiB on with what is not zero, so that saving it takes a moment. Alone, or first.

    A segment of 4 GiB, loaded in protected mode, outlasts the return to real mode ("unreal mode").
    """
    # The descriptors follow a jump over them: jmp +22; none; data, base 0, limit 4 GiB; limit and base of this table.
    table = _LOADED_AT + len(_START) + 2
    descriptors = bytes(8) + bytes.fromhex("ffff 0000 0092 cf00") + _word(15) + table.to_bytes(4, "little")
    return (
        b"\xeb"
        + bytes([len(descriptors)])
        + descriptors
        + b"\xfa\x0f\x01\x16"
        + _word(table + 16)  # cli; lgdt [...]
        + bytes.fromhex("0f20c0 0c01 0f22c0")  # mov eax,cr0; or al,1; mov cr0,eax
        + bytes.fromhex("bb0800 8ec3 24fe 0f22c0")  # mov bx,8; mov es,bx; and al,0feh; mov cr0,eax
        + bytes.fromhex("66bf 00001000")  # mov edi,100000h
        + b"\x66\xb9"
        + (mib << 18).to_bytes(4, "little")  # mov ecx,...
        + bytes.fromhex("66b8 a5a5a5a5 67 66 f3ab fb")  # mov eax,...; rep stosd; sti
    )


def boot_sector(code: bytes) -> bytes:
    """A disk's first sector with this code in it."""
    return (_START + code + _REST).ljust(SECTOR - 2, b"\0") + b"\x55\xaa"


def write(disk: Path, code: bytes) -> None:
    """Make the disk image boot this code; its other bytes stay."""
    with disk.open("r+b") as image:
        image.write(boot_sector(code))


def _word(value: int) -> bytes:
    return value.to_bytes(2, "little")
