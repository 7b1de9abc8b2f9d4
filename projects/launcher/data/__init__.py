"""Data sets and dataset mappers."""
