"""What a user shows a trained detector: pictures to accept, and defects with their masks."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, UInt8

from draem_jax.data.checks import check_headers
from draem_jax.data.depth import AUTO, Depth, tell_outside
from draem_jax.data.facts import tell_masks
from draem_jax.data.fitting import Fitting
from draem_jax.data.folders import find_pictures_in
from draem_jax.data.layouts import Problem
from draem_jax.data.layouts.defects import list_defects
from draem_jax.data.names import shuffled
from draem_jax.data.pictures import read_decoded, read_mask
from draem_jax.data.roi import EVERYWHERE, Roi, both
from draem_jax.errors import UserError

LEAST_HELD_OUT = 4
"""Fewer pictures than this are not held out: a share of them would say little."""


@dataclass(frozen=True)
class Examples:
    """Pictures that were given, as canvases: see `draem_jax.data.fitting`.

    Attributes:
        accepted: pictures on which nothing is a defect, RGB. Where they are seen in tiles, there is
            nothing behind those that are smaller than the largest.
        accepted_names: of them.
        defects: pictures with defects, RGB; likewise.
        masks: true on the defects.
        defect_names: "<type>/<name>" of them.
        notes: what was left out of the folders, and how they were read, one line each.
        accepted_planes: true where to look in the accepted pictures, see `draem_jax.data.roi`; None
            for everywhere.
        defect_planes: the same of the defects.
        accepted_sizes: (height, width) of the accepted pictures' canvases; None where all are of
            one size.
        defect_sizes: the same of the defects.
    """

    accepted: UInt8[np.ndarray, "A H W 3"]
    accepted_names: tuple[str, ...]
    defects: UInt8[np.ndarray, "D H W 3"]
    masks: Bool[np.ndarray, "D H W"]
    defect_names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    accepted_planes: Bool[np.ndarray, "A H W"] | None = None
    defect_planes: Bool[np.ndarray, "D H W"] | None = None
    accepted_sizes: Int[np.ndarray, "A 2"] | None = None
    defect_sizes: Int[np.ndarray, "D 2"] | None = None

    @property
    def nbytes(self) -> int:
        """Memory that the pictures take, with their masks and planes."""
        planes = (self.accepted_planes, self.defect_planes)
        pictures = self.accepted.nbytes + self.defects.nbytes + self.masks.nbytes
        return pictures + sum(plane.nbytes for plane in planes if plane is not None)

    def digest(self) -> str:
        """A digest of names and pixels, which is the same for the same pictures only."""
        digest = hashlib.sha256(repr((self.accepted_names, self.defect_names)).encode())
        for array in (self.accepted, self.defects, self.masks):
            digest.update(repr(array.shape).encode() + array.tobytes())
        return digest.hexdigest()

    def divide(self, share: float) -> tuple["Examples", "Examples"]:
        """Divides the pictures into those to learn from and those to measure with.

        Which ones are held out depends on their names alone. Accepted pictures and defects are
        divided apart; where the share of either is less than `LEAST_HELD_OUT` pictures, none of
        them are held out.

        Args:
            share: to hold out of the accepted ones and of the defects, in [0, 1).

        Returns:
            Those to learn from, and those held out.
        """
        accepted = _held_out(self.accepted_names, share)
        defects = _held_out(self.defect_names, share)
        return self._take(~accepted, ~defects), self._take(accepted, defects)

    def _take(
        self, accepted: Bool[np.ndarray, " A"], defects: Bool[np.ndarray, " D"]
    ) -> "Examples":
        def take(array: Any, which: np.ndarray) -> Any:
            return None if array is None else array[which]

        return Examples(
            self.accepted[accepted],
            tuple(np.array(self.accepted_names, object)[accepted]),
            self.defects[defects],
            self.masks[defects],
            tuple(np.array(self.defect_names, object)[defects]),
            self.notes,
            take(self.accepted_planes, accepted),
            take(self.defect_planes, defects),
            take(self.accepted_sizes, accepted),
            take(self.defect_sizes, defects),
        )


def read_examples(
    accept: str | Path | None,
    defects: str | Path | None,
    *,
    size: tuple[int, int],
    full_scale: int | None = None,
    depth: Depth = AUTO,
    roi: Roi = EVERYWHERE,
    fitting: Fitting | None = None,
) -> Examples:
    """Reads accepted pictures and labelled defects.

    Args:
        accept: a folder of pictures, folders within it included, or None.
        defects: a folder of defects with masks, see `draem_jax.data.layouts.defects`, or None.
        size: (height, width) that the networks see; of a mask, each pixel takes the nearest one's
            value.
        full_scale: the value that is white in pictures with more than 8 bits a channel, that of
            the normal pictures, see `draem_jax.data.loading.StoredPictures`.
        depth: that the normal pictures were read with, see `draem_jax.data.depth`.
        roi: where to look in them. Of defects, what is marked outside is left out.
        fitting: how all are brought to the networks; squeezed to `size` if None.

    Raises:
        UserError: neither is given, a folder holds no pictures, one cannot be read, or a mask is
            missing, of another size than its picture, or without any defect, here or as the
            networks see it; or see `Roi.plane`, `Fitting.content_size`.
    """
    fitting = fitting or Fitting(size)
    if not accept and not defects:
        raise UserError(
            "there is nothing to learn from; give --accept=DIR (pictures without defects), "
            "--defects=DIR (pictures of defects with masks), or both"
        )
    accepted, accepted_names, notes = [], [], []
    accepted_planes: list[Any] = []
    defect_planes: list[Any] = []
    highest: list[int | None] = []
    if accept:
        root = Path(accept).expanduser()
        given = find_pictures_in(root)
        notes += _tell_left_out(root, given.left_out)
        for path in given.paths:
            decoded = read_decoded(path, full_scale=full_scale)
            highest.append(decoded.highest)
            accepted.append(fitting.fit(decoded.picture))
            accepted_planes.append(_plane(roi, path, decoded.picture, fitting))
            accepted_names.append(path.relative_to(root).as_posix() if path != root else path.name)
    defective, masks, defect_names, types = [], [], [], []
    outside: list[str] = []
    if defects:
        root = Path(defects).expanduser()
        listing = check_headers(list_defects(root))
        notes += [*_tell_left_out(root, listing.left_out), *listing.notes]
        if listing.problems:
            raise _tell(listing.problems)
        for entry in listing.entries:
            parts = [read_mask(path) for path in entry.masks]
            mask = np.logical_or.reduce(parts)
            if not mask.any():
                raise UserError(
                    f"the mask {entry.masks[0]} marks no defect; mark it, or move the picture to "
                    "the accepted ones"
                )
            fitted = fitting.fit_plane(mask, mask.shape)
            if fitted is None or not fitted.any():
                height, width = fitting.content_size(mask.shape)
                larger = "scale" if fitting.is_tiled else "image_size"
                raise UserError(
                    f"the defect in {entry.masks[0]} is too small to be left at the {height} x "
                    f"{width} pixels that the networks see; leave the picture out, or train at "
                    f"a larger config.data.{larger}"
                )
            decoded = read_decoded(entry.path, full_scale=full_scale)
            highest.append(decoded.highest)
            picture = fitting.fit(decoded.picture)
            plane = _plane(roi, entry.path, decoded.picture, fitting)
            mask = both(fitted, plane)
            if not mask.any():
                outside.append(entry.name)
                accepted.append(picture)
                accepted_planes.append(plane)
                accepted_names.append(entry.name)
                continue
            defective.append(picture)
            defect_planes.append(plane)
            masks.append(mask)
            defect_names.append(entry.name)
            types.append(entry.defect_type)
        if outside:
            notes.append(
                f"the whole defect lies outside of the region of interest in {len(outside)} of the "
                f"pictures ({outside[0]} first), which are learned as accepted ones"
            )
        notes += tell_masks(zip(types, masks, strict=True))
    notes += tell_outside(highest, full_scale=full_scale, depth=depth)
    # Where there is a region of interest, all have planes; else those do that are padded.
    have_planes = [
        roi.has_planes or any(plane is not None for plane in planes)
        for planes in (accepted_planes, defect_planes)
    ]
    return Examples(
        _stack(accepted, (*size, 3), np.uint8),
        tuple(accepted_names),
        _stack(defective, (*size, 3), np.uint8),
        _stack(masks, size, bool),
        tuple(defect_names),
        tuple(notes),
        _stack(_everywhere(accepted_planes, accepted), size, bool) if have_planes[0] else None,
        _stack(_everywhere(defect_planes, defective), size, bool) if have_planes[1] else None,
        _sizes(accepted) if fitting.is_tiled else None,
        _sizes(defective) if fitting.is_tiled else None,
    )


def _plane(
    roi: Roi, path: Path, picture: UInt8[np.ndarray, "h w 3"], fitting: Fitting
) -> Bool[np.ndarray, "H W"] | None:
    """Where to look in a picture's canvas; None for everywhere."""
    name = path.with_suffix("").as_posix()
    plane = fitting.fit_plane(roi.plane_of(name, picture), picture.shape[:2])
    if plane is not None and not plane.any():
        raise roi.too_small(name, plane.shape)
    return plane


def _everywhere(planes: Sequence[Any], canvases: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The planes of pictures of which some are looked at everywhere."""
    return [
        np.ones(canvas.shape[:2], bool) if plane is None else plane
        for plane, canvas in zip(planes, canvases, strict=True)
    ]


def _sizes(canvases: Sequence[np.ndarray]) -> Int[np.ndarray, "N 2"]:
    return np.array([canvas.shape[:2] for canvas in canvases], np.int32).reshape(-1, 2)


def _tell_left_out(folder: Path, left_out: Mapping[str, int]) -> list[str]:
    return [f"left out of {folder}: {count} {kind}" for kind, count in left_out.items()]


def _tell(problems: Sequence[Problem]) -> UserError:
    more = f"; and {len(problems) - 1} more" if len(problems) > 1 else ""
    return UserError(f"{problems[0].text}{more}")


def _stack(arrays: Sequence[np.ndarray], least: tuple[int, ...], dtype: type) -> np.ndarray:
    """Arrays as one of the largest's size, zero behind those that are smaller.

    Args:
        arrays: pictures or planes.
        least: the shape that each has at least.
        dtype: of all.
    """
    shape = np.max([least, *(array.shape for array in arrays)], axis=0)
    stack = np.zeros((len(arrays), *shape), dtype)
    for to, array in zip(stack, arrays, strict=True):
        height, width = array.shape[:2]
        to[:height, :width] = array
    return stack


def _held_out(names: Sequence[str], share: float) -> Bool[np.ndarray, " N"]:
    """Which of the pictures are held out."""
    count = round(share * len(names))
    chosen = set(shuffled(names)[:count]) if count >= LEAST_HELD_OUT else set()
    return np.array([name in chosen for name in names], bool)
