"""What goes wrong by plan: the fate of every attempt, drawn before the run."""

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, model_validator

from allocator.bench.models import CountFromZero, Model, Share

ERROR, CRASH, HANG, POISON = "e", "c", "h", "p"

FATES = {ERROR: "error", CRASH: "crash", HANG: "hang", POISON: "error"}
"""Letter -> how the attempt ends: it raises, its process dies, it never ends. All attempts of a poisoned job raise."""


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


ByAttempt = Annotated[tuple[Share, ...], BeforeValidator(_as_list), Field(min_length=1)]
"""A probability for all attempts, or a list with one for each: the last holds for all that follow."""


class Failure(Model):
    """
    How attempts fail, each after it has taken its service time. Without anything said, none does.
    """

    p_error: ByAttempt = Field((0.0,), description="Probability that an attempt raises.")
    p_crash: ByAttempt = Field((0.0,), description="Probability that it ends its process.")
    p_hang: ByAttempt = Field((0.0,), description="Probability that it never ends, and so must be timed out.")
    p_poison: Share = Field(0.0, description="Probability that a job fails in every attempt.")
    first_k: CountFromZero = Field(0, description="So many first attempts of every job raise, whatever p_error says.")

    @model_validator(mode="after")
    def _at_most_one(self) -> "Failure":
        for attempt in range(1, max(len(self.p_error), len(self.p_crash), len(self.p_hang)) + 1):
            total = sum(self.at(attempt))
            if total > 1 + 1e-9:
                raise ValueError(f"p_error, p_crash and p_hang of attempt {attempt} sum to {total:g}, which is over 1")
        return self

    def at(self, attempt: int) -> tuple[float, float, float]:
        """The probabilities of crash, hang and error in this attempt (1, 2, …)."""
        crash, hang, error = (
            chances[min(attempt, len(chances)) - 1] for chances in (self.p_crash, self.p_hang, self.p_error)
        )
        return crash, hang, error

    def draw(self, streams: np.random.SeedSequence, count: int, attempts: int) -> NDArray[np.bytes_]:
        """
        The fates of each job: a letter for each attempt that goes wrong, in order; attempts beyond the letters succeed.

        Each attempt number has a stream of its own, so that more retries change nothing of the attempts before.

        Args:
            streams: Gives birth to the streams: must not have done so before.
            attempts: That a job has, its retries included.
        """
        poison, *others = (np.random.default_rng(child) for child in streams.spawn(attempts + 1))
        fates = np.zeros((count, attempts), dtype="S1")
        failing = np.ones(count, dtype=bool)
        for number, stream in enumerate(others, 1):
            drawn = stream.random(count)
            crash, hang, error = self.at(number)
            letters = np.select(
                [drawn < crash, drawn < crash + hang, drawn < crash + hang + error],
                [CRASH.encode(), HANG.encode(), ERROR.encode()],
                b"",
            )
            if number <= self.first_k:
                letters = np.where(letters == b"", ERROR.encode(), letters)
            failing &= letters != b""
            fates[failing, number - 1] = letters[failing]
        fates[poison.random(count) < self.p_poison] = POISON.encode()
        return fates.view(f"S{attempts}").ravel()
