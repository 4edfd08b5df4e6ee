"""``redset work`` handles each item once, tells by exit codes what has happened, and loses nothing when it is ended."""

import asyncio
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

import redset as library
from console import Console, Done, children_of, own_console  # noqa: F401 # own_console is the fixture called redset
from own_home import until
from redset.cli.commands import Command, Outcome, Runner
from redset.cli.printing import Printer
from redset.cli.progress import Bar
from servers import Server


@pytest.fixture
def jobs(raw: Any) -> Any:
    """The set that ``redset work jobs`` works on."""
    return library.SortedSet(raw, "jobs")


def work(redset: Console, *arguments: str, **options: Any) -> Done:
    """Run the command: in this process, which starts at once, or with ``options`` of Popen in one of its own."""
    if options:
        return redset.run("work", "jobs", *arguments, **options)
    return redset("work", "jobs", *arguments)


def letters(jobs: Any) -> dict[str, tuple[str, int]]:
    return {letter.item: (letter.reason, letter.attempts) for letter in jobs.dead_letters}


class TestItems:
    def test_each_item_is_handled_once(self, redset: Console, jobs: Any) -> None:
        jobs.update(map(str, range(30)))
        done = work(redset, "-j", "3", "--", "echo", "<{}>", "{}")
        assert done.code == 0
        assert sorted(done.lines) == sorted(f"<{number}> {number}" for number in range(30))
        assert jobs.stats().waiting == jobs.stats().leased == jobs.stats().dead == 0

    def test_an_item_is_one_argument_whatever_it_is(self, redset: Console, jobs: Any) -> None:
        jobs.update(["a b", "$(x)", "'", "-n", b"\xff\n", "*"])
        program = "import os, sys; print(len(sys.argv), os.fsencode(sys.argv[1]))"
        done = work(redset, "--", sys.executable, "-c", program)
        lines = ["2 b'$(x)'", "2 b'*'", "2 b'-n'", "2 b'a b'", '2 b"\'"', r"2 b'\xff\n'"]
        assert sorted(done.lines) == sorted(lines)

    def test_the_shell_gets_it_quoted(self, redset: Console, jobs: Any) -> None:
        jobs.update(["a b", "$(x)", "'", b"\xff"])
        done = work(redset, "--shell", "--", "printf '%s|' {} | cat; echo")
        assert sorted(done.out.splitlines()) == [b"$(x)|", b"'|", b"a b|", b"\xff|"]

    def test_stdin(self, redset: Console, jobs: Any) -> None:
        jobs.update([b"a\0b"])
        assert work(redset, "--stdin", "--", "od", "-An", "-c").out.split() == [b"a", rb"\0", b"b"]

    def test_the_environment(self, redset: Console, jobs: Any) -> None:
        jobs.add("a b")
        jobs.reserve().nack(delay=0)
        done = work(redset, "--shell", "--", 'echo "$REDSET_ITEM|$REDSET_ATTEMPT|$REDSET_TOKEN" #')
        assert re.fullmatch(rb"a b\|2\|\d{16}\n", done.out)

    def test_a_command_may_use_the_server(self, redset: Console, jobs: Any) -> None:
        jobs.add("a")
        environment = {name: value for name, value in os.environ.items() if name != "REDSET_URL"}
        done = work(redset, "--url", str(redset.url), "--", "printenv", "REDSET_URL", env=environment, stdin=None)
        assert done.code == 123
        assert done.out.decode() == f"{redset.url}\n" * 3

    def test_items_that_cannot_be_arguments_are_buried(self, redset: Console, jobs: Any) -> None:
        jobs.update(["a\0b", "x" * 200_000, "good"])
        done = work(redset, "--", "echo")
        assert (done.code, done.out) == (123, b"good\n")
        reasons = {item[:2]: reason for item, (reason, _) in letters(jobs).items()}
        assert "NUL" in reasons["a\0"]
        assert "200,000 bytes is too long" in reasons["xx"]
        jobs.dead_letters.retry_all()
        assert len(work(redset, "--stdin", "--", "cat").out) == 200_003

    def test_keys_and_values(self, redset: Console, raw: Any) -> None:
        keyed: Any = library.SortedSet(raw, "jobs", key=lambda item: item[0])
        keyed.update(["a1", "b1", "a2"])
        assert sorted(work(redset, "--", "echo").lines) == ["a2", "b1"]


class TestExitCodes:
    """The table of docs/howto/command-line.md."""

    @pytest.mark.parametrize(
        ("ends", "code", "letter"),
        [
            ("exit 0", 0, None),
            ("echo no >&2; echo why >&2; echo >&2; exit 1", 123, ("why", 1)),
            ("exit 3", 123, ("exit code 3", 1)),
            ("exit 65", 123, ("exit code 65", 1)),
            ("echo bad >&2; exit 65", 123, ("bad", 1)),
            ("exit 255", 124, ("exit code 255", 1)),
            ("kill -KILL $$", 125, ("killed by SIGKILL", 1)),
        ],
    )
    def test_of_the_command_and_of_work(
        self, redset: Console, jobs: Any, ends: str, code: int, letter: tuple[str, int] | None
    ) -> None:
        jobs.add("a")
        assert work(redset, "--retries", "1", "--shell", "--", ends, "#").code == code
        assert letters(jobs) == ({} if letter is None else {"a": letter})

    @pytest.mark.parametrize(
        ("command", "code"),
        [
            (["no-such-command"], 127),
            (["/etc/passwd"], 126),
            (["sh", "-c", "exit 126"], 126),
            (["sh", "-c", "exit 127"], 127),
        ],
    )
    def test_a_command_that_cannot_be_run_stops_work(
        self, redset: Console, jobs: Any, command: list[str], code: int
    ) -> None:
        jobs.update(["a", "b", "c"])
        done = work(redset, "-j", "1", "--", *command)
        assert done.code == code
        assert "cannot run" in done.err
        assert len(jobs) == 3
        assert jobs.reserve().attempt == 1

    def test_75_tries_later_and_counts_no_attempt(self, redset: Console, jobs: Any, tmp_path: Path) -> None:
        jobs.add("a")
        script = f"echo $REDSET_ATTEMPT; mkdir {tmp_path}/a || mkdir {tmp_path}/b || exit 0; exit 75"
        done = work(redset, "--retries", "1", "--shell", "--", script, "#")
        assert (done.code, done.lines) == (0, ["1", "1", "1"])

    def test_attempts_are_counted_and_a_later_success_is_one(self, redset: Console, jobs: Any) -> None:
        jobs.add("a")
        done = work(redset, "--retries", "2", "--shell", "--", "echo $REDSET_ATTEMPT; test $REDSET_ATTEMPT = 2", "#")
        assert (done.code, done.lines) == (0, ["1", "2"])

    def test_the_set_says_how_many_attempts(self, redset: Console, raw: Any) -> None:
        jobs: Any = library.SortedSet(raw, "jobs", max_attempts=1)
        jobs.add("a")
        assert work(redset, "--", "false").code == 123
        assert letters(jobs) == {"a": ("exit code 1", 1)}

    def test_nothing_to_do(self, redset: Console, jobs: Any) -> None:
        jobs.add("a")
        jobs.pop()
        assert work(redset, "--", "false") == Done(0, b"", "")
        assert redset.run("work", "jbos", "--", "true").code == 2

    @pytest.mark.parametrize(
        "options",
        [
            ["-j", "0"],
            ["-j", "x"],
            ["-j", "1000000000"],
            ["--retries", "0"],
            ["--lease", "0"],
            ["--timeout", "0"],
            ["--timeout", "-1"],
            ["--halt", "soon"],
            ["--halt", "soon,fail=0"],
            ["--halt", "later,fail=1"],
        ],
    )
    def test_wrong_options(self, redset: Console, jobs: Any, options: list[str]) -> None:
        jobs.add("a")
        assert redset("work", "jobs", *options, "--", "true").code == 2
        assert len(jobs) == 1

    def test_more_commands_than_files_may_be_open(self, redset: Console, jobs: Any) -> None:
        jobs.update(map(str, range(40)))
        limit = "ulimit -Sn 100 && exec "
        words = [sys.executable, "-m", "redset", "work", "jobs", "-j", "40", "--", "sh", "-c", "sleep 0.5; echo"]
        done = subprocess.run(
            ["/bin/sh", "-c", limit + shlex.join(words)], capture_output=True, timeout=60, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"\n" * 40, b"")

    def test_no_command_and_a_wrong_kind(self, redset: Console, raw: Any) -> None:
        seen: Any = library.ExpiringSet(raw, "seen", ttl=60)
        seen.add("a")
        assert redset("work", "seen", "--", "true").code == 2
        assert redset("work", "seen").code == 2
        assert redset("work", "seen", "--", "").code == 2
        assert redset("work", "seen", "--url", "unix:///no/such.sock", "--", "true").code == 69


class TestOutput:
    SCRIPT = "echo 1; sleep 0.1; echo 2; printf 3 >&2"

    def test_it_is_grouped(self, redset: Console, jobs: Any) -> None:
        jobs.update(["a", "b", "c"])
        done = work(redset, "-j", "3", "--tag", "--shell", "--", self.SCRIPT, "#")
        assert re.fullmatch(r"((\w)\t1\n\2\t2\n){3}", done.out.decode())
        assert sorted(done.err.replace("3", "3\n").split()) == ["3", "3", "3", "a", "b", "c"]

    def test_lines_as_they_come(self, redset: Console, jobs: Any, tmp_path: Path) -> None:
        jobs.add("a")
        script = f"echo 1; until test -e {tmp_path}/go; do sleep 0.05; done; printf 2; printf why >&2; exit 3"
        options = ["--line-buffer", "--tag", "--retries", "1", "--shell"]
        with redset.start("work", "jobs", *options, "--", script, "#") as process:
            assert process.stdout
            assert process.stdout.readline() == b"a\t1\n"
            (tmp_path / "go").touch()
            out, _ = process.communicate(timeout=60)
        assert out == b"a\t2\n"
        assert letters(jobs) == {"a": ("why", 1)}

    def test_a_process_in_the_background_holds_nothing_up(self, redset: Console, jobs: Any) -> None:
        jobs.update(["a", "b"])
        for options in ([], ["--line-buffer"]):
            jobs.update(["a", "b"])
            began = time.monotonic()
            done = work(redset, *options, "--shell", "--", "sleep 30 & echo $!", "#")
            assert time.monotonic() - began < 20
            assert done.code == 0
            for line in done.lines:
                os.kill(int(line), signal.SIGKILL)

    def test_much_output(self, redset: Console, jobs: Any) -> None:
        jobs.update(["a", "b"])
        done = work(redset, "--", "sh", "-c", "head -c 3000000 /dev/zero")
        assert (done.code, len(done.out)) == (0, 6_000_000)

    def test_a_reader_that_goes_ends_it_quietly(self, redset: Console, jobs: Any) -> None:
        jobs.update(map(str, range(1000)))
        for options in ([], ["--line-buffer"]):
            with redset.start("work", "jobs", "-j", "2", *options, "--", "seq", "3") as process:
                assert process.stdout
                process.stdout.readline()
                process.stdout.close()
                assert process.wait(60) == 141
                assert process.stderr
                assert process.stderr.read().decode() == ""
        # What could not be printed waits, without an attempt.
        assert jobs.stats().leased == jobs.stats().delayed == 0
        assert len(jobs) >= 500

    def test_what_nobody_waits_for_any_more_is_not_printed(self, capfd: pytest.CaptureFixture[str]) -> None:
        async def output_of(text: bytes) -> Outcome:
            command = Command((b"echo", text), stdin=True)
            return await Runner(command, None, 1.0, asyncio.Event()).run(b"", {}, None)

        async def body() -> None:
            printer = Printer(Bar("", hidden=True))
            with printer.busy:
                outcomes = [await output_of(b"aborted") for _ in range(2)]
                prints = [asyncio.create_task(printer.print_files(outcome, b"")) for outcome in outcomes]
                await asyncio.sleep(0)
                for task, outcome in zip(prints, outcomes, strict=True):
                    task.cancel()
                    outcome.close()
            await asyncio.wait(prints)
            with closing(await output_of(b"printed")) as outcome:
                await printer.print_files(outcome, b"")
            printer.close()

        asyncio.run(asyncio.wait_for(body(), 30))
        assert capfd.readouterr() == ("printed\n", "")

    def test_the_job_log(self, redset: Console, jobs: Any, tmp_path: Path) -> None:
        jobs.add("a\tb")
        work(redset, "--joblog", f"{tmp_path}/log", "--retries", "1", "--shell", "--", "echo {}; exit 7")
        head, row = (tmp_path / "log").read_text().splitlines()
        assert head == "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand"
        assert re.fullmatch(r"1\t:\t\d+\.\d{3}\t\d+\.\d{3}\t0\t4\t7\t0\techo 'a\\tb'; exit 7", row)

    def test_a_job_log_on_a_full_disk(self, redset: Console, jobs: Any) -> None:
        jobs.add("a")
        done = work(redset, "--joblog", "/dev/full", "--", "true")
        assert (done.code, done.out) == (74, b"")
        assert done.err == "redset: cannot write the job log /dev/full: No space left on device\n"
        assert work(redset, "--joblog", "/no/such/log", "--", "true").code == 74
        assert len(jobs) == 1

    def test_a_reader_that_does_not_read_is_left(self, redset: Console, jobs: Any) -> None:
        jobs.update(["a"])
        with redset.start("work", "jobs", "--", "sh", "-c", "head -c 1000000 /dev/zero") as process:
            until(lambda: jobs.stats().leased == 1)
            assert process.stdout
            process.stdout.read(1)
            process.send_signal(signal.SIGTERM)
            assert process.stderr
            process.stderr.readline()
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 143
        assert list(jobs) == ["a"]

    def test_a_full_disk(self, redset: Console, jobs: Any) -> None:
        jobs.update(["a", "b"])
        with Path("/dev/full").open("wb") as full:
            assert work(redset, "--", "echo", stdout=full).code == 74
        assert len(jobs) == 2


class TestEnds:
    def test_a_timeout_kills_all_that_the_command_has_started(self, redset: Console, jobs: Any, tmp_path: Path) -> None:
        jobs.add("a")
        stubborn = f"trap '' TERM; (trap '' TERM; sleep 60) & echo $! > {tmp_path}/pid; wait; wait"
        done = work(redset, "--timeout", "0.3", "-k", "0.1", "--retries", "1", "--shell", "--", stubborn, "#")
        assert done.code == 123
        assert letters(jobs) == {"a": ("timed out after 0.3 s", 1)}
        until(lambda: not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/fd").exists())

    @pytest.mark.parametrize("code", [0, 65, 75, 127, 255])
    def test_a_timeout_is_a_failure_whatever_the_command_says(self, redset: Console, jobs: Any, code: int) -> None:
        jobs.add("a")
        script = f"trap 'exit {code}' TERM; while :; do sleep 0.02; done"
        assert work(redset, "--timeout", "0.2", "--retries", "1", "--shell", "--", script, "#").code == 123
        assert letters(jobs) == {"a": ("timed out after 0.2 s", 1)}

    def test_a_lease_outlives_a_long_command(self, redset: Console, jobs: Any) -> None:
        jobs.add("a")
        done = work(redset, "-j", "2", "--lease", "4", "--retries", "1", "--", "sh", "-c", "sleep 5; echo done")
        assert (done.code, done.out, done.err) == (0, b"done\n", "")

    def test_a_discarded_item_ends_its_command(self, redset: Console, jobs: Any, tmp_path: Path) -> None:
        jobs.add("a")
        script = f"touch {tmp_path}/began; exec sleep 60"
        with redset.start("work", "jobs", "--lease", "3", "--", "sh", "-c", script) as process:
            until(lambda: (tmp_path / "began").exists())
            jobs.discard("a")
            _, err = process.communicate(timeout=60)
        assert process.returncode == 0
        assert b"the lease of a was lost" in err

    @pytest.mark.parametrize(
        ("halt", "runs", "code"),
        [("soon,fail=2", 2, 123), ("soon,done=3", 3, 123), ("now,fail=1", 1, 123)],
    )
    def test_halt(self, redset: Console, jobs: Any, halt: str, runs: int, code: int) -> None:
        jobs.update(["a", "b", "c", "d", "e"])
        done = work(redset, "-j", "1", "--halt", halt, "--", "sh", "-c", "echo run; false")
        assert (done.code, len(done.lines)) == (code, runs)
        assert "halted" in done.err

    def test_halt_after_a_success(self, redset: Console, jobs: Any) -> None:
        jobs.update(["a", "b", "c"])
        done = work(redset, "-j", "1", "--halt", "soon,success=1", "--", "echo")
        assert (done.code, done.lines) == (0, ["a"])

    def test_halt_now_kills_and_gives_back(self, redset: Console, jobs: Any) -> None:
        jobs.update(["a", "b"])
        began = time.monotonic()
        done = work(
            redset,
            "-j",
            "2",
            "--halt",
            "now,fail=1",
            "--shell",
            "--",
            "test {} = a || exec sleep 60; sleep 0.5; exit 1",
        )
        assert time.monotonic() - began < 30
        assert done.code == 123
        assert jobs.stats().waiting == 1

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    def test_a_signal_lets_running_commands_end(
        self, redset: Console, jobs: Any, tmp_path: Path, number: signal.Signals
    ) -> None:
        jobs.update(["a", "b"])
        script = f"touch {tmp_path}/began; until test -e {tmp_path}/go; do sleep 0.05; done; echo done"
        with redset.start("work", "jobs", "-j", "1", "--shell", "--", script, "#") as process:
            until(lambda: (tmp_path / "began").exists())
            os.killpg(process.pid, number)
            assert process.stderr
            assert b"finishing 1 running" in process.stderr.readline()
            (tmp_path / "go").touch()
            assert process.communicate(timeout=60) == (b"done\n", b"")
        assert process.returncode == 128 + number
        assert list(jobs) == ["b"]

    def test_a_second_signal_gives_back(self, redset: Console, jobs: Any) -> None:
        jobs.update(["a", "b"])
        with redset.start(
            "work", "jobs", "-j", "2", "-k", "0.1", "--", "sh", "-c", "trap '' TERM; sleep 60; sleep 60"
        ) as process:
            until(lambda: jobs.stats().leased == 2 and len(children_of(process.pid)) >= 2)
            process.send_signal(signal.SIGINT)
            assert process.stderr
            process.stderr.readline()
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        assert process.returncode == 130
        assert jobs.stats().dead == 0
        assert [reservation.attempt for reservation in jobs.reserve_many(5)] == [1, 1]

    def test_forever(self, redset: Console, jobs: Any) -> None:
        with redset.start("work", "jobs", "--forever", "--", "echo") as process:
            time.sleep(0.5)
            jobs.add("a")
            assert process.stdout
            assert process.stdout.readline() == b"a\n"
            process.terminate()
            process.communicate(timeout=60)
        assert process.returncode == 0

    def test_it_waits_for_the_leases_of_others(self, redset: Console, jobs: Any) -> None:
        jobs.add("a")
        reservation = jobs.reserve()
        with redset.start("work", "jobs", "--", "echo") as process:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(1.5)
            reservation.again()
            assert process.communicate(timeout=60) == (b"a\n", b"")

    def test_it_leaves_items_whose_group_it_cannot_tell_to_others(self, redset: Console, raw: Any) -> None:
        jobs = library.SortedSet(raw, "jobs", group=lambda item: item[0])
        jobs.update(["a1", "a2"])
        jobs.pop()
        raw.zadd("jobs", {"c1": 0})
        with redset.start("work", "jobs", "--", "echo") as process:
            until(lambda: (jobs.stats().waiting, jobs.stats().unfinished) == (1, 1))
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(1.5)
            assert jobs.stats().dead == 0
            # That gives it a group; then either of the two may claim it.
            got = jobs.take(1) + jobs.take(1)
            out, _ = process.communicate(timeout=60)
            assert out.decode().split() + got == ["a2", "c1"]

    def test_an_outage(self, redset: Console) -> None:
        with Server(appendonly="yes", appendfsync="always") as server:
            jobs: Any = library.SortedSet(server.client(), "jobs")
            jobs.update(["a", "b"])
            with redset.start(
                "work", "jobs", "-j", "1", "--url", server.url, "--", "sh", "-c", "sleep 0.5; echo $0"
            ) as process:
                until(lambda: jobs.stats().leased == 1)
                server.restart()
                out, _ = process.communicate(timeout=60)
        assert (process.returncode, out) == (0, b"a\nb\n")

    def test_the_terminal_is_left_clean(self, redset: Console, jobs: Any) -> None:
        jobs.update(map(str, range(100)))
        ours, theirs = pty.openpty()
        shown = b""
        command = ["work", "jobs", "-j", "1", "--", "sh", "-c", "sleep 0.3; echo $0"]
        with redset.start(*command, stdout=theirs, stderr=theirs) as process:
            os.close(theirs)
            while b" left" not in shown:
                shown += os.read(ours, 4096)
            process.send_signal(signal.SIGINT)
            while True:
                try:
                    shown += os.read(ours, 4096)
                except OSError:
                    break
            process.communicate()
        os.close(ours)
        assert b"done" in shown
        assert shown.count(b"\x1b[?25l") == shown.count(b"\x1b[?25h") == 1
        assert not shown.rpartition(b"\x1b[?25h")[2].strip(b"\r\n") or shown.endswith((b"\n", b"\x1b[2K"))


def share(redset: Console, jobs: Any, folder: Path, files: int) -> None:
    """Two workers in different directories share files. One is killed with all its commands; the other one finishes."""
    (folder / "files").mkdir()
    for number in range(files):
        (folder / "files" / f"{number:04}").write_text(str(number))
    paths = "".join(f"{path}\n" for path in sorted((folder / "files").iterdir()))
    assert redset("add", "jobs", stdin=paths.encode()).out == b"%d\n" % files
    for name in ("one", "two"):
        (folder / name).mkdir()
    command = ["work", "jobs", "-j", "2", "--lease", "4", "--", "sh", "-c", 'echo "$0" >> began; cksum "$0" >> sums']
    # Both begin at once, however long each takes to start.
    jobs.pause()
    one, two = (redset.start(*command, cwd=folder / name) for name in ("one", "two"))
    with one, two:
        until(lambda: jobs.redis.zcard("{jobs}:looks") == 2)
        jobs.resume()
        until(lambda: jobs.totals().acked > files // 4 and (folder / "one" / "began").exists())
        os.kill(one.pid, signal.SIGSTOP)
        children = children_of(one.pid)
        for pid in (one.pid, *children):
            # A command may have ended meanwhile.
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        one.communicate()
        _, err = two.communicate(timeout=120)
    assert (two.returncode, err) == (0, b"")
    began = {name: (folder / name / "began").read_text().splitlines() for name in ("one", "two")}
    counts = Counter(began["one"] + began["two"])
    twice = {path for path, count in counts.items() if count > 1}
    assert counts.keys() == set(paths.split())
    assert max(counts.values()) <= 2
    # Those under way in the killed worker, at most two, have begun once more in the other one.
    assert len(twice) <= 2
    assert twice <= set(began["one"]) & set(began["two"])
    sums = (folder / "one" / "sums").read_text() + (folder / "two" / "sums").read_text()
    assert {line.split()[2] for line in sums.splitlines()} == counts.keys()
    assert min(map(len, began.values())) > files // 20


def test_two_workers_share_files_and_one_is_killed(redset: Console, jobs: Any, tmp_path: Path) -> None:
    share(redset, jobs, tmp_path, 200)


@pytest.mark.soak
def test_two_workers_share_many_files_and_one_is_killed(redset: Console, jobs: Any, tmp_path: Path) -> None:
    share(redset, jobs, tmp_path, 2000)


@pytest.mark.soak
def test_a_million_lines(redset: Console, raw: Any, tmp_path: Path) -> None:
    with (tmp_path / "lines").open("wb") as lines:
        lines.writelines(b"https://example.org/page/%d\n" % number for number in range(1_000_000))
    before = cpu_of(raw)
    assert redset("add", "pages", "-a", f"{tmp_path}/lines").out == b"1000000\n"
    # Processor time of both sides, since the machine may be shared: 200,000 a second take 5 s.
    assert cpu_of(raw) - before < 10


def cpu_of(raw: Any) -> float:
    """Return the seconds of processor time of this process and of the server."""
    server = raw.info("cpu")
    return time.process_time() + float(server["used_cpu_user"] + server["used_cpu_sys"])
