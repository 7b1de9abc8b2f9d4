"""BPR: boxes along a mask's boundary, and masks put together from refined boxes (Hu et al., IJCV 2022)."""
