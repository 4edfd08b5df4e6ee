"""Exit codes, and the error that ends a command with one of them and a message."""

from redset.core.clients import is_failure, is_outage
from redset.exceptions import AccessDeniedError, Full, LayoutError, RedsetError, ServerFullError, WrongTypeError

__all__ = (
    "BROKEN_PIPE",
    "DATA",
    "INTERRUPTED",
    "IO",
    "NO",
    "NO_PERMISSION",
    "SOFTWARE",
    "TRY_LATER",
    "UNAVAILABLE",
    "USAGE",
    "Failure",
    "failure_of",
)

#: The set is empty, or the item is not there.
NO = 1
USAGE = 2
#: These are the codes of sysexits.h.
DATA = 65
UNAVAILABLE = 69
SOFTWARE = 70
IO = 74
TRY_LATER = 75
NO_PERMISSION = 77
#: 128 and the number of the signal, as shells report it.
INTERRUPTED = 130
BROKEN_PIPE = 141


#: The errors of client libraries for a wrong name or password.
_REFUSED = {"AuthenticationError", "AuthorizationError", "NoPermissionError"}


class Failure(Exception):
    """Ends the command with an exit code and one line on stderr."""

    def __init__(self, message: str, code: int = USAGE) -> None:
        super().__init__(message)
        self.code = code


def failure_of(error: Exception) -> Failure | None:
    """Return the failure that stands for an error of redset or of the client library; None for other errors."""
    if isinstance(error, Failure):
        return error
    if not is_failure(error):
        return None
    if type(error).__name__ == "MovedError" or str(error).startswith("MOVED "):
        return Failure(
            "this server is a node of a cluster: name it by redis+cluster:// in place of redis://", UNAVAILABLE
        )
    if "Cluster mode is not enabled" in str(error):
        return Failure("this server is no cluster: name it by redis:// in place of redis+cluster://", UNAVAILABLE)
    return Failure(" ".join(str(error).split()), _code_of(error))


def _code_of(error: Exception) -> int:
    names = {kind.__name__ for kind in type(error).__mro__}
    if isinstance(error, AccessDeniedError) or names & _REFUSED or str(error).startswith("NOPERM"):
        return NO_PERMISSION
    if isinstance(error, Full | ServerFullError):
        return TRY_LATER
    if isinstance(error, LayoutError | WrongTypeError):
        return USAGE
    if is_outage(error) or not isinstance(error, RedsetError) or isinstance(error, ConnectionError):
        return UNAVAILABLE
    return SOFTWARE
