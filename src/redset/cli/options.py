"""The options of ``redset work``, checked. No I/O."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from redset.cli.exits import Failure
from redset.core.registry import SetInfo

__all__ = ("Halt", "Options")


@dataclass(frozen=True)
class Halt:
    """When to stop before the set is empty: after so many failures or successes."""

    #: "soon" lets running commands end, "now" kills them.
    when: Literal["soon", "now"]
    what: Literal["fail", "success", "done"]
    count: int

    @classmethod
    def read(cls, written: str) -> "Halt | None":
        """Return the rule of ``soon,fail=3``; None for ``never``.

        :raises Failure: it has another form.
        """
        if written == "never":
            return None
        found = re.fullmatch(r"(soon|now),(fail|success|done)=([1-9]\d*)", written)
        if found is None:
            raise Failure(f"--halt takes never, or soon or now and a number, like soon,fail=3, not {written!r}")
        return cls(found[1], found[2], int(found[3]))  # type: ignore[arg-type] # the pattern has no other words

    def is_reached(self, failed: int, done: int) -> bool:
        reached = {"fail": failed, "success": done, "done": failed + done}
        return reached[self.what] >= self.count


@dataclass(frozen=True)
class Options:
    """The options of ``work``, checked."""

    about: SetInfo
    url: str | None
    words: tuple[bytes, ...]
    jobs: int
    lease: float
    retries: int | None
    timeout: float | None
    grace: float
    halt: Halt | None
    forever: bool
    stdin: bool
    shell: bool
    line_buffer: bool
    tag: bool
    joblog: Path | None
