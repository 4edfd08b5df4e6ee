"""An environment for each peer, made when it is first asked for, under ``.cache/peers`` of the repository.

Usage: python peers/environments.py [NAME ...]      makes those environments, or all, and says what is in them

Peers' dependencies clash, with each other's and with ours; so none is installed beside redset.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from catalogue import PEERS, Peer

__all__ = ("Unavailable", "command", "python")

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent / ".cache" / "peers"


class Unavailable(Exception):
    """A peer that cannot be installed here; the message says why."""


def python(peer: Peer) -> Path:
    """The interpreter of the peer's environment.

    :raises Unavailable: it cannot be installed.
    """
    folder = CACHE / peer.name
    interpreter, made = folder / "bin" / "python", folder / "requirements.txt"
    wanted = "".join(
        f"{line}\n" for line in ([f"# Python {peer.python}"] if peer.python else []) + [*peer.requirements]
    )
    if not made.exists() or made.read_text() != wanted:
        _run(peer, _interpreter(peer), "-m", "venv", "--clear", str(folder))
        pip = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run(peer, *pip, *peer.requirements)
        # Last, so that an environment which was not finished is made anew.
        made.write_text(wanted)
    return interpreter


def _interpreter(peer: Peer) -> str:
    """The Python that makes the peer's environment: ours, if it is new enough, else that of PATH or of pyenv.

    :raises Unavailable: there is none.
    """
    if not peer.python or sys.version_info[:2] >= _numbers(peer.python):
        return sys.executable
    for found in _pythons(peer.python):
        # A shim of pyenv may name a version that is not chosen.
        done = subprocess.run([found, "-c", "import venv"], capture_output=True, check=False)
        if done.returncode == 0:
            return found
    raise Unavailable(
        f"{peer.name} needs Python {peer.python}: there is no python{peer.python} on PATH or in pyenv "
        f"(this is {sys.version.split()[0]})"
    )


def _pythons(version: str) -> Iterator[str]:
    """Where a Python of this version may be, such as 3.12; of those in pyenv the newest first."""
    if found := shutil.which(f"python{version}"):
        yield found
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    versions = [path for path in root.glob(f"versions/{version}.*") if path.name.replace(".", "").isdigit()]
    for folder in sorted(versions, key=lambda path: _numbers(path.name), reverse=True):
        yield str(folder / "bin" / "python")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))


def command(peer: Peer, *arguments: str) -> list[str]:
    """What runs its adapter."""
    return [str(python(peer)), str(HERE / peer.script), *arguments]


def _run(peer: Peer, *words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing was said").splitlines()[-1]
        raise Unavailable(f"{peer.name} ({', '.join(peer.requirements)}) cannot be installed: {said}")


def main() -> None:
    names = sys.argv[1:] or list(PEERS)
    failed = False
    for name in names:
        try:
            print(f"{name:<20} {python(PEERS[name])}   {' '.join(PEERS[name].requirements)}", flush=True)
        except Unavailable as unavailable:
            print(unavailable, file=sys.stderr)
            failed = True
    sys.exit(failed)


if __name__ == "__main__":
    main()
