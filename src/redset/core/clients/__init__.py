"""The bridge to client libraries: all that differs between them, and between the clients of one, is in this package.

Any client will do that has redis-py's ``execute_command``: redis-py, valkey-py, their cluster and asyncio clients,
fakeredis, or one of your own. A client library is imported when a client is to be made; nothing here does that before.
docs/howto/client-libraries.md says what a client must do, and how a library is added.
"""

from redset.core.clients.checks import check_client
from redset.core.clients.commands import (
    AS_STORED,
    are_beside,
    drop_idle_connections,
    executor,
    has_one_connection,
    longest_block,
)
from redset.core.clients.errors import (
    explained,
    is_failure,
    is_outage,
    script_is_unknown,
    slot_is_moving,
    timed_out,
)

__all__ = (
    "AS_STORED",
    "are_beside",
    "check_client",
    "drop_idle_connections",
    "executor",
    "explained",
    "has_one_connection",
    "is_failure",
    "is_outage",
    "longest_block",
    "script_is_unknown",
    "slot_is_moving",
    "timed_out",
)
