"""The code blocks of a page of documentation, and what it takes to run each kind of them.

Whoever writes a block says by its language what is to become of it:

- ``python`` that begins with a prompt is a doctest, other ``python`` is executed; all blocks of a page share their
  names.
- ``console`` is a shell's: what begins with ``$ `` is run, succeeds, and prints what follows. ``redis-cli`` is played,
  since it is not on every machine and talks to terminals only.
- a ``{code-block}`` with a ``:caption:`` is a file of that name, which later blocks find; a ``redis.conf`` is tried by
  a server.

Whatever is not to be run has a line ``<!-- not run: reason -->`` above it, which readers do not see. There is no other
way out: a page may have no block of another kind, and no directive that could have one inside.
"""

import doctest
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

from redset.testing import Server

__all__ = ("FLAGS", "Block", "Page", "blocks")

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
NOT_RUN = re.compile(r"<!-- not run: (.+) -->")
#: Directives that show no code of their own, since what is included is a page itself or a file of the tests, and what
#: the lines of one that asks autodoc for docstrings look like.
WITHOUT_CODE = ("{toctree}", "{eval-rst}", "{include}", "{literalinclude}")
OF_AUTODOC = re.compile(r"(\.\. (auto\w+|module|currentmodule):: .*|   :[\w-]+:.*|)")
#: How long a command of a console may take.
SECONDS = 120


@dataclass(frozen=True)
class Block:
    """One fenced or indented block."""

    #: ``python``, ``console``, ``file``; "indented", or whatever else it says it is.
    kind: str
    content: str
    line: int
    #: Why it is not run.
    excuse: str = ""
    #: The name of a file.
    caption: str = ""


def blocks(page: Path) -> Iterator[Block]:
    """
    :raises AssertionError: there may be code in a place where nobody looks for it.
    """
    text = page.read_text()
    lines = text.splitlines()
    assert ":::" not in text, f"{page}: fences are of backticks"
    for token in MarkdownIt().parse(text):
        if token.type == "html_block":
            assert token.content.startswith("<!--"), f"{page}: no HTML but comments, not {token.content!r}"
        if token.type not in ("fence", "code_block"):
            continue
        assert token.map is not None
        line = token.map[0]
        above = next((each for each in reversed(lines[:line]) if each.strip()), "")
        excuse = NOT_RUN.fullmatch(above.strip())
        where, reason = line + 1, excuse[1] if excuse else ""
        if token.type == "code_block":
            yield Block("indented", token.content, where, reason)
        elif token.info.startswith("{code-block} "):
            caption, content = _file(token.content)
            yield Block("file", content, where, reason, caption)
        elif token.info.partition(" ")[0] in WITHOUT_CODE:
            if token.info == "{eval-rst}":
                other = [each for each in token.content.splitlines() if not OF_AUTODOC.fullmatch(each)]
                assert not other, f"{page}:{where}: only autodoc is told something here, not {other}"
        else:
            yield Block(token.info, token.content, where, reason)


def _file(content: str) -> tuple[str, str]:
    option, _, rest = content.partition("\n")
    assert option.startswith(":caption: "), f"a {{code-block}} needs a name of a file, not {option!r}"
    return option.removeprefix(":caption: "), rest.lstrip("\n")


@dataclass
class Page:
    """A page that is run, from its first block to its last, in a directory of its own."""

    path: Path
    directory: Path
    url: str
    names: dict[str, Any] = field(default_factory=dict)

    def run(self, block: Block) -> None:
        """
        :raises AssertionError: what the block says is not what happens.
        """
        if block.excuse:
            return
        if block.kind == "python":
            self._run_python(block)
        elif block.kind == "console":
            self._run_console(block)
        elif block.kind == "file":
            self._write(block)
        else:
            raise AssertionError(f"{self.path}:{block.line}: nobody knows how to run a block of {block.kind!r}")

    def _run_python(self, block: Block) -> None:
        if not block.content.lstrip().startswith(">>> "):
            exec(compile(block.content, str(self.path), "exec"), self.names)
            return
        for part in doctest.DocTestParser().parse(block.content):
            left_out = part.strip() if isinstance(part, str) else doctest.SKIP in part.options and part.source
            assert not left_out, f"{self.path}:{block.line}: this is not run: {left_out}"
        parsed = doctest.DocTestParser().get_doctest(block.content, self.names, "block", str(self.path), block.line)
        report: list[str] = []
        doctest.DocTestRunner(optionflags=FLAGS).run(parsed, out=report.append, clear_globs=False)
        self.names.update(parsed.globs)
        assert not report, "".join(report)

    def _run_console(self, block: Block) -> None:
        assert block.content.startswith("$ "), f"{self.path}:{block.line}: a console begins with '$ ' and a command"
        for command, expected in _commands(block.content):
            said = self._redis_cli(command) if command.startswith("redis-cli ") else self._shell(command)
            equal = doctest.OutputChecker().check_output(expected, said, FLAGS)
            assert equal, f"{self.path}:{block.line}: {command}\nsays\n{said}\nand not\n{expected}"

    def _write(self, block: Block) -> None:
        path = self.directory / block.caption
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.content)
        if path.name == "redis.conf":
            # It starts with settings only that it knows and understands.
            Server(include=path).kill()

    def _shell(self, command: str) -> str:
        scripts = os.pathsep.join((sysconfig.get_path("scripts"), str(Path(sys.executable).parent)))
        environment = {
            "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
            "REDSET_URL": self.url,
            # What is started often should be compiled once.
            "PYTHONDONTWRITEBYTECODE": "",
            # What is here beside the plugin that is told of.
            "PYTEST_ADDOPTS": "-p redset.testing -p no:asyncio -p no:anyio -p no:cacheprovider",
        }
        done = subprocess.run(
            ["/bin/bash", "-o", "pipefail", "-c", command],
            cwd=self.directory,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{self.path}: {command}\nends with {done.returncode} and says\n{done.stdout}"
        return done.stdout

    def _redis_cli(self, command: str) -> str:
        words = subprocess.run(
            ["/bin/bash", "-c", f"printf '%s\\0' {command.removeprefix('redis-cli ')}"], capture_output=True, check=True
        ).stdout.split(b"\0")[:-1]
        return "\n".join(_told(_asked(self.url, words))) + "\n"


def _commands(content: str) -> Iterator[tuple[str, str]]:
    """Each command, which goes on behind a backslash, and what it is to print."""
    command, expected = "", ""
    for line in content.splitlines(keepends=True):
        if line.startswith("$ "):
            if command:
                yield command, expected
            command, expected = line.removeprefix("$ ").rstrip("\n"), ""
        elif command.endswith("\\"):
            command = command[:-1] + line.strip()
        else:
            expected += line
    if command:
        yield command, expected


def _asked(url: str, words: list[bytes]) -> Any:
    """The reply as it is, which clients have their own ideas about."""
    import redis

    connection: Any = redis.ConnectionPool.from_url(url).make_connection()
    connection.connect()
    try:
        connection.send_command(*words)
        return connection.read_response()
    finally:
        connection.disconnect()


def _told(reply: Any) -> Iterator[str]:
    """As redis-cli tells it to a terminal."""
    if reply is None:
        yield "(nil)"
    elif isinstance(reply, int):
        yield f"(integer) {reply}"
    elif isinstance(reply, float):
        yield f'"{reply:g}"'
    elif reply == b"OK":
        yield "OK"
    elif isinstance(reply, bytes):
        escaped = reply.decode().replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        yield f'"{escaped}"'
    elif not reply:
        yield "(empty array)"
    else:
        for number, each in enumerate(reply, 1):
            first, *rest = _told(each)
            yield f"{number}) {first}"
            yield from (f"   {line}" for line in rest)
