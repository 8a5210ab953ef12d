"""How trouble is told that the supervisor's threads live through."""

from allocator.domain.errors import AllocatorError


def unforeseen(error: Exception) -> bool:
    """
    Whether the log needs the traceback of an error.

    A server or database that is down says itself what is wrong and what to do; told every half second for a night,
    its traceback would hide everything else.
    """
    return not isinstance(error, AllocatorError)
