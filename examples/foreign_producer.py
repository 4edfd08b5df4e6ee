"""Producers in other languages: any program that can send ZADD can add to a set, and wakes a waiting consumer.

    python examples/foreign_producer.py [--latest 0.5]

Shows: orders come from node (foreign_producer.js) and from the shell (foreign_producer.sh, by redis-cli or valkey-cli);
from both or whichever is installed. Neither needs redset: an item is a member of the sorted set with the name of the
set. This set has a key, so each member has a value too, here JSON, in the hash `{name}:values`. The value is set before
the member is added, so that no consumer claims a member without its value.

Expect: each order arrives once, though it is added twice, since the set remembers done items. redset's own `add` wakes
a consumer within a millisecond; a consumer notices a plain ZADD within 0.3 s. Starting a program, as the shell does,
takes longer. An order that takes longer than `--latest` counts as late.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypedDict

import redset
from common import cleared, deaf_to_interrupts, run

ORDERS = 3  # of each producer


class Order(TypedDict):
    id: str
    sent: float


def main() -> bool:
    options = arguments()
    client = redset.connect()
    orders: redset.SortedSet[Order] = redset.SortedSet(
        client, "example-orders", serializer=json, key=lambda order: order["id"], remember=3600
    )
    commands = producers(client)
    if not commands:
        sys.exit("neither node nor redis-cli nor valkey-cli is installed")
    with cleared(orders), ExitStack() as stack:
        with deaf_to_interrupts():
            for command in commands:
                stack.enter_context(running(command))
        return received(orders, ORDERS * len(commands), options.latest)


@contextmanager
def running(command: list[str]) -> Iterator[None]:
    """Run a command while the block runs, and end it then, with its child processes."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        yield
    finally:
        with suppress(OSError):  # It has ended by itself.
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def received(orders: redset.SortedSet[Order], expected: int, latest: float) -> bool:
    """Return whether all orders arrive, and in time."""
    ids, late = [], 0
    for reservation in orders.consume(wait=2):  # None, the default, would wait for ever
        order, delay = reservation.item, time.time() - reservation.item["sent"]
        print(f"{order['id']} was received {1000 * delay:.0f} ms after it was sent")
        ids.append(order["id"])
        late += delay > latest
    print(f"orders received, of {expected}: {len(set(ids))}")
    print(f"received twice (must be 0): {len(ids) - len(set(ids))}")
    print(f"later than {latest:g} s (must be 0): {late}")
    return len(ids) == len(set(ids)) == expected and not late


def producers(client: Any) -> list[list[str]]:
    """Return the commands of the producers that can run on this machine."""
    address = client.connection_pool.connection_kwargs
    if "path" in address:
        for_node, for_cli = [address["path"]], ["-s", address["path"]]
    else:
        host, port = address["host"], str(address["port"])
        for_node, for_cli = [port, host], ["-h", host, "-p", port]
    here = Path(__file__)
    found = []
    if node := shutil.which("node"):
        found.append([node, str(here.with_suffix(".js")), *for_node])
    if cli := shutil.which("valkey-cli") or shutil.which("redis-cli"):
        found.append(["sh", str(here.with_suffix(".sh")), cli, *for_cli])
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--latest", type=float, default=0.5, help="after how many seconds an order may be received")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
