"""What is known of a study's variants: averages over its runs, and differences to the baseline."""

from dataclasses import dataclass

LEVEL = 0.95
"""The confidence of intervals; a difference is supported where its p-value is below the rest."""


@dataclass(frozen=True)
class Average:
    """One metric of one variant.

    Attributes:
        mean: over seeds, each first averaged over its products; None without any value.
        deviation: standard deviation over seeds; None with fewer than two.
    """

    mean: float | None
    deviation: float | None


@dataclass(frozen=True)
class Difference:
    """One metric of a variant minus the baseline's, paired by product and seed.

    Attributes:
        mean: over all pairs, in [-1, 1]; None without any.
        low: lower end of the bootstrap interval over seeds and products; None with a single pair.
        high: its upper end.
        p_value: that of Student's t-test, by Holm's method corrected for the number of
            variants compared; None where it cannot be made.
    """

    mean: float | None
    low: float | None
    high: float | None
    p_value: float | None

    @property
    def is_supported(self) -> bool:
        """Whether chance alone is an unlikely reason for the difference."""
        return self.p_value is not None and self.p_value < 1 - LEVEL
