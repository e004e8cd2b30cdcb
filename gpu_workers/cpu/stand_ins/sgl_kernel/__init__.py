"""Stands in for SGLang's compiled kernels, whose CPU build no package index carries.

The torch-native paths that serve.sh selects import names from this module and never call them. A path that does call
one stops here with the kernel's name instead of computing something wrong.
"""

from collections.abc import Callable
from typing import NoReturn


def __getattr__(name: str) -> Callable[..., NoReturn]:
    if name.startswith("__"):
        raise AttributeError(name)

    def missing(*_args: object, **_options: object) -> NoReturn:
        raise NotImplementedError(f"sgl_kernel.{name} has no CPU stand-in: choose torch-native backends")

    return missing
