"""Where a detector looks in test pictures, and what that makes of them."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Bool, Float

from draem_jax.data.loading import LabelledPicture, StoredTestPictures
from draem_jax.data.roi import Plane, both
from draem_jax.detector import Draem
from draem_jax.evaluation.truth import GOOD
from draem_jax.hosts.talking import gathered
from draem_jax.training.parallel import local_devices


class Looked(NamedTuple):
    """What the networks say of some pictures, and where the detector looked.

    Attributes:
        margin: of each picture, of the canvas, see `draem_jax.data.fitting`: an array on the
            devices whose last entries may be padding, or, of canvases of any size, a list.
        anomaly_map: the margin's sigmoid, likewise.
        reconstruction: likewise; None where it was not asked for.
        score: of each picture and of the padding.
        small: true where it looked, in the canvas; None for everywhere.
        own: the same of each picture, at its original size.
    """

    margin: Any
    anomaly_map: Any
    reconstruction: Any
    score: Any
    small: Sequence[Plane] | Bool[np.ndarray, "B H W"] | None
    own: Sequence[Plane | None]

    def contents(
        self, detector: Draem, pictures: Sequence[LabelledPicture]
    ) -> list[Float[np.ndarray, "_ _"]]:
        """The pictures' maps without padding, 0 where nobody looks."""
        contents = []
        for i, (picture, plane) in enumerate(
            zip(pictures, jax.device_get(self.anomaly_map), strict=False)
        ):
            inside = None if self.small is None else self.small[i]
            plane = plane if inside is None else np.where(inside, plane, np.float32(0))
            contents.append(plane[detector.fitting.content_of(picture.mask.shape)])
        return contents

    @property
    def shares(self) -> list[float]:
        """The share of each picture that was looked at."""
        return [1.0 if plane is None else float(plane.mean()) for plane in self.own]


def look(
    detector: Draem, groups: Iterable[Sequence[LabelledPicture]], *, with_reconstruction: bool
) -> Iterator[Looked]:
    """Runs a detector on pictures, as a rule without waiting for the devices.

    Where it looks at objects alone, it waits for them to be found; and where it sees pictures in
    tiles, for the maps to be put together.

    Args:
        detector: the trained detector.
        groups: the pictures, at most a batch in each group; taken as they are needed.
        with_reconstruction: whether reconstructions are wanted.

    Yields:
        What is said of each group.
    """
    if detector.fitting.is_tiled:
        yield from _look_at_tiles(detector, groups, with_reconstruction=with_reconstruction)
    else:
        yield from (_look_at_wholes(detector, pictures) for pictures in groups)


def _look_at_wholes(detector: Draem, pictures: Sequence[LabelledPicture]) -> Looked:
    fitting, own_planes = detector.fitting, [picture.plane for picture in pictures]
    planes = detector.small_planes([fitting.fit_plane(p.plane, p.mask.shape) for p in pictures])
    output = detector.run_batch(np.stack([picture.image for picture in pictures]), planes)
    if output.on_object is not None:
        found = np.asarray(output.on_object)[: len(pictures)]
        planes = both(planes, found)
        own_planes = [
            both(picture.plane, fitting.restore_mask(plane, picture.mask.shape))
            for picture, plane in zip(pictures, found, strict=True)
        ]
    return Looked(
        output.margin, output.anomaly_map, output.reconstruction, output.score, planes, own_planes
    )


def _look_at_tiles(
    detector: Draem, groups: Iterable[Sequence[LabelledPicture]], *, with_reconstruction: bool
) -> Iterator[Looked]:
    groups, kept = itertools.tee(groups)
    seen_ones = detector.see(
        (
            (picture.image, detector.fitting.fit_plane(picture.plane, picture.mask.shape))
            for picture in itertools.chain.from_iterable(groups)
        ),
        with_reconstruction=with_reconstruction,
    )
    devices = len(local_devices())
    for pictures in kept:
        seen = [next(seen_ones) for _ in pictures]
        scores = np.zeros(-(-len(pictures) // devices) * devices, np.float32)
        scores[: len(seen)] = [one.score for one in seen]
        planes = [detector.fitting.fit_plane(p.plane, p.mask.shape) for p in pictures]
        yield Looked(
            [one.margin for one in seen],
            [one.anomaly_map for one in seen],
            [one.reconstruction for one in seen],
            scores,
            None
            if all(plane is None for plane in planes)
            else [
                np.ones(one.margin.shape, bool) if plane is None else plane
                for one, plane in zip(seen, planes, strict=True)
            ],
            [picture.plane for picture in pictures],
        )


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
    if not test.roi.is_given:
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
        gathered(None)  # see `gather_totals`
        sums = multihost_utils.process_allgather(sums).sum(axis=0)
    return float(sums[0] / sums[1]) if sums[1] else 1.0
