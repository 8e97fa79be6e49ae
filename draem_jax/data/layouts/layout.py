"""What a data set is: the one thing that a file of a layout declares."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from draem_jax.data.layouts.entries import Counts, Listing


@dataclass(frozen=True)
class Layout:
    """A data set whose files lie in a folder or archive of the user's.

    Attributes:
        name: by which it is asked for, and under which it is kept once it is prepared.
        description: what it holds, in one sentence.
        list_category: from (root, category) to the pictures there.
        note: what is said of it in brackets where data sets are listed; "" for nothing.
        homepage: where it is published.
        counts: the published numbers of pictures by category, which are all of its categories;
            empty where the categories are the user's own.
        paper: what the paper (Zavrtanik et al., ICCV 2021, tables 1 and 2) reports of each category
            and of their "mean", in per cent: AUROC of pictures, AUROC and average precision of
            pixels. Empty where the paper says nothing.
    """

    name: str
    description: str
    list_category: Callable[[Path, str], Listing]
    note: str = ""
    homepage: str = ""
    counts: Mapping[str, Counts] = field(default_factory=dict)
    paper: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)

    @property
    def is_own(self) -> bool:
        """Whether it is of the user's own pictures, so that nothing is known of it beforehand."""
        return not self.counts
