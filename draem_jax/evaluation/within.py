"""Where a detector looks in test pictures, and what that makes of them."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Bool

from draem_jax.data.loading import LabelledPicture, StoredTestPictures
from draem_jax.data.pictures import resize_mask
from draem_jax.data.roi import Plane, both
from draem_jax.detector import BatchOutput, Draem
from draem_jax.evaluation.truth import GOOD


class Looked(NamedTuple):
    """What the networks say of some pictures, and where the detector looked.

    Attributes:
        output: of the batch, whose last pictures may be padding.
        small: true where it looked, at the size that the networks see; None for everywhere.
        own: the same of each picture, at its original size.
    """

    output: BatchOutput
    small: Bool[np.ndarray, "B H W"] | None
    own: Sequence[Plane | None]

    @property
    def shares(self) -> list[float]:
        """The share of each picture that was looked at."""
        return [1.0 if plane is None else float(plane.mean()) for plane in self.own]


def look(detector: Draem, pictures: Sequence[LabelledPicture]) -> Looked:
    """Runs a detector on at most a batch of pictures, without waiting for the devices.

    Where it looks at objects alone, it waits for them to be found.
    """
    planes = detector.small_planes([picture.plane for picture in pictures])
    output = detector.run_batch(np.stack([picture.image for picture in pictures]), planes)
    if output.on_object is None:
        return Looked(output, planes, [picture.plane for picture in pictures])
    found = np.asarray(output.on_object)[: len(pictures)]
    own = [
        both(picture.plane, resize_mask(plane, picture.mask.shape))
        for picture, plane in zip(pictures, found, strict=True)
    ]
    return Looked(output, both(planes, found), own)


@dataclass(frozen=True)
class Relabelled:
    """Test pictures of which some defective ones count as normal.

    Attributes:
        test: the pictures.
        outside: which of them have their whole defect where nobody looks.
    """

    test: StoredTestPictures
    outside: frozenset[int]

    def __len__(self) -> int:
        return len(self.test)

    def __getitem__(self, index: int) -> LabelledPicture:
        picture = self.test[index]
        return picture._replace(defect_type=GOOD) if index in self.outside else picture

    @property
    def names(self) -> tuple[str, ...]:
        """Of the pictures, as they are given."""
        return self.test.names

    @property
    def normal(self) -> tuple[bool, ...]:
        """Which of them count as normal."""
        return tuple(is_normal or i in self.outside for i, is_normal in enumerate(self.test.normal))


def within_roi(
    test: StoredTestPictures, *, warn: Callable[[str], None] = lambda line: None
) -> StoredTestPictures | Relabelled:
    """The test pictures as they count for a detector that looks at a part of them.

    A picture whose whole defect lies where nobody looks, by its mask, counts as normal. One whose
    mask is not known stays what it is called.

    Args:
        test: the pictures, with where to look in them.
        warn: is told of pictures that count as normal, in one line.
    """
    if not test.roi.has_planes:
        return test
    defective = [i for i, is_normal in enumerate(test.normal) if not is_normal]
    with ThreadPoolExecutor() as pool:
        outside = [
            i
            for i, is_out in zip(defective, pool.map(test.is_outside, defective), strict=True)
            if is_out
        ]
    if not outside:
        return test
    one = len(outside) == 1
    warn(
        f"{len(outside)} defective test picture{'' if one else 's'} ({test.names[outside[0]]}"
        f"{'' if one else ' first'}) count{'s' if one else ''} as normal, since the whole defect "
        f"lies outside of the region of interest ({test.roi})"
    )
    return Relabelled(test, frozenset(outside))


def mean_share(shares: Sequence[float]) -> float:
    """The mean over the pictures of all processes, of which each calls it."""
    sums = np.array([sum(shares), len(shares)], np.float32)
    if jax.process_count() > 1:
        sums = multihost_utils.process_allgather(sums).sum(axis=0)
    return float(sums[0] / sums[1]) if sums[1] else 1.0
