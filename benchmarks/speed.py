"""Time per epoch and memory, side by side in one run: ``python benchmarks/speed.py --help``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.timing.cli import main

if __name__ == "__main__":
    main()
