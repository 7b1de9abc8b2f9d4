#!/usr/bin/env python
"""Trains and evaluates every system of this project: `python train_net.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from pnm.tools.train import main

if __name__ == "__main__":
    main()
