"""A cron for many hosts: the same program and the same table on each, and each run on one of them.

    REDSET_URL=redis://server python cron.py jobs.toml

    # jobs.toml
    [vacuum]
    every = 3600  # seconds
    command = "psql -c VACUUM"

    [report]
    at = 03:00:00  # each day
    zone = "Europe/Berlin"
    command = "make-report"

Guarantee: each run is started by one host, and by a second one only if the first dies or loses its connection before
the run has ended: at least once. So a command must be harmless when it is repeated. A job does not overlap with itself,
with one exception: the command of a killed or stopped cron.py may go on while another host runs it again. After an
outage, each job runs once, however many of its runs were missed.
"""

import logging
import os
import shlex
import signal
import subprocess
import sys
import threading
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import redset

LEASE = 30  # seconds after which another host runs the job of a dead one
SLOTS = 4  # commands that run at a time on this host
DAY = 24 * 3600
log = logging.getLogger("cron")


# table
@dataclass(frozen=True)
class Job:
    command: str
    every: float = DAY  # seconds
    at: time | None = None  # each day, in ``zone``
    zone: str = "UTC"

    def next(self, after: datetime) -> datetime:
        """Return the first moment after another one that has the hour of this job; that one itself if it has none."""
        if self.at is None:
            return after
        zone = ZoneInfo(self.zone)
        day = after.astimezone(zone).date()
        # Days are added to the date: the day on which the clocks change has 23 or 25 hours.
        moments = (datetime.combine(day + timedelta(days=n), self.at, zone).astimezone(UTC) for n in range(3))
        return next(moment for moment in moments if moment > after)


def table_in(path: Path) -> dict[str, Job]:
    return {name: Job(**columns) for name, columns in tomllib.loads(path.read_text()).items()}


# set
def jobs_to_run() -> redset.PeriodicSet[str]:
    # A job whose host died three times in a row becomes a dead letter.
    return redset.PeriodicSet(redset.connect(socket_timeout=5), "recipe-cron", interval=DAY, max_attempts=3)


def work(table: dict[str, Job], stop: threading.Event) -> None:
    """Run due jobs, one at a time, until ``stop`` is set."""
    jobs = jobs_to_run()
    try:
        for reservation in jobs.consume(lease=LEASE, stop=stop):
            job = table.get(reservation.item)
            try:
                if job is None:
                    reservation.again(delay=60)  # It is in the newer table of another host.
                    continue
                with reservation.keep_alive():
                    run(reservation, job)
                if job.at is not None:
                    jobs.reschedule(reservation.item, job.next(last_moment(reservation)))
                reservation.ack()
            except (redset.LeaseLost, KeyError):
                log.warning("%s: the lease was lost: another host runs the job, or it was discarded", reservation.item)
    finally:
        stop.set()  # If one slot fails, the process ends, and its supervisor restarts it.


def last_moment(reservation: redset.Reservation[str]) -> datetime:
    """Return the planned time of a run, or now if that is later: the clock of this host may be behind the server's."""
    return max(datetime.fromtimestamp(reservation.score, UTC), datetime.now(UTC))


def run(reservation: redset.Reservation[str], job: Job) -> None:
    """Run a command to its end. Stop it if its lease is lost, since another host runs it then."""
    log.info("%s: attempt %d", reservation.item, reservation.attempt)
    try:
        # In a session of its own, so that a Ctrl-C does not reach it.
        with subprocess.Popen(shlex.split(job.command), start_new_session=True) as command:
            while command.poll() is None:
                if reservation.lost:
                    os.killpg(command.pid, signal.SIGTERM)
                with suppress(subprocess.TimeoutExpired):
                    command.wait(0.2)
    except OSError as error:
        log.error("%s: %s", reservation.item, error)  # noqa: TRY400 - a traceback says no more
    else:
        # As in cron, the next run is the retry.
        level = logging.ERROR if command.returncode else logging.INFO
        log.log(level, "%s: exit code %d", reservation.item, command.returncode)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    table = table_in(Path(sys.argv[1]))
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())

    # A job that is there keeps its next run. A changed interval holds from that run on.
    now = datetime.now(UTC)
    jobs_to_run().update(table, interval=lambda name: table[name].every, first=lambda name: table[name].next(now))
    slots = [threading.Thread(target=work, args=(table, stop)) for _ in range(SLOTS)]
    for slot in slots:
        slot.start()
    for slot in slots:
        slot.join()


if __name__ == "__main__":
    main()
