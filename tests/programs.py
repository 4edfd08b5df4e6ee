"""Programs of others that some tests use where they are installed."""

import shutil

import pytest

__all__ = ("program",)


def program(name: str) -> str:
    """The path of promtool or prometheus; skips the test where it is not installed."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: it is in Debian's package prometheus")
    return found
