"""What a release has stored on a server, kept for the releases after it: sets of all kinds, with items in all states.

    python tests/stored.py

stores it anew, as the file of the present layout. A file of an earlier layout is never changed.
"""

import json
import re
from pathlib import Path
from typing import Any

import redset
from redset.core.forms import VERSION
from servers import Server

__all__ = ("KINDS", "kept", "make_all", "read_all", "restore", "shapes", "states_of")

FILES = Path(__file__).parent / "kinds" / "stored"
#: Seconds: longer than anyone keeps the file.
CENTURY = 100 * 365 * 86400.0

KINDS: dict[str, Any] = {
    "plain": lambda client: redset.SortedSet(client, "plain", max_attempts=2),
    "keyed": lambda client: redset.SortedSet(client, "keyed", key=lambda item: item[:4], remember=CENTURY),
    "digests": lambda client: redset.TimeSortedSet(client, "digests", remember=CENTURY, digest=True),
    "scheduled": lambda client: redset.ScheduledSet(client, "scheduled"),
    "periodic": lambda client: redset.PeriodicSet(client, "periodic", interval=CENTURY),
    "expiring": lambda client: redset.ExpiringSet(client, "expiring", ttl=CENTURY),
    "grouped": lambda client: redset.SortedSet(
        client, "grouped", group=lambda item: item[0], per_group=redset.Limit(leases=1)
    ),
    "fair": lambda client: redset.ScheduledSet(client, "fair", group=lambda item: item[0], turns="fair"),
    "sharded": lambda client: redset.SortedSet(client, "sharded", shards=2),
}
#: A limit, which the hash of the set keeps.
MOST = 1000


def make_all(client: Any) -> dict[str, str]:
    """Store sets of all kinds. Return a receipt of each one's lease, by the name of the set."""
    receipts = {}
    for name, kind in KINDS.items():
        jobs = kind(client)
        if name == "expiring":
            jobs.add("seen")
            continue
        for number, state in enumerate(("dead", "done", "delayed", "leased", "parked")):
            jobs.add(state) if name == "periodic" else jobs.add(state, score=number + 1)
            held = jobs.reserve(lease=CENTURY)
            assert held.item == state
            if state == "dead":
                held.bury("it is over")
            elif state == "done":
                held.ack()
            elif state == "delayed":
                held.nack(delay=CENTURY, reason="not now")
            elif state == "leased":
                receipts[name] = held.receipt
            else:
                jobs.add(state) if name == "periodic" else jobs.add(state, score=9)
        assert jobs.take(1) == []  # meets what is leased and waits, and parks it
        jobs.add("waiting") if name == "periodic" else jobs.add("waiting", score=20)
        if name == "keyed":
            jobs.add("waiting, and newer", score=20)
        jobs.limit(maxsize=MOST)
        if name in ("grouped", "fair"):
            jobs.group("w").limit(leases=7)
    return receipts


def states_of(jobs: Any) -> dict[str, str | None]:
    """Return the state of each item; keyed sets go by identities."""
    items = ("dead", "done", "delayed", "leased", "parked", "waiting")
    return {item: jobs.state(item[:4] if jobs.name == "keyed" else item) for item in items}


def read_all(client: Any) -> list[dict[str, Any]]:
    """Return all keys but those of calls and waiters, which are gone soon, with their contents as commands."""
    found = []
    for key in sorted(client.scan_iter()):
        if b":call:" in key or key.endswith((b":wake", b":looks")):
            continue
        kind = client.type(key)
        if kind == b"zset":
            content: Any = [[repr(score), text(member)] for member, score in client.zrange(key, 0, -1, withscores=True)]
        elif kind == b"hash":
            content = [[text(field), text(value)] for field, value in sorted(client.hgetall(key).items())]
        else:
            content = [text(value) for value in client.lrange(key, 0, -1)]
        found.append({"key": text(key), "type": kind.decode(), "content": content, "expires": client.ttl(key) > 0})
    return found


def restore(client: Any, keys: list[dict[str, Any]]) -> None:
    """Store what was read."""
    for one in keys:
        key, content = raw(one["key"]), one["content"]
        if one["type"] == "zset":
            client.zadd(key, {raw(member): float(score) for score, member in content})
        elif one["type"] == "hash":
            client.hset(key, mapping={raw(field): raw(value) for field, value in content})
        else:
            client.rpush(key, *map(raw, content))
        if one["expires"]:
            client.expire(key, int(CENTURY))


def shapes(keys: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what is stored without what differs each time: moments, tokens and the samples of totals."""
    return {
        one["key"]: (one["type"], one["expires"], [] if one["type"] == "list" else sorted(map(shape, one["content"])))
        for one in keys
    }


def shape(columns: list[str]) -> str:
    return " | ".join(re.sub(r"\d{7,}(\.\d+)?(e[+-]?\d+)?|\d+\.\d{3,}", "#", column) for column in columns)


def kept(version: int = VERSION) -> dict[str, Any]:
    """Return what a release of a layout has stored."""
    found: dict[str, Any] = json.loads((FILES / f"layout-{version}.json").read_text())
    return found


def text(stored: bytes) -> str:
    return stored.decode("latin-1")


def raw(written: str) -> bytes:
    return written.encode("latin-1")


def main() -> None:
    server = Server()
    try:
        client = server.client()
        receipts = make_all(client)
        states = {name: states_of(kind(client)) for name, kind in KINDS.items() if name != "expiring"}
        found = {"version": redset.__version__, "receipts": receipts, "states": states, "keys": read_all(client)}
    finally:
        server.stop()
    FILES.mkdir(exist_ok=True)
    file = FILES / f"layout-{VERSION}.json"
    file.write_text(json.dumps(found, indent=1) + "\n")
    print(file)


if __name__ == "__main__":
    main()
