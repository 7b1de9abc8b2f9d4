"""SegFix (Yuan et al., ECCV 2020): where boundaries are, which way the interior lies, and labels moved from there."""
