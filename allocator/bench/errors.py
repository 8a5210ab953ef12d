"""The errors of the bench."""

from allocator.domain.errors import AllocatorError


class InvalidWorkload(AllocatorError):
    """
    A workload was refused before anything had started; `field` names what is wrong with it.

    No ValueError, so that it comes through pydantic as it is.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
