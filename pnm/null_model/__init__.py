"""PNM: the pixel null model, pixel weights made of it, and losses that use them (Zhang et al., 2022)."""
