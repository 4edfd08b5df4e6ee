"""The drivers of a set over shards: they perform plans in the place of operations."""

from contextlib import suppress
from typing import Any, TypeVar

from redset.core.drivers import AsyncDriver, Driver
from redset.core.operations import At, Operation, Plan, flattened, once
from redset.core.shards.place import flat_of, found_at_once
from redset.exceptions import WrongTypeError

__all__ = ("AsyncShardsDriver", "ShardsDriver", "over_shards")

R = TypeVar("R")


class ShardsDriver(Driver):
    """Runs the plans of a set over shards on a blocking client."""

    __slots__ = ()

    def perform(self, operation: Operation[R]) -> R:
        if (found := found_at_once(operation)) is not None:
            driver, step = found
            # After a reshard the shard has refused it, and the plan performs it in another.
            with suppress(WrongTypeError):
                done: R = driver.perform(step)
                return done
        result: R = self.follow(once(operation))
        return result

    def follow(self, plan: Plan[R]) -> R:
        result: R = super().follow(flat_of(plan))
        return result

    def enqueue(self, pipeline: Any, operation: Operation[R]) -> None:
        found: Operation[Any] = self.follow(_addition(operation))
        super().enqueue(pipeline, found)


class AsyncShardsDriver(AsyncDriver):
    """Runs the plans of a set over shards on an asyncio client."""

    __slots__ = ()

    async def perform(self, operation: Operation[R]) -> R:
        if (found := found_at_once(operation)) is not None:
            driver, step = found
            with suppress(WrongTypeError):
                done: R = await driver.perform(step)
                return done
        return await self.follow(once(operation))

    async def follow(self, plan: Plan[R]) -> R:
        result: R = await super().follow(flat_of(plan))
        return result

    def begin_to_follow(self, plan: Plan[R]) -> Any:
        return super().begin_to_follow(flat_of(plan))

    async def enqueue(self, pipeline: Any, operation: Operation[R]) -> None:
        found: Operation[Any] = await self.follow(_addition(operation))
        await super().enqueue(pipeline, found)


def _addition(plan: Any) -> Plan[Any]:
    """Return the operation that a plan would perform at a shard."""
    steps = flattened(plan)
    step = next(steps)
    while not isinstance(step, At):
        step = steps.send((yield step))
    steps.close()
    return step.step


def over_shards(kind: Any) -> Any:
    """Return the driver of sets over shards on the face of a driver."""
    return AsyncShardsDriver if kind.awaits else ShardsDriver
