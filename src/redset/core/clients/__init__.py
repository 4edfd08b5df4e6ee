"""The bridge to client libraries: the differences between them, and between the clients of one, in one package.

Any client with redis-py's ``execute_command`` will do: redis-py, valkey-py, their cluster and asyncio clients,
fakeredis, or a client of one's own. A library is imported only to make a client. docs/howto/client-libraries.md lists
the requirements for a client, and the steps to add a library.
"""

from redset.core.clients.checks import check_client, check_pipeline
from redset.core.clients.clusters import has_nodes, key_of, node_name, replies_once, replies_once_awaited
from redset.core.clients.commands import (
    are_beside,
    drop_idle_connections,
    enqueue,
    executor,
    has_one_connection,
    longest_block,
    pipelines_of,
)
from redset.core.clients.errors import (
    explained,
    is_failure,
    is_of_a_lost_connection,
    is_outage,
    is_redirection,
    script_is_unknown,
    slot_is_moving,
    timed_out,
)
from redset.core.clients.settings import AS_STORED

__all__ = (
    "AS_STORED",
    "are_beside",
    "check_client",
    "check_pipeline",
    "drop_idle_connections",
    "enqueue",
    "executor",
    "explained",
    "has_nodes",
    "has_one_connection",
    "is_failure",
    "is_of_a_lost_connection",
    "is_outage",
    "is_redirection",
    "key_of",
    "longest_block",
    "node_name",
    "pipelines_of",
    "replies_once",
    "replies_once_awaited",
    "script_is_unknown",
    "slot_is_moving",
    "timed_out",
)
