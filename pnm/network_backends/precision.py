"""Whether a processor computes in bfloat16, so that it pays."""

import torch

from pnm.errors import UserError

PRECISIONS = ("auto", "float32", "bfloat16")

# Instructions that multiply bfloat16. AVX-512 without them converts, and gains nothing.
_INSTRUCTIONS = ("avx512_bf16", "amx_bf16")


def has_bfloat16() -> bool:
    """Whether this machine's CPU multiplies in bfloat16; False where torch is too old to tell."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(bool(capabilities.get(name)) for name in _INSTRUCTIONS)


def is_bfloat16(precision: str, key: str = "the precision") -> bool:
    """Whether a network on the CPU is computed in bfloat16.

    Args:
        precision: one of ``PRECISIONS``; "auto" takes bfloat16 where the CPU has it.
        key: what the user calls it.

    Raises:
        UserError: another word.
    """
    if precision not in PRECISIONS:
        raise UserError(f"{key} is {precision!r}, expected one of {', '.join(PRECISIONS)}")
    return precision == "bfloat16" or precision == "auto" and has_bfloat16()
