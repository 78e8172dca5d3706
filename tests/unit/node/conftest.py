"""Makes the worlds beside the tests, and placement's, importable."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
for folder in (HERE.parent / "placement", HERE):
    sys.path.insert(0, str(folder))
