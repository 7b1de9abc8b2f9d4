"""Colours that people with any colour vision can tell apart (Okabe and Ito, "Color Universal Design", 2008)."""

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"

SIDES = (BLUE, ORANGE)  # of A and B
CORRECT, MISSED, FALSE, WRONG_AREA = GREEN, VERMILLION, BLUE, YELLOW  # of boundaries, and of wrong pixels


def rgb(colour: str) -> tuple[int, int, int]:
    """0..255 of "#RRGGBB"."""
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue
