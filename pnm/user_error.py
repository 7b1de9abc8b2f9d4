"""Errors that a user can mend, told in one line."""


class UserError(ValueError):
    """What came, what was expected and what to do, in one line: the launcher and tools print it without a traceback."""
