"""Any set that Python has made can be looked at and steered, and nothing is destroyed by a typo."""

import contextlib
import json
import os
import pty
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

import redset as library
from console import Console, own_console  # noqa: F401 # own_console is the fixture called redset
from redset.cli.completing import _SHELLS
from redset.cli.connecting import _complete_name
from servers import Cluster, Server, free_port, wait_until

STATS = {
    *("name", "kind", "waiting", "due", "leased", "expired", "delayed", "parked", "done", "dead"),
    *("oldest_score", "lag", "paused_until", "limits", "unfinished"),
}


@pytest.fixture
def sets(raw: Any) -> dict[str, Any]:
    """One of each kind, each with items."""
    made: dict[str, Any] = {
        "plain": library.SortedSet(raw, "plain", max_attempts=1, remember=60),
        "keyed": library.SortedSet(raw, "keyed", serializer=json, key=lambda item: item["id"]),
        "grouped": library.SortedSet(raw, "grouped", group=lambda item: item[0]),
        "wide": library.SortedSet(raw, "wide", shards=4),
        "due": library.ScheduledSet(raw, "due"),
        "ticks": library.PeriodicSet(raw, "ticks", interval=60),
        "seen": library.ExpiringSet(raw, "seen", ttl=60),
        "hashes": library.ExpiringSet(raw, "hashes", ttl=60, digest=True),
    }
    made["keyed"].add({"id": 1})
    for name in made.keys() - {"keyed"}:
        made[name].update(["a1", "b1"]) if hasattr(made[name], "update") else made[name].add_new(["a1", "b1"])
    return made


class TestLooking:
    def test_ls(self, redset: Console, sets: dict[str, Any]) -> None:
        rows = redset("ls", "--json").rows
        assert [row["name"] for row in rows] == sorted(sets)
        assert {name for row in rows if row["kind"] == "SortedSet" for name in row} == STATS
        assert redset("ls", "se*").lines == ["seen\tExpiringSet\t-\t-\t-\t-\t2\t-\t-"]
        assert redset("ls", "nothing").out == b""

    def test_one_set_that_cannot_be_read_does_not_hide_the_others(self, redset: Console, raw: Any) -> None:
        raw.hset("redset:sets", "future", '{"kind": "FutureSet"}')
        raw.zadd("future", {"a": 1})
        redset("add", "jobs", "a")
        done = redset("ls")
        assert [line.split("\t")[0] for line in done.lines] == ["jobs"]
        assert "'future' cannot be read" in done.err

    def test_stats(self, redset: Console, sets: dict[str, Any]) -> None:
        for name, one in sets.items():
            (row,) = redset("stats", name, "--json").rows
            assert row.get("waiting", row.get("living")) == len(one)
        assert "waiting\t2" in redset("stats", "plain").lines
        assert "options.remember\t60" in redset("stats", "plain").lines
        (row,) = redset("stats", "plain", "--totals", "--json").rows
        assert row["totals"]["added"] == 2
        assert redset("stats", "seen", "--totals").code == 2

    def test_groups(self, redset: Console, sets: dict[str, Any]) -> None:
        sets["grouped"].reserve()
        rows = redset("stats", "grouped", "--groups", "5", "--json").rows
        assert [(row["group"], row["leases"]) for row in rows] == [("a", 1), ("b", 0)]
        assert redset("stats", "plain", "--groups", "5").code == 2

    def test_find(self, redset: Console, sets: dict[str, Any]) -> None:
        sets["plain"].reserve()
        rows = redset("find", "plain", "a1", "b1", "--json").rows
        assert [(row["item"], row["state"], row["attempts"]) for row in rows] == [
            ("a1", "leased", 1),
            ("b1", "waiting", 0),
        ]
        done = redset("find", "plain", "a1", "nope")
        assert done.code == 1
        assert done.lines[1] == "nope\t-\t-\t-\t-\t-\t-"
        assert redset("find", "keyed", "1", "--json").rows[0]["value"] == '{"id": 1}'
        assert redset("find", "wide", "a1").code == 0
        assert redset("find", "ticks", "a1", "--json").rows[0]["interval"] == 60
        assert 50 < redset("find", "hashes", "a1", "--json").rows[0]["ttl"] <= 60

    def test_a_set_of_another_program(self, redset: Console, raw: Any) -> None:
        raw.zadd("foreign", {b"\xff": 1})
        assert redset("peek", "foreign").out == b"\\xff\n"
        assert redset("pop", "foreign").out == b"\\xff\n"

    def test_metrics(self, redset: Console, sets: dict[str, Any]) -> None:
        text = redset("metrics").out.decode()
        assert 'redset_items{set="plain",state="waiting"} 2.0' in text
        assert "# TYPE redset_items_added_total counter" in text

    def test_metrics_without_their_library(self, redset: Console, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "prometheus_client", None)
        assert "redset[prometheus]" in redset("metrics").err


class TestNames:
    def test_the_closest_names(self, redset: Console, sets: dict[str, Any]) -> None:
        assert redset("pop", "plian").err == "redset: there is no set 'plian': did you mean 'plain'?\n"
        assert redset("stats", "xyz").err == "redset: there is no set 'xyz': 'redset ls' lists the sets\n"
        sets["plain"].clear()
        assert redset("pop", "plain").code == 1

    def test_a_server_without_sets(self, redset: Console) -> None:
        assert redset("pop", "jobs").err == "redset: there is no set 'jobs': this server has no sets\n"

    def test_a_mistyped_command_or_option(self, redset: Console) -> None:
        done = redset("stast", "jobs")
        assert (done.code, done.out) == (2, b"")
        assert "'stats'" in done.err
        assert "--json" in redset("stats", "jobs", "--jsno").err

    def test_a_name_that_is_no_text(self, redset: Console) -> None:
        assert redset("pop", os.fsdecode(b"\xff")).code == 2

    @pytest.mark.parametrize("shell", _SHELLS)
    def test_completion(self, redset: Console, shell: str) -> None:
        assert "_REDSET_COMPLETE" in redset("completion", shell).out.decode()

    def test_completion_of_an_unknown_shell(self, redset: Console, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SHELL", "/bin/zsh")
        assert b"#compdef redset" in redset("completion").out
        assert redset("completion", "tcsh").code == 2

    def test_names_are_completed(self, redset: Console, sets: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        assert _complete_name("p") == ["plain"]
        done = redset.run(
            "x",
            env=os.environ | {"_REDSET_COMPLETE": "complete_bash", "COMP_WORDS": "redset pop gr", "COMP_CWORD": "2"},
        )
        assert done.lines == ["grouped"]
        monkeypatch.setenv("REDSET_URL", "unix:///no/such.sock")
        assert _complete_name("p") == []
        monkeypatch.delenv("REDSET_URL")
        assert _complete_name("p") == []

    def test_each_command_has_help_with_an_example(self, redset: Console) -> None:
        commands = re.findall(r"^  ([a-z]+)  ", redset("--help").out.decode(), re.MULTILINE)
        assert len(commands) > 15
        for command in set(commands) - {"demo", "dead", "server"}:
            assert re.search(r"Examples?:\n.*redset ", redset(command, "--help").out.decode(), re.DOTALL), command
        assert redset("--version").out.decode() == f"redset {library.__version__}\n"


class TestDeadLetters:
    @pytest.fixture(autouse=True)
    def letters(self, sets: dict[str, Any]) -> None:
        for reservation in sets["plain"].reserve_many(2):
            reservation.bury(f"no {reservation.item}\x1b")
        sets["keyed"].reserve().bury("bad")

    def test_ls(self, redset: Console) -> None:
        rows = redset("dead", "ls", "plain", "--json").rows
        assert [(row["item"], row["attempts"], row["reason"]) for row in rows] == [
            ("b1", 1, "no b1\x1b"),
            ("a1", 1, "no a1\x1b"),
        ]
        (line,) = redset("dead", "ls", "plain", "-n", "1").lines
        assert len(redset("dead", "ls", "plain", "-n", str(10**20)).lines) == 2
        assert re.fullmatch(r"b1\t1\t20\d\d-\d\d-\d\dT\S+\tno b1\\x1b", line)
        assert redset("dead", "ls", "keyed", "--json").rows[0]["value"] == '{"id": 1}'
        assert redset("dead", "ls", "seen").code == 2

    def test_retry(self, redset: Console, sets: dict[str, Any]) -> None:
        assert redset("dead", "retry", "plain", "a1").out == b"1\n"
        done = redset("dead", "retry", "plain", "a1", "b1")
        assert (done.code, done.out) == (1, b"1\n")
        assert redset("dead", "retry", "keyed", "--all").out == b"1\n"
        assert list(sets["plain"]) == ["a1", "b1"]

    def test_forget(self, redset: Console, sets: dict[str, Any]) -> None:
        assert redset("dead", "forget", "plain", "a1").code == 2
        assert redset("dead", "forget", "plain", "a1", "--yes").out == b"1\n"
        assert redset("dead", "forget", "plain", "--all", "--yes").out == b"1\n"
        assert len(sets["plain"].dead_letters) == 0

    @pytest.mark.parametrize("arguments", [["plain"], ["plain", "a1", "--all"]])
    def test_items_or_all(self, redset: Console, arguments: list[str]) -> None:
        assert redset("dead", "retry", *arguments).code == 2


class TestSteering:
    def test_discard(self, redset: Console, sets: dict[str, Any]) -> None:
        assert redset("discard", "plain", "a1", "b1").out == b"2\n"
        done = redset("discard", "keyed", "1", "2")
        assert (done.code, done.out) == (1, b"1\n")
        assert redset("discard", "seen", "a1").code == 0

    def test_pause_and_resume(self, redset: Console, sets: dict[str, Any]) -> None:
        assert redset("pause", "plain").out == b""
        assert sets["plain"].stats().paused_until == float("inf")
        assert redset("stats", "plain", "--json").rows[0]["paused_until"] == "inf"
        assert redset("pop", "plain").code == 1
        redset("resume", "plain")
        redset("pause", "plain", "--for", "1h")
        assert 3500 < sets["plain"].stats().paused_until - time.time() < 3700
        redset("pause", "plain", "--until", "1")
        assert redset("pop", "plain").code == 0
        assert redset("pause", "plain", "--for", "1h", "--until", "1").code == 2
        assert redset("pause", "plain", "--until", "nan").code == 2
        assert redset("pause", "seen").code == 2

    @pytest.mark.parametrize("end", [["--until", "1e15"], ["--for", "9999999999999d"]])
    def test_a_pause_until_a_time_beyond_the_calendar(
        self, redset: Console, sets: dict[str, Any], end: list[str]
    ) -> None:
        done = redset("pause", "plain", *end)
        assert (done.code, "plain is paused until " in done.err) == (0, True)
        rows = [line.split("\t") for line in redset("ls").lines]
        assert {row[0] for row in rows} >= {"plain", "due", "ticks"}
        assert redset("stats", "plain").code == 0
        assert sets["plain"].stats().paused_until > 1e14

    def test_limit(self, redset: Console, sets: dict[str, Any]) -> None:
        assert "no limits" in redset("limit", "plain").err
        assert (
            redset(
                "limit", "plain", "--rate", "10", "--per", "1m", "--burst", "5", "--leases", "2", "--maxsize", "9"
            ).code
            == 0
        )
        assert sets["plain"].stats().limits == library.Limits(10.0, 60.0, 5, 2, 9)
        assert redset("limit", "plain", "--leases", "3").code == 0
        assert redset("limit", "plain", "--json").rows == [{"name": "plain", "leases": 3, "per": 1.0}]
        assert "leases\t3" in redset("limit", "plain").lines
        assert redset("limit", "plain", "--leases", "0").code == 2
        assert redset("limit", "plain", "--burst", "1").code == 2
        assert redset("limit", "plain", "--none", "--leases", "1").code == 2
        redset("limit", "plain", "--none")
        assert sets["plain"].stats().limits is None

    def test_clear(self, redset: Console, sets: dict[str, Any]) -> None:
        assert redset("clear", "plain").code == 2
        assert len(sets["plain"]) == 2
        assert redset("clear", "plain", "--yes").code == 0
        assert len(sets["plain"]) == 0

    @pytest.mark.parametrize(("answer", "left"), [(b"y\n", 0), (b"n\n", 2)])
    def test_clear_asks_on_a_terminal(self, redset: Console, sets: dict[str, Any], answer: bytes, left: int) -> None:
        ours, theirs = pty.openpty()
        with redset.start("clear", "plain", stdin=theirs, stderr=theirs) as process:
            os.close(theirs)
            os.write(ours, answer)
            process.communicate(timeout=60)
        os.close(ours)
        assert len(sets["plain"]) == left

    def test_reshard(self, redset: Console, sets: dict[str, Any]) -> None:
        assert redset("reshard", "plain", "2").code == 0
        assert redset("stats", "plain", "--json").rows[0]["options"]["shards"] == 2
        assert "already" in redset("reshard", "plain", "2").err
        assert redset("pop", "plain").code == 0
        assert redset("reshard", "plain", "none").code == 0
        assert redset("pop", "plain").code == 0
        assert redset("reshard", "plain", "x").code == 2
        assert redset("reshard", "plain", "0").code == 2
        assert redset("reshard", "ticks", "2").code == 2


@contextlib.contextmanager
def stopping(cluster: Cluster) -> Iterator[Cluster]:
    yield cluster
    cluster.stop()


class TestTrouble:
    def test_no_server(self, redset: Console) -> None:
        done = redset("ls", "--url", "redis://localhost:1")
        assert done.code == 69
        assert re.fullmatch(
            r"redset: the server does not answer: .* Start it, or name another one by --url .*\n", done.err
        )

    def test_the_url_stands_before_or_behind_the_command(
        self, redset: Console, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = redset.url
        assert url
        monkeypatch.setenv("REDSET_URL", "redis://localhost:1")
        assert redset("--url", url, "add", "jobs", "a").out == b"1\n"
        assert redset("ls", "--url", url).code == 0
        assert redset("--url", "redis://localhost:1", "ls", "--url", url).code == 0

    @pytest.mark.parametrize("command", [["ls"], ["web"], ["web", "--metrics"]])
    def test_a_wrong_url(self, redset: Console, command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        for url, shown in (("http://jobs", "http://jobs"), ("", "")):
            for words in (["--url", url, *command], [*command, "--url", url]):
                done = redset(*words)
                assert (done.code, done.err.partition(" is ")[0]) == (2, f"redset: --url: {shown!r}")
        monkeypatch.setenv("REDSET_URL", "http://jobs")
        done = redset(*command)
        assert (done.code, done.err.partition(" is ")[0]) == (2, "redset: $REDSET_URL: 'http://jobs'")

    def test_the_demo_takes_no_url(self, redset: Console) -> None:
        done = redset("--url", "redis://localhost:1", "demo")
        assert (done.code, done.err) == (2, "redset: the demo takes its server from $REDSET_URL, not from --url\n")

    def test_rights(self, redset: Console, raw: Any, here: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        redset("add", "jobs", "a")
        raw.acl_setuser("reader", enabled=True, nopass=True, keys=["other"], categories=["+@all"])
        try:
            assert redset("peek", "jobs", "--url", here.url.replace("unix://", "unix://reader:x@")).code == 77
        finally:
            raw.acl_deluser("reader")
        assert redset("ls", "--url", here.url.replace("unix://", "unix://nobody:x@")).code == 77

    def test_a_server_that_takes_no_writes(self, redset: Console) -> None:
        with (
            Server(port=free_port(), repl_diskless_sync_delay=0) as master,
            Server(replicaof=f"127.0.0.1 {master.port}") as replica,
        ):
            redset("add", "jobs", "a", "--url", master.url)
            wait_until(lambda: replica.client().exists("jobs"))
            assert redset("peek", "jobs", "--url", replica.url).lines == ["a"]
            for command in ("add", "discard"):
                done = redset(command, "jobs", "b", "--url", replica.url)
                assert done.code == 69
                assert "read only replica" in done.err
            assert redset("pop", "jobs", "--url", replica.url).code == 69

    def test_a_node_of_a_cluster(self, redset: Console) -> None:
        with stopping(Cluster()) as cluster:
            node = next(node for node in range(3) if node != cluster.owner(cluster.slot_of("redset:sets")))
            done = redset("ls", "--url", cluster.nodes[node].url)
        assert (done.code, "node of a cluster" in done.err) == (69, True)

    def test_a_key_of_another_type(self, redset: Console, raw: Any) -> None:
        raw.set("text", "x")
        assert redset("add", "text", "a").code == 2
        assert redset("peek", "text").code == 2

    @pytest.mark.parametrize("command", [["peek", "jobs"], ["top", "--once"], ["server", "status"]])
    def test_a_full_disk(self, redset: Console, command: list[str]) -> None:
        redset("add", "jobs", "a")
        with Path("/dev/full").open("wb") as full:
            done = redset.run(*command, stdout=full)
        assert (done.code, done.err) == (74, "redset: cannot write the output: No space left on device\n")

    def test_a_reader_that_has_gone(self, redset: Console) -> None:
        redset("add", "jobs", "a")
        read, write = os.pipe()
        os.close(read)
        done = redset.run("peek", "jobs", stdout=write)
        os.close(write)
        assert (done.code, done.err) == (141, "")

    def test_no_stdout(self, redset: Console) -> None:
        redset("add", "jobs", "a")
        done = redset.run("peek", "jobs", preexec_fn=lambda: os.close(1), stdout=None)
        assert done.code == 74


class TestTerminal:
    def shown(self, redset: Console, *arguments: str, **environment: str) -> str:
        ours, theirs = pty.openpty()
        with redset.start(*arguments, stdout=theirs, env=os.environ | environment) as process:
            os.close(theirs)
            text = b""
            while True:
                try:
                    more = os.read(ours, 4096)
                except OSError:
                    break
                if not more:
                    break
                text += more
            process.communicate()
        os.close(ours)
        return text.decode()

    def test_a_table(self, redset: Console, sets: dict[str, Any]) -> None:
        text = self.shown(redset, "ls")
        assert re.search(r"^plain +SortedSet +2 ", text, re.MULTILINE)
        assert "\x1b[1mNAME" in text
        assert "\x1b" not in self.shown(redset, "ls", NO_COLOR="1", TERM="dumb")


class TestTableOfExitCodes:
    """The table of all commands in docs/howto/command-line.md: each code is met in one of these ways."""

    WAYS: ClassVar = {
        0: ["ls"],
        1: ["pop", "empty"],
        2: ["pop", "no-such-set"],
        65: ["add", "full", "--json", "{"],
        69: ["ls", "--url", "unix:///no/such.sock"],
        74: ["add", "full", "-a", "/no/such/file"],
        75: ["add", "full", "b"],
        77: ["ls", "--url", "nobody"],
        # Met in tests of their own, of pop and of peek.
        130: [],
        141: [],
    }

    def test_each_row(self, redset: Console, raw: Any) -> None:
        page = (Path(__file__).parents[2] / "docs" / "howto" / "command-line.md").read_text()
        table = page.partition("## Exit codes")[2].partition("## ")[0]
        assert list(map(int, re.findall(r"^\| (\d+) \|", table, re.MULTILINE))) == list(self.WAYS)
        full: Any = library.SortedSet(raw, "full")
        full.add("a")
        full.limit(maxsize=1)
        redset("add", "empty", "a")
        redset("pop", "empty")
        nobody = str(redset.url).replace("unix://", "unix://nobody:x@")
        for code, way in self.WAYS.items():
            if way:
                done = redset(*(nobody if word == "nobody" else word for word in way))
                assert done.code == code, (way, done)
                assert len(done.err.splitlines()) == int(code > 1)
