"""An environment for each peer, made when it is first asked for, under ``.cache/peers`` of the repository.

Usage: python peers/environments.py [NAME ...]      makes those environments, or all, and says what is in them

Peers' dependencies clash, with each other's and with ours; so none is installed beside redset.
"""

import subprocess
import sys
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
    wanted = "".join(f"{requirement}\n" for requirement in peer.requirements)
    if not made.exists() or made.read_text() != wanted:
        _run(peer, sys.executable, "-m", "venv", "--clear", str(folder))
        pip = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run(peer, *pip, *peer.requirements)
        # Last, so that an environment which was not finished is made anew.
        made.write_text(wanted)
    return interpreter


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
