"""Programs for people; ``python tools/<name>.py`` in a clone, ``pnm <name>`` where the project is installed."""

if __name__ != "pnm.tools":
    raise ImportError(f"import pnm.{__name__} in place of {__name__}")
