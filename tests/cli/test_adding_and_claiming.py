"""Items get into sets and out of them as they are, and a command says by its exit code what has happened."""

import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import redset as library
from console import Console, own_console  # noqa: F401 # own_console is the fixture called redset
from own_home import until


class TestAdd:
    def test_items_and_lines(self, redset: Console, raw: Any) -> None:
        assert redset("add", "jobs", "read", "write", "read").out == b"2\n"
        assert redset("add", "jobs", stdin=b"read\n\nsing\\n\ndance").out == b"2\n"
        assert set(library.open_set(raw, "jobs")) == {b"read", b"write", b"sing\\n", b"dance"}

    def test_null_bytes_end_items(self, redset: Console, raw: Any) -> None:
        assert redset("add", "jobs", "--null", stdin=b"a\nb\0c\0\xff").out == b"3\n"
        assert set(library.open_set(raw, "jobs")) == {b"a\nb", b"c", b"\xff"}

    def test_escapes(self, redset: Console, raw: Any) -> None:
        assert redset("add", "jobs", r"a\\b\n\xff").code == 0
        assert list(library.open_set(raw, "jobs")) == [b"a\\b\n\xff"]
        assert redset("add", "jobs", r"C:\dir").code == 2

    def test_files(self, redset: Console, raw: Any, tmp_path: Path) -> None:
        (tmp_path / "a").write_text("1\n2\n")
        (tmp_path / "b").write_text("3")
        assert (
            redset("add", "jobs", "-a", f"{tmp_path}/a", "--arg-file", f"{tmp_path}/b", "-a", "-", stdin=b"4").out
            == b"4\n"
        )
        done = redset("add", "jobs", "-a", f"{tmp_path}/c")
        assert (done.code, done.err) == (74, f"redset: cannot read {tmp_path}/c: No such file or directory\n")
        assert redset("add", "jobs", "5", "-a", f"{tmp_path}/a").code == 2
        assert len(library.open_set(raw, "jobs")) == 4

    def test_scores(self, redset: Console, raw: Any) -> None:
        redset("add", "jobs", "low", "--score", ".5")
        redset("add", "jobs", "--score-column", "2", stdin=b"high\t9\nmiddle\t5\twith a tab\n")
        assert list(library.open_set(raw, "jobs").with_scores()) == [
            (b"low", 0.5),
            (b"middle\twith a tab", 5),
            (b"high", 9),
        ]

    def test_keep(self, redset: Console, raw: Any) -> None:
        redset("add", "jobs", "a", "--score", "1")
        assert redset("add", "jobs", "a", "b", "--score", "2", "--keep").out == b"1\n"
        redset("add", "jobs", "b", "--score", "3")
        assert list(library.open_set(raw, "jobs").with_scores()) == [(b"a", 1), (b"b", 3)]

    def test_a_delay_is_by_the_clock_of_the_server(self, redset: Console, raw: Any) -> None:
        assert redset("add", "mails", "later", "--delay", "1h").out == b"1\n"
        assert redset("stats", "mails", "--json").rows[0]["kind"] == "ScheduledSet"
        ((_, due),) = library.open_set(raw, "mails").with_scores()
        assert 3590 < due - raw.time()[0] < 3610
        assert redset("pop", "mails").code == 1
        redset("add", "jobs", "a")
        assert redset("add", "jobs", "b", "--delay", "1h").code == 2

    def test_json_lines_with_keys_and_scores(self, redset: Console, raw: Any) -> None:
        lines = b'{"id": 1, "at": {"p": 3}}\n{"id": "two", "at": {"p": 1}}\n\n{"id": 1, "at": {"p": 2}}\n'
        assert redset("add", "prices", "--key", ".id", "--score", ".at.p", stdin=lines).out == b"2\n"
        prices: Any = library.SortedSet(raw, "prices", serializer=json, key=lambda price: price["id"])
        assert list(prices.with_scores()) == [({"id": "two", "at": {"p": 1}}, 1), ({"id": 1, "at": {"p": 2}}, 2)]
        assert redset("add", "prices", '{"id": "a\\n"}', "--key", ".id", "--json").rows == [
            {"name": "prices", "new": 1}
        ]
        assert redset("add", "prices", "x").code == 2
        assert redset("add", "others", "x").code == 0
        assert redset("add", "others", "--key", ".id", stdin=lines).code == 2

    def test_json_without_a_key(self, redset: Console, raw: Any) -> None:
        redset("add", "jobs", "--json", stdin=b' {"b": 1} \n[2]\n')
        assert set(library.open_set(raw, "jobs")) == {b'{"b": 1}', b"[2]"}

    @pytest.mark.parametrize(
        ("options", "line", "says"),
        [
            (["--json"], b"{", "line 2: this is no JSON"),
            (["--key", ".id"], b'{"id": null}', "line 2: there is no text or number at .id"),
            (["--score", ".p"], b'{"p": true}', "line 2: there is no number at .p"),
            (["--score", ".p"], b'{"p": NaN}', "line 2: there is no number at .p"),
            (["--score-column", "2"], b"1", "line 2: there is no column 2"),
            (["--score-column", "1"], b"\x1bx\t1", "line 2: column 1 is no number: \\x1bx\n"),
        ],
    )
    def test_a_line_that_cannot_be_read(self, redset: Console, options: list[str], line: bytes, says: str) -> None:
        good = b"1\t2" if "--score-column" in options else b'{"id": 1, "p": 2}'
        done = redset("add", "jobs", *options, stdin=good + b"\n" + line)
        assert done.code == 65
        assert says in done.err

    @pytest.mark.parametrize(
        "options",
        [
            ["--score", "high"],
            ["--score", "1", "--delay", "1s"],
            ["--score-column", "0"],
            ["--score-column", "1", "--json"],
            ["--key", "id"],
            ["--delay", "soon"],
            ["--nope"],
        ],
    )
    def test_wrong_options(self, redset: Console, options: list[str]) -> None:
        done = redset("add", "jobs", "a", *options)
        assert (done.code, done.out) == (2, b"")

    def test_other_kinds(self, redset: Console, raw: Any) -> None:
        feeds: Any = library.PeriodicSet(raw, "feeds", interval=60)
        feeds.add("/a")
        assert redset("add", "feeds", "/a", "/b").out == b"1\n"
        assert redset("add", "feeds", "/c", "--score", "1").code == 2
        seen: Any = library.ExpiringSet(raw, "seen", ttl=60)
        seen.add("/a")
        assert redset("add", "seen", "/a", "/b").out == b"1\n"
        crawl: Any = library.SortedSet(raw, "crawl", group=lambda url: url[0], shards=4)
        crawl.add("/a")
        assert "groups" in redset("add", "crawl", "/b").err
        wide: Any = library.SortedSet(raw, "wide", shards=4)
        wide.add("/a")
        assert redset("add", "wide", "--score-column", "1", stdin=b"2\t/a\n3\t/b").out == b"1\n"
        assert dict(wide.with_scores()) == {"/a": 2, "/b": 3}

    def test_a_full_set(self, redset: Console, raw: Any) -> None:
        jobs: Any = library.SortedSet(raw, "jobs")
        jobs.limit(maxsize=2)
        jobs.add("a")
        done = redset("add", "jobs", "b", "c", "d")
        assert (done.code, done.out) == (75, b"")
        assert "1 of the items are in it" in done.err

    def test_an_interrupt_says_how_many_were_added(self, redset: Console, raw: Any) -> None:
        def has(number: int) -> bool:
            return bool(raw.zcard("jobs") == number)

        with redset.start("add", "jobs", stdin=subprocess.PIPE) as process:
            assert process.stdin
            # When the second block is there, the first one has been counted.
            for number, line in enumerate((b"a\n", b"b\n"), 1):
                process.stdin.write(line)
                process.stdin.flush()
                until(partial(has, number))
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
            assert process.stderr
            said = process.stderr.read()
        assert re.fullmatch(rb"redset: [12] items were added before, [12] of them new\n", said)

    def test_a_bar_after_a_second(self, redset: Console) -> None:
        ours, theirs = pty.openpty()
        with redset.start("add", "jobs", stdin=subprocess.PIPE, stderr=theirs) as process:
            os.close(theirs)
            assert process.stdin
            shown, number = b"", 0
            while b" lines" not in shown:
                number += 1
                process.stdin.write(b"%d\n" % number)
                process.stdin.flush()
                if select.select([ours], [], [], 0.1)[0]:
                    shown += os.read(ours, 4096)
            process.stdin.close()
            with contextlib.suppress(OSError):
                while more := os.read(ours, 4096):
                    shown += more
            assert process.stdout
            assert process.stdout.read() == b"%d\n" % number
        os.close(ours)
        assert process.returncode == 0
        assert shown.count(b"\x1b[?25l") == shown.count(b"\x1b[?25h") == 1


class TestNew:
    def test_only_lines_that_nobody_has_seen(self, redset: Console) -> None:
        assert redset("new", "seen", "--ttl", "1h", stdin=b"a\\n\nb\na\\n\n").lines == ["a\\n", "b"]
        assert redset("new", "seen", stdin=b"b\nc\n").lines == ["c"]
        assert redset("new", "seen", "--null", stdin=b"c\0d\0").out == b"d\0"

    def test_by_a_key(self, redset: Console) -> None:
        lines = b'{"id": 1, "n": 1}\n{"id": 1, "n": 2}\n'
        assert redset("new", "orders", "--ttl", "1h", "--key", ".id", stdin=lines).rows == [{"id": 1, "n": 1}]

    def test_what_it_refuses(self, redset: Console) -> None:
        assert "give --ttl" in redset("new", "seen", stdin=b"a").err
        assert redset("new", "seen", "--ttl", "0", stdin=b"a").code == 2
        redset("add", "jobs", "a")
        assert redset("new", "jobs", "--ttl", "1h", stdin=b"a").code == 2

    def test_lines_that_trickle_in_are_printed_at_once(self, redset: Console) -> None:
        with redset.start("new", "seen", "--ttl", "1h", stdin=-1) as process:
            assert process.stdin
            assert process.stdout
            for line in (b"a\n", b"b\n"):
                process.stdin.write(line)
                process.stdin.flush()
                assert process.stdout.readline() == line
            process.stdin.close()
            assert process.wait(60) == 0


class TestPop:
    def test_items_come_out_in_order_and_1_says_that_there_are_none(self, redset: Console) -> None:
        redset("add", "jobs", r"b\n", "a", "c")
        assert redset("pop", "jobs").out == b"a\n"
        assert redset("pop", "jobs", "-n", "5", "--json").rows == [
            {"name": "jobs", "item": r"b\n"},
            {"name": "jobs", "item": "c"},
        ]
        done = redset("pop", "jobs")
        assert (done.code, done.out, done.err) == (1, b"", "")

    def test_items_move_from_one_set_to_another(self, redset: Console, raw: Any) -> None:
        redset("add", "jobs", "--null", stdin=b"a\\b\0\xff\n\0")
        moved = redset("pop", "jobs", "-n", "10", "--null")
        assert moved.out == b"a\\b\0\xff\n\0"
        redset("add", "others", "--null", stdin=moved.out)
        assert list(library.open_set(raw, "others")) == [b"a\\b", b"\xff\n"]

    def test_more_than_one_claim(self, redset: Console) -> None:
        redset("add", "jobs", stdin=b"".join(b"%d\n" % number for number in range(2500)))
        assert len(redset("pop", "jobs", "-n", "2200").lines) == 2200
        assert len(redset("pop", "jobs", "-n", "2200").lines) == 300

    def test_it_waits_also_for_a_set_that_is_not_there_yet(self, redset: Console) -> None:
        with redset.start("pop", "jobs", "--wait", "forever") as process:
            time.sleep(0.2)
            redset("add", "jobs", "a")
            assert process.communicate(timeout=60) == (b"a\n", b"")
        assert redset("pop", "jobs", "--wait", "10ms").code == 1

    def test_trouble_is_not_taken_for_the_end(self, redset: Console, raw: Any) -> None:
        assert redset("pop", "jobs").code == 2
        seen: Any = library.ExpiringSet(raw, "seen", ttl=60)
        seen.add("a")
        assert redset("pop", "seen").code == 2
        assert redset("pop", "jobs", "--url", "unix:///no/such.sock").code == 69
        assert redset("--url", "http://host", "pop", "jobs").code == 2
        assert redset("pop", "jobs", "--json", "--null").code == 2

    def test_an_interrupt_is_quiet(self, redset: Console, raw: Any) -> None:
        redset("add", "jobs", "a")
        redset("pop", "jobs")
        with redset.start("pop", "jobs", "--wait", "forever") as process:
            until(lambda: any(client["cmd"] in ("blmove", "blpop", "bzpopmin") for client in raw.client_list()))
            process.send_signal(2)
            assert process.communicate(timeout=60) == (b"", b"")
        assert process.returncode == 130


class TestPeek:
    def test_the_head(self, redset: Console) -> None:
        redset("add", "jobs", "--score-column", "1", stdin=b"2\tb\n1\ta\n")
        assert redset("peek", "jobs", "-n", "1").out == b"a\n"
        assert redset("peek", "jobs", "-n", str(10**20), "--scores").lines == ["1\ta", "2\tb"]
        assert redset("peek", "jobs", "--json").rows[0] == {"name": "jobs", "item": "a", "score": 1, "state": "waiting"}
        assert len(redset("pop", "jobs", "-n", "9").lines) == 2
        assert redset("peek", "jobs").code == 1

    def test_keys_and_values(self, redset: Console, raw: Any) -> None:
        prices: Any = library.SortedSet(raw, "prices", serializer=json, key=lambda price: price["id"])
        prices.add({"id": 7, "cents": 99})
        assert redset("peek", "prices").lines == ['7\t{"id": 7, "cents": 99}']
        assert redset("peek", "prices", "--json").rows[0]["key"] == "7"
        wide: Any = library.SortedSet(raw, "wide", serializer=json, key=lambda price: price["id"], shards=2)
        wide.add({"id": 7})
        assert redset("peek", "wide").lines == ['{"id": 7}']

    def test_an_expiring_set(self, redset: Console) -> None:
        redset("new", "seen", "a", "--ttl", "1h")
        assert redset("peek", "seen").lines == ["a"]
