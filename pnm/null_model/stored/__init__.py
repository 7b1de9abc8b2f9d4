"""Pixel weights computed once and kept on disk, one map for each label file of a data set."""
