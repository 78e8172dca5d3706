"""The only place that imports Concrete.

Concrete's metadata asks for torch (6 GB), but only two extensions that Veil does not use name it, in tables built at import.
So a stand-in answers those names while Concrete is imported and is gone afterwards; a call of such an extension fails.
The node process never imports this module: only the evaluator's child, the ceremony's child and tests do.
"""

import sys
import types
import warnings


class _NoTorch(types.ModuleType):
    """Has every attribute and none that works."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return None


def _import() -> types.ModuleType:
    stand_in = "torch" not in sys.modules
    if stand_in:
        sys.modules["torch"] = _NoTorch("torch")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            from concrete import fhe as imported
    finally:
        if stand_in:
            del sys.modules["torch"]
    module: types.ModuleType = imported
    return module


fhe = _import()
"""The package ``concrete.fhe``."""
