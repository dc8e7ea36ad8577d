"""Modules that are imported when they are first named: `import lensjax` stays cheap."""

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def attach(
    package: str, modules: Iterable[str], former: Mapping[str, str] | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package that exposes its modules.

    `former`: names of an earlier version, and the full names of what they are now.
    """
    public = {name: f"{package}.{name}" for name in modules}
    known = {**(former or {}), **public}

    def get(name: str) -> Any:
        if name in known:
            return importlib.import_module(known[name])
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *public})

    return get, names, list(public)
