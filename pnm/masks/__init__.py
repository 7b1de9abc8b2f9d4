"""Masks and label maps in memory: runs, crops, and the vectors of 32 pixels that the kernels work on."""
