"""The life of a call, simulated: what becomes of items when anything goes wrong. See simulator/__init__.py.

``REDSET_TEST_MORE=2`` tries every scenario with two faults more, and so many times as many random runs.
"""

import logging
import os
import random
from collections.abc import Iterator
from typing import Any

import pytest
from redis.exceptions import NoScriptError, ResponseError

import redset
from redset.core.calls import NEXT
from redset.core.endings import End
from redset.core.sending import words_of
from redset.reservations import Reservation
from simulator.bugs import IN_TASKS, IN_THREADS, Plant
from simulator.choices import Choices, every_run
from simulator.scenarios import SCENARIOS, random_scenario
from simulator.server_model import SCRIPTS, ModelServer
from simulator.tasks import LONG, TASKS, TaskRun, Tasks, random_tasks, simulated_tasks
from simulator.threads import OUTCOMES, Client, Run, Scenario, simulated

pytestmark = pytest.mark.no_cover

MORE = int(os.environ.get("REDSET_TEST_MORE", "0"))

#: What a fault is found by: a promise that is broken, or the core that stumbles.
FOUND = (AssertionError, AttributeError, ResponseError)

#: How many random runs are made, in so many tests.
RUNS = 40 * (1 + 20 * MORE)
TESTS = 4

#: Scenarios with so many runs that only `make soak` tries them.
LARGE = {
    *("two consumers in an outage", "the same ack, and more"),
    *("acks that fail", "the same ack in a group", "pops of two", "pops that fail and are cancelled", "consumers"),
}


def each(scenarios: dict[str, Any]) -> list[Any]:
    return [pytest.param(name, marks=[pytest.mark.soak] if name in LARGE else []) for name in scenarios]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def run_all(scenario: Scenario) -> None:
    for _ in every_run(lambda choices: Run(scenario, choices).run()):
        pass


@pytest.mark.timeout(180 + 3600 * MORE)
@pytest.mark.parametrize("name", each(SCENARIOS))
def test_nothing_is_lost_or_received_twice_whatever_goes_wrong(name: str) -> None:
    scenario = SCENARIOS[name]
    scenario.faults += MORE
    with simulated():
        run_all(scenario)


@pytest.mark.timeout(180 + 3600 * MORE)
@pytest.mark.parametrize("part", range(TESTS))
def test_nothing_is_lost_or_received_twice_in_long_runs(part: int) -> None:
    with simulated():
        for seed in range(part, RUNS, TESTS):
            rng = random.Random(seed)
            Run(random_scenario(rng), Choices(rng=rng)).run()


def run_tasks(scenario: Tasks) -> None:
    for _ in every_run(lambda choices: TaskRun(scenario, choices).run()):
        pass


@pytest.mark.timeout(180 + 3600 * MORE)
@pytest.mark.parametrize("name", each(TASKS))
def test_nothing_is_lost_whenever_tasks_are_cancelled(name: str) -> None:
    scenario = TASKS[name]
    scenario.cancels += MORE
    with simulated_tasks():
        run_tasks(scenario)


@pytest.mark.timeout(180 + 3600 * MORE)
@pytest.mark.parametrize("part", range(TESTS))
def test_nothing_is_lost_in_long_runs_of_tasks(part: int) -> None:
    with simulated_tasks():
        for seed in range(part, 5 * RUNS, TESTS):
            run_random_tasks(seed)


def run_random_tasks(seed: int) -> None:
    rng = random.Random(seed)
    TaskRun(random_tasks(rng), Choices(rng=rng)).run()


def test_every_transition_of_a_call_is_taken() -> None:
    """No other is: the calls check that themselves."""
    with simulated() as taken:
        for name in ("take",):
            run_all(SCENARIOS[name])

    assert taken == {(state, following) for state, all_following in NEXT.items() for following in all_following}


def test_an_end_that_is_asked_for_again_begins_no_call_whose_reply_is_known() -> None:
    """Of its two calls the second is lost: one session made all others, one waits with the call that was sent twice."""
    lost = 1 + [*OUTCOMES].index("is lost")
    with simulated():
        run = Run(SCENARIOS["ack many"], Choices([0, lost]))
        run.run()

    assert run.worlds[0].sessions == 2


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("plant", IN_THREADS, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_found(plant: Plant) -> None:
    with simulated(), plant(), pytest.raises(FOUND):
        for name in IN_THREADS[plant]:
            run_all(SCENARIOS[name])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("plant", IN_TASKS, ids=lambda plant: plant.__name__)
def test_a_planted_fault_of_coalescing_is_found(plant: Plant) -> None:
    with simulated_tasks(), plant(), pytest.raises(FOUND):
        for name in IN_TASKS[plant]:
            run_tasks((TASKS | LONG)[name])


# The model and a real server.


class Both:
    """Sends the same requests to the model and to a server, and compares what their replies mean."""

    def __init__(self, raw: Any, clock: Any, rng: random.Random) -> None:
        self._rng = rng
        self._raw = raw
        self._clock = clock
        self._model = ModelServer()
        self._set = redset.SortedSet(
            Client(), "jobs", scorer=lambda item: 1.0, backoff=lambda attempts: 0.0, max_attempts=3
        )
        #: Deliveries of the model and of the server, of the same leases; and the last number of each session.
        self._leases: list[tuple[bytes, bytes, bytes]] = []
        self._numbers = [0, 0, 0]
        self._sent: list[Any] = []

    def step(self) -> None:
        does = self._rng.choice(
            [self._add, self._claim, self._claim, self._end, self._roll_back, self._repeat, self._age]
        )
        does()

    def _send(self, operation: Any, session: int | None = None) -> None:
        """Send an operation under the next number of a session, as if its last call was received, or not."""
        if session is None:
            session = self._rng.randrange(len(self._numbers))
        seen = self._numbers[session] - self._rng.randrange(2)
        self._numbers[session] += 1
        key = b"{jobs}:call:%d" % session
        numbers = f"{self._numbers[session]:016d}", f"{max(seen, 0):016d}"
        self._send_words(operation, key, numbers)

    def _send_words(self, operation: Any, key: bytes, numbers: Any) -> None:
        words = words_of(operation, (key,), numbers)
        self._sent.append((operation, key, numbers))
        ours = self._execute(self._model.execute, words)
        theirs = self._execute(lambda words: self._raw.execute_command(*words), self._theirs(words))
        if isinstance(ours, list) and isinstance(theirs, list):
            self._compare_claims(ours, theirs)
        else:
            assert self._without_times(ours) == self._without_times(theirs), words

    def _execute(self, execute: Any, words: Any) -> Any:
        try:
            return execute(words)
        except NoScriptError:
            body = next(script.body for script in SCRIPTS.values() if script.sha == words[1])
            return execute(("EVAL", body, *words[2:]))
        except ResponseError as error:
            return str(error).split()[0]

    def _theirs(self, words: Any) -> Any:
        """The same words with the server's deliveries."""
        of_server = {ours: theirs for _, ours, theirs in self._leases}
        return [of_server.get(word, word) if isinstance(word, bytes) else word for word in words]

    def _compare_claims(self, ours: list[bytes], theirs: list[bytes]) -> None:
        if theirs[-1] in (b"register", b"differs"):
            theirs.pop()
        *our_rows, our_head = ours
        *their_rows, their_head = theirs
        assert our_rows[::2] == their_rows[::2]
        for item, our_cell, their_cell in zip(our_rows[::2], our_rows[1::2], their_rows[1::2], strict=True):
            # Tokens differ; attempts and scores do not.
            assert without_token(our_cell) == without_token(their_cell), item
            if len(our_cell.split()) == 3:
                self._leases.append((item, our_cell, their_cell))
        assert self._without_times(our_head) == self._without_times(their_head)

    def _without_times(self, reply: Any) -> Any:
        if not isinstance(reply, bytes):
            return self._without_times(reply[-1]) if isinstance(reply, list) else reply
        return [word for word in reply.split() if b"." not in word]

    # What is sent.

    def _add(self) -> None:
        self._send(self._set._adding.add(f"i{self._rng.randrange(8)}", float(self._rng.randrange(4))))

    def _claim(self) -> None:
        acks = [self._some_lease() for _ in range(self._rng.randrange(3))] if self._leases else []
        reservations = [self._reservation(*lease) for lease in dict.fromkeys(acks)]
        lease = self._rng.choice((0.0, 60.0, 60.0, 600.0))
        claim = self._set._claims.claim(
            self._rng.choice((1, 2, 5)), lease, reservations, follows=self._rng.random() < 0.2
        )
        self._send(claim)

    def _some_lease(self) -> tuple[bytes, bytes, bytes]:
        return self._leases[-1 - self._rng.randrange(min(5, len(self._leases)))]

    def _reservation(self, item: bytes, ours: bytes, _: bytes) -> Any:
        own = self._set
        return Reservation(own._driver, own._endings, item.decode(), item, ours, 0.0, 60.0, 0.0)

    def _end(self) -> None:
        if not self._leases:
            return
        verb = self._rng.choice(("ack", "nack", "again", "extend", "bury"))
        seconds = {"nack": self._rng.choice((0.0, 30.0)), "again": self._rng.choice((0.0, 30.0)), "extend": 90.0}
        ends = [
            End(verb, item, ours, seconds.get(verb, 0.0), "5.0" if verb == "again" and seconds[verb] else "")
            for item, ours, _ in (self._some_lease() for _ in range(self._rng.randrange(1, 4)))
        ]
        self._send(self._set._endings.ends(ends))

    def _roll_back(self) -> None:
        session = self._rng.randrange(len(self._numbers))
        record = self._model.records.get(b"{jobs}:call:%d" % session)
        positions = [len(record.rows) - 1] if record and record.rows and self._rng.random() < 0.5 else None
        self._send(self._set._claims.roll_back(positions), session)

    def _repeat(self) -> None:
        """An earlier request arrives again: the last one of its session is answered as before, others are late."""
        if self._sent:
            operation, key, numbers = self._sent[-1 - self._rng.randrange(min(4, len(self._sent)))]
            self._send_words(operation, key, numbers)

    def _age(self) -> None:
        if self._rng.random() < 0.4:
            seconds = self._rng.choice((10.0, 40.0, 100.0))
            self._model.now += seconds
            self._clock.advance(seconds)

    def compare_states(self) -> None:
        here = self._model.sets[b"jobs"]
        raw = self._raw
        assert {item: float(score) for item, score in here.waiting.items()} == dict(
            raw.zrange("jobs", 0, -1, withscores=True)
        )
        assert {*here.leased} == {*raw.zrange("{jobs}:leased", 0, -1)}
        assert {item: float(score) for item, score in here.parked.items()} == dict(
            raw.zrange("{jobs}:parked", 0, -1, withscores=True)
        )
        assert {*here.dead} == {*raw.zrange("{jobs}:dead", 0, -1)}
        assert {item: without_token(bytes(known)) for item, known in here.deliveries.items()} == {
            item: without_token(known) for item, known in raw.hgetall("{jobs}:deliveries").items()
        }


def without_token(cell: bytes) -> list[float]:
    """The numbers of a delivery but its token, or the score of an item that was taken. None of a lease that ended."""
    if not cell:
        return []
    *numbers, score = cell.split()
    return [*map(float, numbers[1:]), float(score)]


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("seed", range(6 * (1 + 10 * MORE)))
def test_the_model_is_like_a_server(raw: Any, clock: Any, seed: int) -> None:
    """The same requests have the same replies and the same states, apart from tokens and times."""
    both = Both(raw, clock, random.Random(seed))
    both._add()
    for _ in range(150):
        both.step()
        both.compare_states()
