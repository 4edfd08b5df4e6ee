"""One set over several slots of a cluster: a sorted set whose items are divided among shards.

Each shard is an ordinary set in a slot of its own. :mod:`~redset.core.shards.layout` names the shards and routes items,
:mod:`~redset.core.shards.place` finds them, :mod:`~redset.core.shards.claims` chooses where to claim, and
:mod:`~redset.core.shards.parts` has the other operations.
"""
