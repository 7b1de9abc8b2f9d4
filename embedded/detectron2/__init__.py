"""The embedded engine: the part of Detectron2's public API that this project uses.

Written from Detectron2's public documentation and measured behaviour; it is on the path only where
Detectron2 itself is not installed (see ``pnm/__init__.py``).
"""

from ._scope import install_finder, outside

__version__ = "0.6+embedded"

install_finder()
__getattr__ = outside(__name__)
