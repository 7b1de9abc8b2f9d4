"""Evaluators by the type of the data set."""
