"""Refinement of any mask by a network that was trained on nobody's data set: it sees an object whole."""
