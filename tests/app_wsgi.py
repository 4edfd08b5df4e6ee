"""A web application whose set is made and used before its server forks. It claims an item for each request."""

import os
from collections.abc import Iterator
from typing import Any

import redset

jobs = redset.SortedSet[str](redset.connect(os.environ["REDSET_URL"]), "jobs")
first = jobs[0]


def application(environ: Any, start_response: Any) -> Iterator[bytes]:
    """Respond with the process and the item."""
    with jobs.reserve(lease=600) as item:
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield f"{os.getpid()} {item}".encode()
