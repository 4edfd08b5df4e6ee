"""The peers: with which versions, in which setting, and what each promises and does for its time.

What stands here about a peer is what its documentation says, at the address that is given; what it does with that is
measured. A sentence that is no longer true is a mistake: please say so.
"""

from dataclasses import dataclass, field

from sources import version_of_redset

__all__ = ("PEERS", "Peer", "named")

_CLIENT = ("redis==8.1.0", "hiredis==3.5.0")


@dataclass(frozen=True)
class Peer:
    name: str
    script: str
    #: What is installed, the peer first.
    requirements: tuple[str, ...]
    documentation: str
    #: What happens to an item whose worker dies, as documented, in the reliable setting.
    delivery: str
    #: The same in the fast setting, which is the one that is timed.
    fast_delivery: str
    #: What happens to an item that is added twice, as documented.
    duplicates: str
    #: What it does beside handing out items, for users who want that.
    also: str
    #: How many items are added per call in the fastest documented way.
    bulk: str
    #: The fastest documented setting for items that take no time.
    fast: str
    #: The documented setting for when nothing may be lost; none: it is the fast one.
    reliable: str = ""
    #: The same for those ways in which it is another.
    reliable_in: dict[str, str] = field(default_factory=dict)
    #: How its version is told, by the names of what is installed; none: that of the first.
    told: str = ""
    #: The oldest Python that it runs on, such as 3.12; none: it runs on ours.
    python: str = ""
    #: Seconds after a crash in which that setting brings back what was in hand, at the latest.
    patience: float = 10.0
    #: The ways in which it can be used, where there are several, and that in which it is reliable first.
    ways: tuple[str, ...] = ("",)

    @property
    def version(self) -> str:
        packages = (requirement.partition("==") for requirement in self.requirements)
        versions = {name: version for name, _, version in packages}
        return self.told.format_map(versions | {"redset": version_of_redset()}) or next(iter(versions.values()))

    def setting(self, way: str) -> str:
        """What it is used as when nothing may be lost."""
        return self.reliable_in.get(way) or self.reliable or self.fast


_ALL = (
    Peer(
        "bare",
        "on_bare.py",
        _CLIENT,
        "https://redis.io/docs/latest/commands/zpopmin/",
        delivery="At most once: a claimed item is forgotten.",
        fast_delivery="At most once.",
        duplicates="One item: the members of a sorted set are unique.",
        also="Nothing.",
        bulk="ZADD of 1000",
        fast="BZPOPMIN, one at a time (way 100: ZPOPMIN of 100, again and again, without waiting)",
        told="redis-py {redis}",
        ways=("", "100"),
    ),
    Peer(
        "redset",
        "on_redset.py",
        _CLIENT,
        "docs/guarantees.md",
        delivery=(
            "reserve and consume: at least once, one consumer at a time within a lease. pop and take: at most once."
        ),
        fast_delivery="reserve and consume: at least once. pop and take: at most once.",
        duplicates="One item, in any state.",
        also="Priorities; retries with backoff, dead letters; remembered items; due times and periods.",
        bulk="update",
        fast="each way is measured by itself",
        reliable="consume(lease=3)",
        reliable_in={"reserve": "reserve(lease=3)", "aio-consume": "consume(lease=3), on asyncio"},
        told="{redset} with redis-py {redis}",
        patience=4,
        ways=(
            "consume",
            "consume-100",
            "reserve",
            "pop",
            "take",
            "aio-consume",
            "aio-consume-100",
            "aio-reserve",
            "aio-pop",
            "aio-take",
        ),
    ),
    Peer(
        "rq",
        "on_rq.py",
        ("rq==3.0.0", *_CLIENT),
        "https://python-rq.org/docs/",
        delivery=(
            "When the heartbeat of a job expires, maintenance retries it if it has retries left; otherwise it goes to "
            "the failed job registry."
        ),
        fast_delivery=(
            "At most once: there are no retries, and a job whose worker died goes to the failed job registry."
        ),
        duplicates="With unique=True and a job id, one job while it exists. Otherwise each is a job.",
        also=(
            "A process for each job (Worker), with time limits; results, callbacks, dependencies, schedules, retries, "
            "rate limits, webhooks, dashboards."
        ),
        bulk="enqueue_many of 1000",
        fast="SimpleWorker (no process for each job), JSON, results not kept",
        reliable=(
            "Worker; Retry(max=100), job_timeout=5, job_monitoring_interval=1, maintenance_interval=2, worker_ttl=20"
        ),
        patience=80,
    ),
    Peer(
        "celery",
        "on_celery.py",
        ("celery[redis]==5.7.0", *_CLIENT),
        "https://docs.celeryq.dev/en/stable/getting-started/backends-and-brokers/redis.html",
        delivery=(
            "With acks_late, at least once: a task that is not acknowledged within the visibility timeout is "
            "delivered again, even if it still runs."
        ),
        fast_delivery=(
            "At most once from its start on: it is acknowledged before it runs. Prefetched tasks are requeued."
        ),
        duplicates="Each is a task.",
        also=(
            "Other brokers; results, workflows, schedules, retries, rate limits, time limits, events for monitors, "
            "remote control; pools of processes, threads, greenlets."
        ),
        bulk="one by one on one connection; there is no bulk call",
        fast="solo pool, results and events off, no gossip, prefetch multiplier 128",
        reliable="prefork; acks_late, reject_on_worker_lost, prefetch multiplier 1, visibility_timeout=5 s",
        patience=20,
    ),
    Peer(
        "arq",
        "on_arq.py",
        ("arq==0.28.0", "redis==5.3.1", "hiredis==3.5.0"),
        "https://arq-docs.helpmanual.io/",
        delivery=(
            "At least once: a job stays in the queue until it is done, and runs again when its in-progress key "
            "expires, ten seconds after its timeout."
        ),
        fast_delivery="At least once, with five tries.",
        duplicates="With a job id, one job while it or its result exists.",
        also="asyncio; results, schedules, retries, cron jobs, abortion of jobs.",
        bulk="50 calls of enqueue_job at once; there is no bulk call",
        fast="max_jobs=100, queue_read_limit=1000, poll_delay=0.01, results not kept",
        reliable="job ids, job_timeout=2, max_tries=100, max_jobs=10, poll_delay=0.01",
        patience=25,
    ),
    Peer(
        "saq",
        "on_saq.py",
        ("saq[redis]==0.26.4", "redis==7.4.1", "hiredis==3.5.0", "typing-extensions"),
        "https://saq-py.readthedocs.io/",
        delivery="A job that runs for longer than its timeout is swept, and tried again if it has retries left.",
        fast_delivery="At most once: a job has one try by default, so one that is swept is not run again.",
        duplicates="With a key, one job while it exists.",
        also="asyncio; a web interface, results, heartbeats, schedules, cron jobs, abortion of jobs; Postgres.",
        bulk="50 calls of enqueue at once; there is no bulk call",
        fast="concurrency=50, jobs not kept (ttl=-1)",
        reliable="keys, timeout=3, retries=100, sweep every five seconds",
        patience=30,
    ),
    Peer(
        "huey",
        "on_huey.py",
        ("huey==3.5.4", *_CLIENT),
        "https://huey.readthedocs.io/",
        delivery="At most once: a task is removed from the list before it runs, and a crash loses it.",
        fast_delivery="At most once.",
        duplicates="Each is a task.",
        also="Results, schedules, periodic tasks, retries, priorities, locks, pipelines, signals; other storages.",
        bulk="one by one; there is no bulk call",
        fast="one worker thread, results off, no scheduler for periodic tasks",
    ),
    Peer(
        "dramatiq",
        "on_dramatiq.py",
        ("dramatiq[redis]==2.2.1", *_CLIENT),
        "https://dramatiq.io/",
        delivery=(
            "At least once: messages are acknowledged when done; those of a worker without a heartbeat are requeued."
        ),
        fast_delivery="At least once.",
        duplicates="Each is a message.",
        also=(
            "RabbitMQ; retries with backoff, time and age limits, priorities, pipelines, groups, rate limits, "
            "results, metrics, all as middleware."
        ),
        bulk="a group, which sends one by one; there is no bulk call",
        fast="one thread, prefetch of 1000, no middleware but Retries",
        reliable="default middleware, 8 threads, heartbeat_timeout=15 s, maintenance with one command in ten",
        patience=35,
    ),
    Peer(
        "taskiq",
        "on_taskiq.py",
        ("taskiq==0.13.0", "taskiq-redis==1.2.4", *_CLIENT),
        "https://taskiq-python.github.io/available-components/brokers.html",
        delivery=(
            "Stream broker: at least once, a message that is not acknowledged within the idle timeout is delivered "
            "again. List queue: at most once."
        ),
        fast_delivery=(
            "At most once: a message of the stream is acknowledged before it runs; one of the list is removed."
        ),
        duplicates="Each is a message.",
        also="asyncio; other brokers, dependency injection, results, schedules, middleware.",
        bulk="50 calls of kiq at once; there is no bulk call",
        fast="100 tasks at a time, acknowledged when received, no result backend",
        reliable="stream broker; acknowledged when executed, idle_timeout=3 s, unacknowledged_lock_timeout=5",
        patience=15,
        told="{taskiq} with taskiq-redis {taskiq-redis}",
        ways=("stream", "list"),
    ),
    Peer(
        "streaq",
        "on_streaq.py",
        ("streaq==7.2.0", "coredis==6.9.0", "hiredis==3.5.0"),
        "https://streaq.readthedocs.io/",
        delivery="At least once: a task that its worker has not renewed within the idle timeout is delivered again.",
        fast_delivery="At least once.",
        duplicates="Each is a task; a function can be unique, of which only one runs at a time.",
        also="asyncio and trio; results, schedules, cron jobs, dependencies, priorities, middleware, a web interface.",
        bulk="enqueue_many of 1000",
        fast="concurrency=200, prefetch=256, results not kept",
        reliable="idle_timeout=3, max_tries=100",
        patience=15,
    ),
    Peer(
        "docket",
        "on_docket.py",
        ("pydocket==0.27.0", *_CLIENT),
        "https://docket.lol/",
        delivery="At least once: a task that its worker has not renewed within the redelivery timeout is taken over.",
        fast_delivery="At least once.",
        duplicates="With a key, one task while it exists.",
        also=(
            "asyncio; dependency injection, schedules, perpetual tasks, retries, limits, progress, cancellation, "
            "OpenTelemetry."
        ),
        bulk="add_many of 1000",
        fast="concurrency=10, minimum_check_interval=1 ms, nothing kept of what is done",
        reliable="keys, redelivery_timeout=3 s, concurrency=10",
        patience=15,
    ),
    Peer(
        "redis-message-queue",
        "on_redis_message_queue.py",
        ("redis-message-queue==11.0.1", *_CLIENT),
        "https://github.com/Elijas/redis-message-queue",
        delivery="At least once: an expired message is reclaimed; at most once without a visibility timeout.",
        fast_delivery="At most once: a crash of its consumer loses the message in flight.",
        duplicates="With a deduplication key, left out for an hour.",
        also=(
            "asyncio, Redis Cluster; a dead-letter queue, backpressure, logs of what succeeded and failed, events, an "
            "orderly shutdown."
        ),
        bulk="one by one; there is no bulk call",
        fast="no deduplication, no visibility timeout",
        reliable=(
            "get_deduplication_key, visibility_timeout_seconds=3, heartbeat_interval_seconds=1, max_delivery_count=100"
        ),
        python="3.12",
        patience=10,
    ),
    Peer(
        "bullmq",
        "on_bullmq.py",
        ("bullmq==3.4.4", *_CLIENT),
        "https://docs.bullmq.io/",
        delivery="At least once: a job whose lock expired is stalled and requeued, up to maxStalledCount times.",
        fast_delivery="At least once; a job that stalls a second time has failed.",
        duplicates="With a job id, one job while it exists.",
        also=(
            "asyncio; the format of BullMQ for Node.js; priorities, delays, retries, flows, rate limits, schedules, "
            "events, progress."
        ),
        bulk="addBulk of 1000",
        fast="concurrency=20, jobs removed when done",
        reliable="job ids, lockDuration=3 s, stalledInterval=1 s, maxStalledCount=100, attempts=100",
        patience=15,
    ),
)

PEERS = {peer.name: peer for peer in _ALL}


def named(name: str) -> tuple[Peer, str]:
    """A peer and one of its ways, by what is written on a command line: ``rq``, ``taskiq:list``.

    :raises KeyError: there is none of that name.
    """
    peer_name, _, way = name.partition(":")
    peer = PEERS[peer_name]
    if way and way not in peer.ways:
        raise KeyError(name)
    return peer, way or peer.ways[0]
