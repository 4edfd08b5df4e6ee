"""Which redset it is that is measured: the one of these sources."""

import contextlib
import re
import subprocess
from pathlib import Path

__all__ = ("version_of_redset",)

ROOT = Path(__file__).resolve().parent.parent


def version_of_redset() -> str:
    """Such as ``1.0.0 at 1a2b3c4d``; the commit as far as git knows it, and whether the sources differ from it."""
    source = (ROOT / "src" / "redset" / "__init__.py").read_text()
    version = str(re.findall(r"^__version__ = \"(.+)\"", source, re.MULTILINE)[0])
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        return f"{version} at {_git('rev-parse', '--short=8', 'HEAD')}{_changes()}"
    return version


def _changes() -> str:
    # Not of the whole repository: the first section that is measured writes its figures into it.
    return " with changes" if _git("status", "--porcelain", "--", "src") else ""


def _git(*words: str) -> str:
    return subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True, check=True).stdout.strip()
