"""The scenarios that are run with every choice, and random ones for long runs."""

import random
from dataclasses import replace

from simulator.threads import (
    Scenario,
    Step,
    add,
    consume,
    end,
    pop,
    reserve,
    reserve_many,
    settle,
    take,
    update,
)

XY = (add("x"), add("y"))
XYZ = (*XY, add("z"))
HELD = (add("x"), reserve())
LIMITED = (("max_attempts", 1),)

#: Every kind of call, alone.
KINDS = [
    Scenario("add", [[add("x"), pop()]]),
    Scenario("update", [[update("x", "y", "z"), take(3)]]),
    Scenario("pop", [[pop(), pop()]], before=XY),
    Scenario("take", [[take(3)]], before=XYZ),
    Scenario("a pop and an add", [[pop(), add("z")]], before=XY),
    Scenario("reserve", [[reserve(), end("ack", 0)]], before=XY),
    Scenario("reserve many", [[reserve_many(3)]], before=XYZ),
    Scenario("ack", [[end("ack", 0), end("ack", 0)]], before=HELD),
    Scenario("ack many", [[end("ack", 0, 1, 2), end("ack", 0, 1, 2)]], before=(*XYZ, reserve_many(3))),
    Scenario("nack", [[end("nack", 0), end("nack", 0)]], before=HELD),
    Scenario("nack for the last time", [[end("nack", 0), end("nack", 0)]], before=HELD, options=LIMITED),
    Scenario("again", [[end("again", 0), end("again", 0)]], before=HELD),
    Scenario("extend", [[end("extend", 0), end("ack", 0)]], before=HELD),
    Scenario("bury", [[end("bury", 0), end("bury", 0)]], before=HELD),
    Scenario("consume", [[consume(3)]], before=XY),
    Scenario("consume through failures", [[consume(3, survives=True)]], before=XY),
    Scenario("consume in batches", [[consume(3, batch=2)]], before=XYZ),
    Scenario("consume slowly", [[consume(2, batch=2, survives=True, slow=1.5)]], before=XYZ),
    Scenario("consume and leave with acks", [[consume(2, batch=2)]], before=XYZ),
    Scenario("consume and leave", [[consume(1, batch=2)]], before=XYZ),
    Scenario("roll back", [[pop(), settle()]], before=XY),
    Scenario("large replies", [[pop(), pop()]], before=XY, large=True),
]

#: Several threads or sets at once.
TOGETHER = [
    Scenario("two pops", [[pop()], [pop()]], before=XY),
    Scenario(
        "two large pops",
        [[pop(), pop()], [pop()]],
        before=(*XYZ, add("w")),
        large=True,
        outcomes=["is executed, and a copy arrives late", "is interrupted before it is sent"],
    ),
    Scenario(
        "two debts",
        [[pop()], [pop()]],
        before=XY,
        faults=2,
        outcomes=["is executed, but its reply is lost", "is executed, its reply is lost, and a copy arrives late"],
    ),
    Scenario("an add and a pop", [[add("z")], [pop()]], before=XY),
    Scenario("the same ack", [[end("ack", 0)], [end("ack", 0)]], before=HELD),
    Scenario("the same ack, and more", [[end("ack", 0), add("y")], [end("ack", 0), add("z")]], before=HELD),
    Scenario("the same nack", [[end("nack", 0)], [end("nack", 0)]], before=HELD),
    Scenario("two ends", [[end("ack", 0)], [end("again", 0)]], before=HELD),
    Scenario("an ack and an extension", [[end("ack", 0)], [end("extend", 0)]], before=HELD),
    Scenario("two sets", [[pop()], [pop("b"), add("v", "b")]], before=[add("x"), add("u", "b")]),
    Scenario("two consumers", [[consume(1)], [consume(1)]], before=XY),
    Scenario(
        "two consumers in an outage",
        [[consume(2, survives=True)], [consume(2)]],
        before=XYZ,
        outcomes=["arrives late", "is executed, but its reply is lost"],
    ),
    Scenario(
        "a consumer in an outage and a pop",
        [[consume(2, survives=True)], [add("v"), pop()]],
        before=XYZ,
        outcomes=["arrives late", "is executed, but its reply is lost"],
    ),
    Scenario("consume very slowly", [[consume(2, batch=2, survives=True, slow=35.0)]], before=XYZ),
    Scenario("three threads", [[pop()], [reserve()], [add("z")]], before=XY),
    Scenario(
        "leases expire",
        [[end("ack", 0), reserve()]],
        before=(*XY, reserve()),
        faults=2,
        expires=True,
        outcomes=["is executed, and a copy arrives late", "arrives late", "is abandoned after it is executed"],
    ),
    Scenario(
        "consume while leases expire",
        [[consume(2)]],
        before=XY,
        faults=2,
        expires=True,
        outcomes=["arrives late", "is executed, but its reply is lost", "is interrupted after it is executed"],
    ),
]

#: A forked child goes on with copies of all that its parent had.
FORKED = [
    Scenario("fork while popping", [[pop(), pop()]], before=XY, child=[pop()]),
    Scenario("fork while adding", [[add("v"), pop()]], before=XY, child=[add("w"), pop()]),
    Scenario("fork while taking", [[take(3)]], before=XYZ, child=[pop()]),
    Scenario(
        "fork with debts",
        [[pop(), add("z"), pop()]],
        before=XY,
        child=[pop()],
        faults=2,
        outcomes=["is executed, but its reply is lost"],
    ),
    Scenario(
        "fork while rolling back",
        [[pop(), settle(), add("z")]],
        before=XY,
        child=[add("v")],
        faults=2,
        outcomes=["is executed, but its reply is lost"],
    ),
    Scenario("fork while a lease ends", [[end("ack", 0), add("y")]], before=HELD, child=[end("ack", 0)]),
    Scenario("fork with large replies", [[pop(), pop()]], before=XY, child=[pop()], large=True),
]

#: What goes wrong where two things do.
FEW = (
    "is executed, and a copy arrives late",
    "arrives late",
    "is executed, but its reply is lost",
    "is interrupted after it is executed",
    "is abandoned, and arrives late",
)

#: Every kind of call, alone, while two things go wrong.
TWICE = [replace(one, name=f"{one.name}, twice", faults=2, outcomes=FEW) for one in KINDS]

SCENARIOS = {one.name: one for one in (*KINDS, *TWICE, *TOGETHER, *FORKED)}


def random_scenario(rng: random.Random) -> Scenario:
    """Up to three threads that make some calls each on two sets, while many things go wrong."""
    names = iter(f"i{number:03}" for number in range(1000))

    def step() -> Step:
        name = rng.choice("aab")
        position = rng.randrange(4)
        steps = [
            *(add(next(names), name), update(next(names), next(names), next(names), name=name)),
            *(pop(name), take(rng.choice((1, 2, 3)), name), reserve(name), reserve_many(3, name), settle(name)),
            *(end(rng.choice(("ack", "nack", "again", "extend", "bury")), position), end("ack", position)),
            consume(
                rng.choice((1, 2, 4)),
                rng.choice((1, 2)),
                name,
                survives=rng.random() < 0.5,
                slow=rng.choice((0.0, 1.5, 35.0)),
            ),
        ]
        return rng.choice(steps)

    return Scenario(
        "random",
        [[step() for _ in range(rng.randrange(3, 8))] for _ in range(rng.randrange(1, 4))],
        before=[*(add(next(names), name) for name in "aaaabb"), reserve(), reserve(), reserve("b")],
        child=[step() for _ in range(4)] if rng.random() < 0.3 else [],
        faults=rng.randrange(2, 10),
        options=[("max_attempts", 3)] if rng.random() < 0.3 else [],
        large=rng.random() < 0.3,
        expires=rng.random() < 0.3,
    )
