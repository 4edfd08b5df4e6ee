"""Run the recipes as their users do, in processes of their own, and stop and kill these at work."""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, time
from pathlib import Path
from time import sleep
from types import SimpleNamespace
from typing import Any, Self
from zoneinfo import ZoneInfo

import httpx
import pytest

import redset
from own_home import until
from redset.testing import temporary_directory
from servers import Server, free_port, is_alive

pytestmark = [pytest.mark.no_cover, pytest.mark.soak]

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "examples" / "recipes"
SHOP = RECIPES / "django_shop"
PASSWORD = "the password"


class Program:
    """A Python in a process group of its own, whose output goes to a file."""

    def __init__(self, *arguments: str, log: Path, **options: Any) -> None:
        self._log = log
        with log.open("w") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", *arguments],
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                **options,
            )
        self.pid = self._process.pid

    @property
    def output(self) -> str:
        return self._log.read_text()

    def ends(self, code: int = 0) -> str:
        """Wait for its end, and return its output."""
        assert self._process.wait(60) == code, self.output
        return self.output

    def ends_after(self, number: int, code: int = 0) -> str:
        """Send a signal to the process alone, wait for its end, and return its output."""
        assert self._process.poll() is None, self.output
        self._process.send_signal(number)
        return self.ends(code)

    def kill(self) -> None:
        """Kill it with all that it started, if it still runs."""
        if self._process.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()


class Programs:
    """Programs that find the recipes and the server, and end with the test."""

    def __init__(self, url: str, home: Path) -> None:
        self.home = home
        self.environment = {
            "REDSET_URL": url,
            "CELERY_BROKER_URL": url,
            "REDSET_WEB_PASSWORD": PASSWORD,
            "SHOP_DATABASE": str(home / "shop.sqlite3"),
            "DJANGO_SETTINGS_MODULE": "shop.settings",
            "PYTHONPATH": os.pathsep.join(map(str, [home, RECIPES, SHOP, ROOT / "src"])),
        }
        self.started: list[Program] = []

    def start(self, *arguments: str, **options: Any) -> Program:
        log = self.home / f"{len(self.started)}.log"
        program = Program(*arguments, log=log, cwd=self.home, env=os.environ | self.environment, **options)
        self.started.append(program)
        return program

    def run(self, *arguments: str) -> str:
        """Run a program to its end, and return its output."""
        return self.start(*arguments).ends()

    def module(self, name: str, source: str) -> None:
        """Write a module that changes a recipe: the work that it stands for, or its times."""
        (self.home / f"{name}.py").write_text(source)


@pytest.fixture(scope="module")
def tcp() -> Iterator[Server]:
    with Server(port=free_port()) as server:
        yield server


@pytest.fixture
def client(tcp: Server) -> Iterator[Any]:
    tcp.empty()
    with redset.connect(tcp.url) as client:
        yield client


@pytest.fixture
def programs(tcp: Server, client: Any, tmp_path: Path) -> Iterator[Programs]:
    programs = Programs(f"redis://127.0.0.1:{tcp.port}", tmp_path)
    yield programs
    for program in programs.started:
        program.kill()


class Site:
    """An application that uvicorn serves on a socket."""

    def __init__(self, programs: Programs, app: str) -> None:
        path = str(temporary_directory() / "http")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path)
            listening.listen(100)
            handle = listening.fileno()
            self.program = programs.start(
                *("-m", "uvicorn", "--fd", str(handle), "--log-level", "warning", app), pass_fds=[handle]
            )
        transport = httpx.HTTPTransport(uds=path)
        self.client = httpx.Client(transport=transport, base_url="http://localhost", timeout=60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.program.kill()

    def ends_well(self) -> str:
        """End it by a SIGTERM, and return its output. uvicorn ends by the signal that it received."""
        return self.program.ends_after(signal.SIGTERM, -signal.SIGTERM)

    def get(self, path: str, code: int = 200, **options: Any) -> httpx.Response:
        response = self.client.get(path, **options)
        assert response.status_code == code, response.text
        return response

    def post(self, path: str, **form: str) -> Any:
        response = self.client.post(path, data=form)
        assert response.status_code == 202, response.text
        return response.json()


def number_of(items: Any, state: str) -> int:
    return int(getattr(items.stats(), state))


def test_each_recipe_is_on_a_page() -> None:
    pages = "".join(page.read_text() for page in (ROOT / "docs" / "howto").glob("*.md"))
    recipes = [path for path in RECIPES.iterdir() if path.name != "__pycache__"]

    assert len(recipes) > 5
    assert [path.name for path in recipes if f"`examples/recipes/{path.name}`" not in pages] == []


# FastAPI


def reports_of(client: Any) -> "redset.SortedSet[str]":
    return redset.SortedSet(client, "recipe-reports", remember=3600, max_attempts=5)


SLOW_REPORTS = """
import asyncio
import fastapi_reports
from fastapi_reports import app

async def make_report(number):
    if number == "13":
        raise ValueError("no such report")
    await asyncio.sleep(1000)

fastapi_reports.make_report = make_report
fastapi_reports.GRACE = 0.1
fastapi_reports.LEASE = 2
"""


def test_fastapi_makes_each_report_once_across_a_restart(client: Any, programs: Programs) -> None:
    reports = reports_of(client)
    reports.pause()
    with Site(programs, "fastapi_reports:app") as site:
        for number in range(10):
            assert site.post(f"/reports/{number}") == {"added": True, "state": "waiting"}
            assert site.post(f"/reports/{number}") == {"added": False, "state": "waiting"}
        assert site.get("/reports/1").json() == {"state": "waiting", "report": None}
        site.get("/reports/10", 404)
        site.get("/redset/", 401)
        assert "recipe-reports" in site.get("/redset/", auth=("me", PASSWORD)).text
        site.get("/health")
        reports.resume()
        until(lambda: number_of(reports, "done") > 1)
        assert site.ends_well() == ""
    # The report under way was finished, and the others wait for the next process.
    assert number_of(reports, "leased") == 0
    assert 0 < number_of(reports, "waiting") < 9
    with Site(programs, "fastapi_reports:app") as site:
        until(lambda: number_of(reports, "done") == 10)
        assert site.get("/reports/9").json() == {"state": "done", "report": "report 9"}
        assert site.post("/reports/9") == {"added": False, "state": "done"}
    totals = reports.totals()
    assert (totals.acked, totals.given_back, totals.nacked, totals.expired) == (10, 0, 0, 0)


def test_fastapi_says_that_its_consumer_has_ended(client: Any, programs: Programs) -> None:
    client.set("recipe-reports", "of another program")
    with Site(programs, "fastapi_reports:app") as site:
        until(lambda: site.client.get("/health").status_code == 503)
        assert "the consumer has ended" in site.ends_well()


def test_fastapi_does_not_begin_without_a_server(programs: Programs) -> None:
    programs.environment["REDSET_URL"] = f"redis://127.0.0.1:{free_port()}"
    with Site(programs, "fastapi_reports:app") as site:
        assert "Application startup failed" in site.program.ends(code=3)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_fastapi_hands_back_a_report_that_takes_too_long(client: Any, programs: Programs, number: int) -> None:
    programs.module("slow_reports", SLOW_REPORTS)
    reports = reports_of(client)
    with Site(programs, "slow_reports:app") as site:
        site.post("/reports/13")
        until(lambda: reports.totals().nacked == 1)
        site.get("/health")
        assert reports.discard("13")
        site.post("/reports/1")
        until(lambda: number_of(reports, "leased") == 1)
        (lease,) = reports.leases()
        until(lambda: reports.leases()[0].deadline > lease.deadline)
        if number == signal.SIGTERM:
            assert site.ends_well().count("Traceback") == 1, "that of report 13"
            assert number_of(reports, "waiting") == 1
        else:
            site.program.kill()
    reservation = reports.reserve(wait=60)
    # Only a killed process has used up an attempt.
    assert reservation.attempt == (1 if number == signal.SIGTERM else 2)


# Django


PLACE_ORDERS = """
import sys
import django
django.setup()
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.core.management import call_command
from django.db import transaction
from shop.jobs import invoices, place
from shop.models import Order

call_command("makemigrations", check=True, dry_run=True, verbosity=0)
call_command("migrate", verbosity=0)
try:
    with transaction.atomic():
        place("rolled back")
        raise ValueError
except ValueError:
    pass
assert len(invoices()) == 0

with transaction.atomic():
    for number in range(150):
        place(f"committed {number}")
    assert len(invoices()) == 0
assert len(invoices()) == 150

# A process that dies after its commit and before the addition leaves behind this.
Order.objects.bulk_create(Order(text=f"died {number}") for number in range(51))
assert len(invoices()) == 150

for superuser in (True, False):
    user = User.objects.create(username=str(superuser), is_staff=True, is_superuser=superuser)
    session = SessionStore()
    session.update({"_auth_user_id": str(user.pk), "_auth_user_backend": "django.contrib.auth.backends.ModelBackend",
        "_auth_user_hash": user.get_session_auth_hash()})
    session.save()
    print(session.session_key)
"""

PLACE_WITHOUT_A_SERVER = """
import django
django.setup()
from shop.jobs import place
place("the server of the set cannot be reached")
"""

COUNT_INVOICES = """
import django
django.setup()
from shop.models import Invoice, Order
print(Invoice.objects.count(), Order.objects.filter(invoice=None).count())
"""


def test_django_makes_an_invoice_of_each_committed_order(client: Any, programs: Programs) -> None:
    manage = str(SHOP / "manage.py")
    invoices: redset.SortedSet[int] = redset.SortedSet(
        client, "recipe-invoices", serializer=json, remember=3600, max_attempts=5
    )
    superuser, staff = programs.run("-c", PLACE_ORDERS).split()
    programs.environment["REDSET_URL"], url = f"redis://127.0.0.1:{free_port()}", programs.environment["REDSET_URL"]
    programs.run("-c", PLACE_WITHOUT_A_SERVER)
    programs.environment["REDSET_URL"] = url
    with Site(programs, "shop.asgi:application") as site:
        number = site.post("/orders/", text="by a browser")["order"]
        assert site.get(f"/orders/{number}/").json() == {"state": "waiting", "invoice": None}

        worker = programs.start(manage, "work", "--sweep", "1000")
        until(lambda: invoices.totals().acked > 10)
        worker.ends_after(signal.SIGTERM)
        assert number_of(invoices, "leased") == 0
        assert number_of(invoices, "waiting") > 0

        worker = programs.start(manage, "work", "--sweep", "0.5")
        until(lambda: invoices.totals().acked >= 203)
        assert programs.run("-c", COUNT_INVOICES) == "203 0\n"
        # A worker that dies between the invoice and the ack leaves behind this.
        invoices.add(number, force=True)
        until(lambda: not invoices.stats().unfinished)
        worker.ends_after(signal.SIGINT)
        assert site.get(f"/orders/{number}/").json() == {"state": "done", "invoice": "For by a browser"}
        assert invoices.totals().nacked == 0

        site.get("/redset/", 403)
        assert "Pause" not in site.get("/redset/sets/recipe-invoices/", headers={"cookie": f"sessionid={staff}"}).text
        assert "Pause" in site.get("/redset/sets/recipe-invoices/", headers={"cookie": f"sessionid={superuser}"}).text
        site.ends_well()  # Django complains of the refused request.


# Celery and RQ

SLOW_PAGES = """
import os
import time
import {module} as recipe
from {module} import *

def title_of(page):
    recipe.client.hincrby("runs", page)
    if page == "page 7" and recipe.client.set("killer", os.getpid(), nx=True):
        time.sleep(60)
    if page == "page 8" and recipe.client.set("failed", 1, nx=True):
        raise OSError("503 Service Unavailable")
    return f"The title of {{page}}"

recipe.title_of = title_of
recipe.LEASE = 3

def work_for_rq():
    from rq import Queue, Worker
    Worker([Queue("recipe-rq-pages", connection=recipe.client)], connection=recipe.client).work()

if __name__ == "__main__":
    recipe.main()
"""

#: The arguments of a worker, and a program that sends two tasks of one lease.
QUEUES = {
    "celery_pages": (
        ["-m", "celery", "--app", "slow_pages", "worker", "--concurrency", "1", "--without-mingle"],
        """
from celery_pages import pages, work
receipt = pages.reserve().receipt
work.delay(receipt)
work.delay(receipt)
""",
    ),
    "rq_pages": (
        ["-c", "import slow_pages; slow_pages.work_for_rq()"],
        """
from rq import Queue
from rq_pages import client, pages
receipt = pages.reserve().receipt
for _ in range(2):
    Queue("recipe-rq-pages", connection=client).enqueue("rq_pages.work", receipt)
""",
    ),
}


@pytest.mark.parametrize("module", QUEUES)
def test_a_task_queue_does_each_page_once_and_that_of_a_killed_worker_again(
    client: Any, programs: Programs, module: str
) -> None:
    worker_command, send_two = QUEUES[module]
    programs.module("slow_pages", SLOW_PAGES.format(module=module))
    recipe = str(RECIPES / f"{module}.py")
    urls = [f"page {number}" for number in range(30)]
    assert programs.run(recipe, "add", *urls, *urls) == "30\n"
    name = f"recipe-{module.replace('_', '-')}"
    pages: redset.SortedSet[str] = redset.SortedSet(client, name, remember=3600, max_attempts=5)
    assert pages.update(urls) == 0

    # Two tasks of one lease: the second one comes too late.
    programs.run("-c", send_two)
    feeder = programs.start("slow_pages.py", "feed")
    # These two and 18 others are in the queue. No more are sent before a worker takes one.
    until(lambda: number_of(pages, "leased") == 19)
    sleep(0.3)
    assert (number_of(pages, "leased"), pages.totals().leased) == (19, 19)
    worker = programs.start(*worker_command)
    until(lambda: client.exists("killer") == 1)
    worker.kill()
    with suppress(ProcessLookupError):
        os.kill(int(client.get("killer")), signal.SIGKILL)  # That of RQ has a process group of its own.
    programs.start(*worker_command)
    until(lambda: number_of(pages, "done") == 30)
    assert feeder.ends_after(signal.SIGTERM) == ""

    assert len(client.hgetall(name.replace("pages", "titles"))) == 30
    runs = {page.decode(): int(count) for page, count in client.hgetall("runs").items()}
    assert runs == dict.fromkeys(urls, 1) | {"page 7": 2, "page 8": 2}


# A table by chunks

MAKE_TABLE = """
import polars as pl
rows = 1000 * 60 - 1
pl.DataFrame({"shop": [n % 3 for n in range(rows)], "cents": range(rows)}).write_parquet("sales.parquet")
"""

SLOW_CHUNKS = """
import os
import sys
import time
import chunks
import polars as pl

def write_parquet(frame, file, write=pl.DataFrame.write_parquet):
    file.write(b"half of a file")
    file.flush()
    time.sleep(0.05)
    file.seek(0)
    write(frame, file)

pl.DataFrame.write_parquet = write_parquet

def summary(rows, summary=chunks.summary):
    if rows["cents"][0] == 1500 and not os.path.exists("failed"):
        open("failed", "w").close()
        raise OSError("no such shop")
    with open("runs", "a") as runs:
        print(rows["cents"][0], file=runs, flush=True)
    return summary(rows)

chunks.summary = summary
chunks.ROWS = 1000
chunks.LEASE = 2
sys.exit(chunks.main())
"""

ADD_UP = """
import polars as pl
result = pl.scan_parquet("results/*.parquet").select(pl.col("cents").sum(), pl.col("sales").sum()).collect()
print(*result.row(0))
"""


def test_chunks_are_done_once_and_go_on_after_kills(client: Any, programs: Programs) -> None:
    command = ("slow_chunks.py", "sales", "sales.parquet", "results")
    programs.module("slow_chunks", SLOW_CHUNKS)
    programs.run("-c", MAKE_TABLE)
    results = programs.home / "results"
    killed = [programs.start(*command) for _ in range(3)]
    until(lambda: len(list(results.glob("*-*.parquet"))) > 10)
    stopped = killed.pop()
    for program in killed:
        program.kill()
    assert "chunks," in stopped.ends_after(signal.SIGINT, code=1)
    assert number_of(redset.open_set(client, "recipe-chunks:sales"), "leased") <= len(killed)
    contents = [path.read_bytes() for path in results.glob("*-*.parquet")]
    assert len(contents) < 60
    assert all(content.startswith(b"PAR1") and content.endswith(b"PAR1") for content in contents), "files are complete"

    for program in [programs.start(*command) for _ in range(2)]:
        assert program.ends() == "60 chunks, 0 without a result\n"
    rows = 1000 * 60 - 1
    assert programs.run("-c", ADD_UP) == f"{rows * (rows - 1) // 2} {rows}\n"
    runs = Counter((programs.home / "runs").read_text().split())
    assert set(runs) == {str(start) for start in range(0, rows, 1000)}
    assert runs.total() <= 60 + len(killed), "only the chunks of killed programs are done again"

    assert programs.run(*command) == "60 chunks, 0 without a result\n"
    assert (programs.home / "runs").read_text().count("\n") == runs.total()


# Cron

SHORT_LEASES = """
import cron
cron.LEASE = 2
cron.main()
"""

TABLE = """
[tick]
every = 0.5
command = "sh -c 'mkdir running && date +%s.%N >> ticks && rmdir running || echo overlap >> ticks'"

[long]
every = 3600
command = "sh -c 'echo $PPID >> long; sleep 1.5; echo done >> long'"

[daily]
at = HOUR:00:00
zone = "Europe/Berlin"
command = "sh -c 'echo daily >> daily; exit 3'"

[endless]
at = HOUR:00:00
command = "sh -c 'echo $$ > endless; exec sleep 60'"

[nonsense]
every = 3600
command = "/does/not/exist"
"""


def test_cron_runs_each_job_on_one_host_and_that_of_a_dead_one_again(client: Any, programs: Programs) -> None:
    def lines(name: str) -> list[str]:
        path = programs.home / name
        return path.read_text().splitlines() if path.exists() else []

    programs.module("host", SHORT_LEASES)
    hour = (datetime.now(ZoneInfo("Europe/Berlin")).hour + 12) % 24
    (programs.home / "jobs.toml").write_text(TABLE.replace("HOUR", f"{hour:02}"))
    jobs: redset.PeriodicSet[str] = redset.PeriodicSet(client, "recipe-cron", interval=24 * 3600, max_attempts=3)
    hosts = {program.pid: program for program in [programs.start("host.py", "jobs.toml") for _ in range(3)]}
    until(lambda: len(lines("long")) == 1)
    hosts.pop(int(lines("long")[0])).kill()
    until(lambda: len(lines("long")) == 4, timeout=30)
    until(lambda: len(lines("ticks")) > 8)

    until(lambda: "daily" in jobs)
    jobs.trigger("daily")
    until(lambda: len(lines("daily")) == 1 and jobs.next_due("daily") is not None)
    jobs.add("in a newer table")
    until(lambda: jobs.state("in a newer table") == "delayed")

    jobs.trigger("endless")
    until(lambda: len(lines("endless")) == 1)
    jobs.discard("endless")
    until(lambda: not is_alive(int(lines("endless")[0])))
    # Its command is running while the hosts are asked to end.
    jobs.trigger("long")
    until(lambda: len(lines("long")) == 5)
    for host in hosts.values():
        host.ends_after(signal.SIGTERM)
    assert lines("long")[-1] == "done"
    assert number_of(jobs, "leased") == 0
    assert jobs.totals().buried == 0

    ticks = [float(tick) for tick in lines("ticks")]
    assert len(ticks) <= (ticks[-1] - ticks[0]) / 0.5 + 2, "each tick is run once"
    assert lines("daily") == ["daily"]
    due = datetime.fromtimestamp(jobs.next_due("daily") or 0, ZoneInfo("Europe/Berlin"))
    assert (due.hour, due.minute) == (hour, 0)
    output = "".join(program.output for program in programs.started)
    assert "daily: exit code 3" in output
    assert "No such file or directory: '/does/not/exist'" in output


@pytest.mark.parametrize(
    ("at", "after", "next"),
    [
        ("03:00", "2026-01-01 01:59 UTC", "2026-01-01 02:00 UTC"),
        ("03:00", "2026-01-01 02:00 UTC", "2026-01-02 02:00 UTC"),
        ("03:00", "2026-01-01 23:30 UTC", "2026-01-02 02:00 UTC"),
        # The clocks go forward: that day has 23 hours, and no 02:30.
        ("03:00", "2026-03-28 02:00 UTC", "2026-03-29 01:00 UTC"),
        ("02:30", "2026-03-28 01:30 UTC", "2026-03-29 01:30 UTC"),
        ("02:30", "2026-03-29 01:30 UTC", "2026-03-30 00:30 UTC"),
        # They go back: that day has 25 hours, and 02:30 twice, of which the first counts.
        ("02:30", "2026-10-24 00:30 UTC", "2026-10-25 00:30 UTC"),
        ("02:30", "2026-10-25 00:30 UTC", "2026-10-26 01:30 UTC"),
        ("02:30", "2026-10-25 01:10 UTC", "2026-10-26 01:30 UTC"),
    ],
)
def test_cron_plans_an_hour_of_each_day(at: str, after: str, next: str) -> None:
    cron = cron_module()
    job = cron.Job(command="", at=time.fromisoformat(at), zone="Europe/Berlin")

    assert job.next(moment(after)) == moment(next)


def moment(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%d %H:%M UTC").replace(tzinfo=UTC)


def test_cron_plans_no_second_run_on_a_host_whose_clock_is_behind() -> None:
    cron = cron_module()
    planned = moment("2126-01-01 02:00 UTC")
    last = cron.last_moment(SimpleNamespace(score=planned.timestamp()))

    assert cron.Job(command="", at=time(3), zone="Europe/Berlin").next(last) == moment("2126-01-02 02:00 UTC")


def cron_module() -> Any:
    spec = importlib.util.spec_from_file_location("cron", RECIPES / "cron.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cron", module)  # Its dataclass looks for its module there.
        spec.loader.exec_module(module)
    return module
