"""The demo as a whole, and its parts."""

import hashlib
import io
import os
import pty
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Timer
from types import SimpleNamespace

import pytest
from rich.console import Console

from own_home import lasting_keys, own_home, python  # noqa: F401 - own_home is the fixture called home
from redset.cli import demo, demo_worker, inputs
from redset.cli.demo import Outcome, Verdict, verdict
from redset.cli.demo_processes import Worker
from redset.cli.demo_worker import Result
from redset.cli.inputs import Lines, PlainResult, Tree, from_arguments, waiting_lines
from redset.connect import connect
from redset.exceptions import RedsetError
from redset.sets import SortedSet


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Make six regular files, three of them with the same content, and some other directory entries."""
    root = tmp_path / "tree"
    for path, content in {
        "a.txt": "one",
        "b/[red]b.txt": "same",
        "b/c/c.txt": "same",
        "b/c/d.txt": "same",
        "b/empty": "",
        os.fsdecode(b"b/\xff\x1b"): "not UTF-8",
        "b/site-packages/installed.py": "left out",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
    os.mkfifo(root / "pipe")
    (root / "link").symlink_to("a.txt")
    (root / "loop").symlink_to(root)
    return root


def source_of(tree: Path) -> Tree:
    return Tree(tree, without=["site-packages"])


#: What the row "must be 0" says when all is well.
ALL_ZERO = "0 twice, 0 missing, 0 unknown, 0 wrong"


def figures(told: str) -> list[int]:
    return [int(figure.replace(",", "")) for figure in re.findall(r"\d[\d,]*", told)]


def row(shown: str, title: str) -> str:
    """Return the text of the row with that title."""
    found = re.search(rf"^{re.escape(title)}  +(.*?) *$", shown, re.MULTILINE)
    assert found, shown
    return found[1]


@pytest.mark.usefixtures("home")
class TestTheWholeDemo:
    @pytest.mark.parametrize("terminal", [True, False])
    def test_a_tree(self, tree: Path, *, terminal: bool) -> None:
        output = io.StringIO()
        assert demo.run(
            source_of(tree), 3, 2, Console(file=output, force_terminal=terminal, color_system=None, width=120)
        )
        shown = output.getvalue()
        assert row(shown, "added") == "18 files, 6 of them distinct"
        assert "Consumer 1 was killed (SIGKILL) while it held 6 leases." in shown
        assert row(shown, "hashed by consumer 1") == "3, then killed with 6 leases"
        assert row(shown, "hashed by the others") == "6"
        assert row(shown, "claimed again") == "6 after the kill; 3 of them hashed already, not acked"
        assert row(shown, "must be 0") == ALL_ZERO
        assert re.fullmatch(r"3 x .*\.txt", row(shown, "identical files"))
        assert "Correct" in shown
        assert ("\x1b" in shown) is terminal
        assert lasting_keys(connect()) == []

    @pytest.mark.no_cover
    def test_it_fits_a_small_terminal(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """With one line of progress in place of the bar, which takes one line too."""
        monkeypatch.setattr(demo, "_show_bar", demo._show_lines)
        monkeypatch.setattr(demo, "_PLAIN_REFRESH", 1000.0)
        output = io.StringIO()
        (tmp_path / "lines").write_text("".join(f"{n % 2_000} {'words ' * 20}\n" for n in range(3_000)))
        demo.run(
            Lines(tmp_path / "lines"), 3, 4, Console(file=output, force_terminal=True, color_system=None, width=80)
        )

        lines = output.getvalue().splitlines()
        assert len(lines) < 24
        assert max(map(len, lines)) <= 80
        assert not any(line.startswith(" ") for line in lines), "a row takes two lines"

    def test_lines(self, tmp_path: Path) -> None:
        (tmp_path / "lines").write_bytes(b"b\na\r\n\nb\n\xff\nb\na")
        with (tmp_path / "lines").open() as lines:
            command = python("-m", "redset", "demo", "--producers", "2", "--consumers", "1", stdin=lines)
        shown, err = command.communicate()
        assert (command.returncode, err) == (0, "")
        assert row(shown, "added") == "14 lines, 4 of them distinct"
        assert "None is killed" in shown
        assert row(shown, "hashed by consumer 1") == "4"
        assert row(shown, "claimed again").startswith("0 ")
        assert row(shown, "most repeated line") == "3 x b"

    @pytest.mark.no_cover
    @pytest.mark.soak
    def test_the_files_of_this_python(self) -> None:
        command = python("-m", "redset", "demo", stdin=subprocess.DEVNULL)
        shown, err = command.communicate()
        assert (command.returncode, err) == (0, "")
        assert "Input: the files under" in shown
        assert row(shown, "hashed by consumer 1") == "10, then killed with 20 leases"
        claimed_again, hashed_before = figures(row(shown, "claimed again"))
        assert claimed_again >= 20
        assert hashed_before >= 10
        added, distinct = figures(row(shown, "added"))
        assert added == 3 * distinct > 1500
        assert row(shown, "must be 0") == ALL_ZERO
        assert row(shown, "identical files")

    @pytest.mark.soak
    def test_a_tree_given_comes_before_lines(self, tree: Path, tmp_path: Path) -> None:
        (tmp_path / "lines").write_text("a\nb\n")
        with (tmp_path / "lines").open() as lines:
            command = python("-m", "redset", "demo", "--path", str(tree), stdin=lines)
        shown = command.communicate()[0]
        assert command.returncode == 0
        assert row(shown, "added") == "21 files, 7 of them distinct"

    @pytest.mark.parametrize("consumers", [1, 2])
    def test_an_empty_tree(self, consumers: int, tmp_path: Path) -> None:
        output = io.StringIO()
        assert demo.run(Tree(tmp_path), 1, consumers, Console(file=output))
        assert "was killed" not in output.getvalue()

    def test_a_wrong_result_fails(self, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(inputs, "_plain_digest", lambda path: "another")
        output = io.StringIO()
        assert not demo.run(source_of(tree), 1, 1, Console(file=output))
        assert "FAILED" in output.getvalue()

    def test_its_progress_is_shown(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(demo, "_PLAIN_REFRESH", 0.0)
        output = io.StringIO()
        (tmp_path / "lines").write_text("".join(f"{n}\n" for n in range(5_000)))
        assert demo.run(Lines(tmp_path / "lines"), 1, 1, Console(file=output))
        assert re.search(r"Hashing lines: [\d,]+ of 5,000 \.\.\.\n", output.getvalue())
        assert "Hashing lines: 5,000 of 5,000, done\n" in output.getvalue()


def result(item: bytes, digest: str | None, *, token: int = 0, attempt: int = 1, began: float = 100.0) -> Result:
    return Result(item, digest, token, attempt, began, began + 2)


def outcome(*results: list[Result], distinct: int = 2) -> Outcome:
    return Outcome(4, distinct, list(results), killed=True, held=1, adding_took=1.0, taking_took=1.0)


A, B = result(b"a", "A", token=1), result(b"b", None, token=2)


class TestVerdict:
    plain = PlainResult({b"a": "A", b"b": None}, frozenset({b"changed"}), [])

    @pytest.mark.parametrize(
        ("reported", "differs"),
        [
            (outcome([A], [B]), Verdict(0, 0, 0, 0)),
            (outcome([A], distinct=1), Verdict(0, 1, 0, 0)),
            (outcome([A], distinct=2), Verdict(0, 1, 1, 0)),
            (outcome([A, B, result(b"c", "C")], distinct=3), Verdict(0, 0, 1, 0)),
            (outcome([A, B, result(b"changed", "X")], distinct=3), Verdict(0, 0, 0, 0)),
            (outcome([result(b"a", "B")], [result(b"b", "B")]), Verdict(0, 0, 0, 2)),
        ],
    )
    def test_verdict(self, reported: Outcome, differs: Verdict) -> None:
        assert verdict(reported, self.plain) == differs
        assert differs.correct is (differs == Verdict(0, 0, 0, 0))

    @pytest.mark.parametrize(
        ("again", "twice"),
        [
            (result(b"a", "A", token=3, attempt=2, began=102.0), 0),  # the lease was over
            (result(b"a", "A", token=3, attempt=2, began=101.0), 1),  # it was not
            (
                result(b"a", "A", token=3, attempt=1, began=102.0),
                1,
            ),  # an ack had ended its attempts
            (A, 1),
        ],
    )
    @pytest.mark.parametrize("first", [True, False])
    def test_handled_again(self, again: Result, twice: int, *, first: bool) -> None:
        reported = outcome([again], [A, B]) if first else outcome([A, B], [again])
        assert verdict(reported, self.plain) == Verdict(twice, 0, 0, 0)

    def test_the_newest_token_counts(self) -> None:
        newer = result(b"a", "X", token=3, attempt=2, began=102.0)
        assert verdict(outcome([newer], [A, B]), self.plain) == Verdict(0, 0, 0, 1)

    @pytest.mark.parametrize("one", [A, B, result(b"", "A", began=1732423423.123457)])
    def test_results_go_through_lines(self, one: Result) -> None:
        assert Result.read(one.written()) == one


class TestInputs:
    def test_each_process_reads_the_same_items_in_another_order(self, tmp_path: Path) -> None:
        for n in range(50):
            (tmp_path / str(n)).write_text("")
        source = Tree(tmp_path)
        one, other = list(source.offers(random.Random(1))), list(source.offers(random.Random(2)))
        assert one != other
        assert sorted(one) == sorted(other)
        source.observe()
        assert source.plain_result().digests.keys() == set(one)

    def test_only_regular_files(self, tree: Path) -> None:
        source = source_of(tree)
        offered = {path.removeprefix(os.fsencode(tree) + b"/") for path in source.offers(random.Random())}
        assert offered == {b"a.txt", b"b/[red]b.txt", b"b/c/c.txt", b"b/c/d.txt", b"b/empty", b"b/\xff\x1b"}

    def test_the_digest_is_the_plain_one(self, tree: Path) -> None:
        source = source_of(tree)
        source.observe()
        plain = source.plain_result()
        assert plain.digests == {path: source.digest(path) for path in source.offers(random.Random())}
        assert [copies for copies, _ in plain.most_copied] == [3]

    def test_unreadable_files_have_no_digest(self, tree: Path) -> None:
        gone = os.fsencode(tree / "gone")
        assert Tree(tree).digest(gone) is inputs._plain_digest(gone) is None
        assert not inputs._is_regular(gone)
        assert inputs._largest_groups({gone: None, b"gone, too": None}) == []
        missing = Tree(tree / "gone")
        missing.observe()
        assert missing.plain_result().digests == {}

    def test_items_that_change_meanwhile_are_not_checked(self, tree: Path) -> None:
        source = source_of(tree)
        source.observe()
        (tree / "a.txt").unlink()
        (tree / "b/empty").write_text("no more")
        (tree / "new").write_text("")
        plain = source.plain_result()
        assert plain.changed == {os.fsencode(tree / name) for name in ("a.txt", "b/empty", "new")}
        assert len(plain.digests) == 4

    @pytest.mark.parametrize("text", [b"a\nb\n", b"a\r\nb", b"\n", b"\n\n", b"a\r", b"a\r\r\n\rb\n", b"\xff\x00\n"])
    def test_lines_are_the_plain_ones(self, text: bytes, tmp_path: Path) -> None:
        (tmp_path / "lines").write_bytes(text)
        source = Lines(tmp_path / "lines")
        source.observe()
        assert source.plain_result().digests == {line: source.digest(line) for line in source.offers(random.Random())}

    def test_they_go_through_arguments(self, tree: Path, tmp_path: Path) -> None:
        for source in (source_of(tree), Tree(tree), Lines(tmp_path / "lines")):
            assert vars(from_arguments(*source.arguments())) == vars(source)

    def test_they_name_their_items(self, tmp_path: Path) -> None:
        assert str(Tree("/x\x1b")) == "the files under /x\ufffd"
        assert str(Tree("/x", without=["b", "a"])) == "the files under /x (without a and b)"
        assert str(Lines(tmp_path)) == "the lines of the standard input"


class TestStandardInput:
    @pytest.fixture(autouse=True)
    def impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(inputs, "_PATIENCE_WITH_A_PIPE", 0.05)

    @pytest.fixture
    def pipe(self) -> Iterator[tuple[io.TextIOWrapper, int]]:
        reading, writing = os.pipe()
        with os.fdopen(reading) as stream:
            yield stream, writing

    def test_there_is_none(self) -> None:
        with waiting_lines(None) as lines:
            assert lines is None

    def test_it_is_empty(self, tmp_path: Path) -> None:
        (tmp_path / "empty").touch()
        for path in (Path("/dev/null"), tmp_path / "empty"):
            with path.open() as stream, waiting_lines(stream) as lines:
                assert lines is None

    def test_a_terminal(self) -> None:
        controlling, terminal = pty.openpty()
        with os.fdopen(terminal) as stream, waiting_lines(stream) as lines:
            assert lines is None
        os.close(controlling)

    def test_a_silent_pipe(self, pipe: tuple[io.TextIOWrapper, int]) -> None:
        with waiting_lines(pipe[0]) as lines:
            assert lines is None
        os.close(pipe[1])

    def test_a_pipe_that_is_closed(self, pipe: tuple[io.TextIOWrapper, int]) -> None:
        os.close(pipe[1])
        with waiting_lines(pipe[0]) as lines:
            assert lines is None

    def test_lines(self, pipe: tuple[io.TextIOWrapper, int]) -> None:
        os.write(pipe[1], b"a\n\xff")
        os.close(pipe[1])
        with waiting_lines(pipe[0]) as lines:
            assert lines
            assert lines.read_bytes() == b"a\n\xff"
        assert not lines.exists()


@pytest.mark.usefixtures("home")
class TestProcesses:
    def test_the_work(self, tree: Path) -> None:
        source = source_of(tree)
        jobs: SortedSet[str | bytes] = SortedSet(connect(), "jobs")
        assert [*demo_worker.produce(jobs, source), *demo_worker.produce(jobs, source)] == ["6", "6"]
        results = [Result.read(report) for report in demo_worker.consume(jobs, source)]
        assert sorted((one.item, one.digest) for one in results) == sorted(
            (path, source.digest(path)) for path in source.offers(random.Random())
        )
        assert {one.attempt for one in results} == {1}
        assert len({one.token for one in results}) == 6
        assert {round(one.deadline - one.began, 3) for one in results} == {demo_worker.LEASE}

    def test_reports_arrive_during_the_work(self, tmp_path: Path) -> None:
        (tmp_path / "lines").write_text("a\n" * 450)
        jobs: SortedSet[str | bytes] = SortedSet(connect(), "jobs")
        assert list(demo_worker.produce(jobs, Lines(tmp_path / "lines"))) == ["200", "200", "50"]

    def test_unreadable_files_are_reported(self, tree: Path) -> None:
        jobs: SortedSet[str | bytes] = SortedSet(connect(), "jobs")
        jobs.add(b"/no/such/file")
        (one,) = map(Result.read, demo_worker.consume(jobs, Tree(tree)))
        assert (one.item, one.digest) == (b"/no/such/file", None)

    def test_a_result_comes_before_its_ack(self, tree: Path) -> None:
        jobs: SortedSet[str | bytes] = SortedSet(connect(), "jobs")
        jobs.add("/no/such/file")
        reports = demo_worker.consume(jobs, Tree(tree))
        next(reports)
        assert jobs.stats().leased == 1
        assert list(reports) == []
        assert jobs.stats().leased == 0

    def test_the_lease_of_a_slow_item_is_extended(self, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A pipe stands for a large file: reading it blocks until data arrives."""
        jobs: SortedSet[str | bytes] = SortedSet(connect(), "jobs")
        jobs.add(str(tree / "pipe"))
        monkeypatch.setattr(demo_worker, "LEASE", 2.0)
        Timer(4.5, (tree / "pipe").write_text, ["late"]).start()
        (one,) = map(Result.read, demo_worker.consume(jobs, Tree(tree)))
        assert (one.attempt, one.digest) == (1, hashlib.blake2b(b"late").hexdigest())
        assert one.deadline - one.began > demo_worker.LEASE

    def test_a_consumer_waits_while_others_hold_leases(self, tree: Path) -> None:
        jobs: SortedSet[str | bytes] = SortedSet(connect(), "jobs")
        jobs.add("/no/such/file")
        lost = jobs.reserve(lease=0.5)
        (one,) = map(Result.read, demo_worker.consume(jobs, Tree(tree)))
        assert (one.attempt, one.token > lost.token) == (2, True)

    def test_a_lease_that_is_lost_meanwhile(self, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """An item whose lease was lost is not reported."""
        jobs: SortedSet[str | bytes] = SortedSet(connect(), "jobs")
        jobs.add("/no/such/file")
        monkeypatch.setattr(demo_worker, "LEASE", 0.3)
        source = Tree(tree)

        def slow(item: bytes) -> None:
            jobs.discard("/no/such/file")
            time.sleep(0.3)

        monkeypatch.setattr(source, "digest", slow)
        assert list(demo_worker.consume(jobs, source)) == []

    @pytest.mark.parametrize(("number", "reported", "held"), [(0, 0, 0), (1, 1, 1), (5, 3, 5), (50, 10, 20)])
    def test_the_consumer_to_be_killed_stops_in_its_first_batch(
        self, number: int, reported: int, held: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        jobs: SortedSet[str | bytes] = SortedSet(connect(), "jobs")
        for n in range(number):
            jobs.add(str(n))
        stands_still = []
        stdin = SimpleNamespace(read=lambda: stands_still.append(jobs.stats().leased))
        monkeypatch.setattr(sys, "stdin", stdin)
        assert len("\n".join(demo_worker.falter(jobs, Lines(tmp_path))).splitlines()) == reported
        assert stands_still == [held] * bool(held)

    @pytest.mark.parametrize(("told", "done"), [("go\n", "ready\n6\n"), ("", "ready\n")])
    def test_it_waits_for_the_start(
        self, told: str, done: str, tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO(told))
        demo_worker.main("produce", "jobs", *source_of(tree).arguments())
        assert capsys.readouterr().out == done

    def test_a_worker_that_fails_before_the_start(
        self, tree: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("REDSET_URL", "unix:///no/such.sock")
        with Worker("produce", "jobs", Tree(tree)) as worker:
            with pytest.raises(RedsetError, match=r"\(produce\) has failed: .*/no/such.sock"):
                worker.wait_until_ready()
            worker.go()
        assert capfd.readouterr().err == ""

    def test_a_worker_that_fails_later(self, tree: Path) -> None:
        with Worker("unknown", "jobs", Tree(tree)) as worker:
            worker.wait_until_ready()
            worker.go()
            worker._reader.join()
            with pytest.raises(RedsetError, match=r"\(unknown\) has failed: exit code 1"):
                worker.check()

    def test_a_killed_worker_has_not_failed(self, tree: Path) -> None:
        with Worker("consume", "jobs", Tree(tree)) as worker:
            worker.wait_until_ready()
            worker.kill()
            worker.check()
            assert not worker.is_busy()
