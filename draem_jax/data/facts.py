"""What is known of a data set once its files have been read, and what of that the user is told.

The facts are kept with the prepared data, as JSON, so that the same lines can be told whenever the
data are used: by `data prepare`, `data check`, training and evaluation alike.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from draem_jax.data.depth import AUTO, Depth
from draem_jax.data.layouts.entries import GOOD, Counts, Entry, Listing
from draem_jax.data.pictures import Header, Stored

LARGE = 50_000_000
"""Pixels from which on it is told how much memory a picture takes."""

_BYTES_A_PIXEL = 13  # while a picture is read; measured

_DARK, _BRIGHT = 16, 239  # values below and above which a picture is nearly black or white
_NEARLY_ALL = 0.999
_SAMPLED = 128  # rows and columns of a picture whose values are looked at, about
_NAMED = 3  # pictures that a line names; the others are counted


class Look(NamedTuple):
    """What is noted of one picture when it is read.

    Attributes:
        entry: which picture it is.
        digest: of what is stored: equal for equal pictures, whatever file they are kept in.
        nbytes: of its file.
        highest: the highest value where it has more than 8 bits a channel, else None.
        opacity_ignored: whether it was transparent everywhere.
        dark: the share of its values that are nearly black.
        bright: the share of its values that are nearly white.
        even: whether it is of one single colour.
        white: whether that is white.
        covered: the share of it that its mask covers; None of a good picture or without a mask.
        edge: the share of its outermost pixels that its mask covers; None as for `covered`.
    """

    entry: Entry
    digest: str
    nbytes: int
    highest: int | None
    opacity_ignored: bool
    dark: float
    bright: float
    even: bool
    white: bool
    covered: float | None
    edge: float | None


def look_at(entry: Entry, stored: Stored, mask: Bool[np.ndarray, "H W"] | None) -> Look:
    """Notes what there is to note of a picture.

    Args:
        entry: which picture it is.
        stored: the picture.
        mask: the union of its masks; None where it has none.
    """
    picture = stored.decoded.picture
    steps = [max(1, side // _SAMPLED) for side in picture.shape[:2]]
    sample = picture[:: steps[0], :: steps[1]]
    first = picture[0, 0]
    even = bool((sample == first).all() and (picture == first).all())
    marked = None if entry.defect_type == GOOD else mask
    return Look(
        entry=entry,
        digest=_digest(stored),
        nbytes=stored.nbytes,
        highest=stored.decoded.highest,
        opacity_ignored=stored.decoded.opacity_ignored,
        dark=float(np.mean(sample < _DARK)),
        bright=float(np.mean(sample > _BRIGHT)),
        even=even,
        white=even and bool((first == 255).all()),
        covered=None if marked is None else float(marked.mean()),
        edge=None if marked is None else float(_edge(marked).mean()),
    )


def gather_facts(
    looks: Sequence[Look],
    *,
    listing: Listing,
    headers: Sequence[Header],
    depth: Depth,
    full_scale: int | None,
    highest: int | None,
) -> dict[str, Any]:
    """The facts to keep, all of them JSON.

    Args:
        looks: at the pictures that can be used, in their order.
        listing: of the data set, with all that was found wrong among its problems.
        headers: of the pictures.
        depth: the depth that was asked for.
        full_scale: the value that is white in pictures with more than 8 bits a channel, see
            `draem_jax.data.depth`.
        highest: the highest value of such pictures; None where there are none.
    """
    splits = {split: [k for k in looks if k.entry.split == split] for split in ("train", "test")}
    large = [math.prod(header.size) for header in headers if math.prod(header.size) >= LARGE]
    many = [header.pages for header in headers if header.pages > 1]
    even = [look for look in looks if look.even]
    return {
        "names": {split: [k.entry.name for k in part] for split, part in splits.items()},
        "digests": {split: [k.digest for k in part] for split, part in splits.items()},
        "sizes": {split: [k.nbytes for k in part] for split, part in splits.items()},
        "types": dict(Counter(k.entry.defect_type for k in splits["test"])),
        "without_mask": sum(not k.entry.has_mask for k in looks),
        "empty_masks": sum(k.covered == 0 for k in looks),
        "covering": _find_covering(
            (k.entry.defect_type, k.covered, k.edge)
            for k in looks
            if k.covered is not None and k.edge is not None
        ),
        "skipped": dict(Counter(problem.kind for problem in listing.problems)),
        "left_out": dict(listing.left_out),
        "notes": list(listing.notes),
        "depth": str(depth),
        "full_scale": full_scale,
        "highest": highest,
        "deep": sum(k.highest is not None for k in looks),
        "opacity_ignored": sum(k.opacity_ignored for k in looks),
        "paged": {"files": len(many), "pages": sum(many)},
        "large": {"files": len(large), "pixels": max(large, default=0)},
        "even": [k.entry.name for k in even],
        "white": sum(k.white for k in even),
        "dark": _mean([k.dark for k in splits["train"]]) >= _NEARLY_ALL,
        "bright": _mean([k.bright for k in splits["train"]]) >= _NEARLY_ALL,
    }


def tell_masks(masks: Iterable[tuple[str, Bool[np.ndarray, "H W"]]]) -> list[str]:
    """What `tell_facts` says of masks that seem to mark the background.

    Args:
        masks: each with the type of its defect.
    """
    shares = [(kind, float(mask.mean()), float(_edge(mask).mean())) for kind, mask in masks]
    return _tell_covering(_find_covering(shares))


def counts_of(facts: Mapping[str, Any]) -> Counts:
    """The numbers that are published for the known data sets."""
    good = facts["types"].get(GOOD, 0)
    return Counts(len(facts["names"]["train"]), good, sum(facts["types"].values()) - good)


def tell_facts(facts: Mapping[str, Any], published: Counts | None) -> list[str]:
    """What the user should know before trusting figures, one line each.

    Args:
        facts: as `gather_facts` gives them; those that were not gathered count as unremarkable.
        published: the published numbers of pictures, if they are known.
    """
    counts = counts_of(facts)
    lines = list(facts.get("notes", ()))
    if published is not None and published != counts:
        lines.append(
            f"{_say_counts(counts)} were found, {_say_counts(published)} are "
            "published; figures cannot be compared with published ones"
        )
    lines += [f"skipped: {count} x {kind}" for kind, count in facts.get("skipped", {}).items()]
    if published is None or published != counts:  # else it was published so
        lines += [f"left out: {count} {kind}" for kind, count in facts.get("left_out", {}).items()]
    return lines + _tell_masks(facts) + _tell_values(facts) + _tell_files(facts)


def _tell_masks(facts: Mapping[str, Any]) -> list[str]:
    lines = []
    if count := facts.get("without_mask", 0):
        lines.append(
            f"{count} defective pictures have no mask; they count for whole pictures only, not for "
            "pixels"
        )
    if count := facts.get("empty_masks", 0):
        lines.append(f"{count} defective pictures have a mask without any defect")
    return lines + _tell_covering(facts.get("covering"))


def _tell_values(facts: Mapping[str, Any]) -> list[str]:
    lines = []
    full_scale, highest = facts.get("full_scale"), facts.get("highest")
    if full_scale and highest is not None and highest > full_scale:
        lines.append(
            f"{facts['deep']} pictures have more than 8 bits a channel and values up to {highest}, "
            f"but {full_scale} is taken for white: what is brighter is cut off; "
            "config.data.depth sets another range"
        )
    elif full_scale and facts["depth"] == AUTO and full_scale != 65535:
        lines.append(
            f"{facts['deep']} pictures have more than 8 bits a channel and values up to {highest}: "
            f"{full_scale.bit_length()} bits are taken for their range, so that {full_scale} is "
            "white; config.data.depth sets another"
        )
    for key, name, where in (
        ("dark", "black", f"below {_DARK}"),
        ("bright", "white", f"above {_BRIGHT}"),
    ):
        if facts.get(key):
            deep = ", and config.data.depth" if facts.get("deep") else ""
            lines.append(
                f"the pictures to train on are nearly {name}: {100 * _NEARLY_ALL:g} % of their "
                f"values are {where} of 255; check how they were taken and converted{deep}"
            )
    if even := facts.get("even"):
        named = ", ".join(even[:_NAMED]) + (f" and {len(even) - _NAMED} more") * (
            len(even) > _NAMED
        )
        white = f", {facts['white']} of them white" * bool(facts["white"])
        lines.append(
            f"{len(even)} pictures are of one single colour{white} ({named}); take them away if "
            "they show nothing"
        )
    return lines


def _tell_files(facts: Mapping[str, Any]) -> list[str]:
    lines = []
    if count := facts.get("opacity_ignored", 0):
        lines.append(
            f"{count} pictures are transparent everywhere; their opacity (alpha channel) is ignored"
        )
    paged = facts.get("paged", {"files": 0})
    if paged["files"]:
        lines.append(
            f"{paged['files']} files hold {paged['pages']} pages; the first of each is read, and "
            f"{paged['pages'] - paged['files']} are left out: save as single pictures what is to "
            "be used"
        )
    large = facts.get("large", {"files": 0})
    if large["files"]:
        memory = _BYTES_A_PIXEL * large["pixels"] / 1e9
        lines.append(
            f"{large['files']} pictures have {LARGE / 1e6:g} million pixels or more, up to "
            f"{large['pixels'] / 1e6:.0f} million: reading one takes about {memory:.1f} GB of "
            "memory, and several are read at a time"
        )
    return lines


def _find_covering(masks: Iterable[tuple[str, float, float]]) -> dict[str, Any] | None:
    """The types of defects whose masks seem to mark the background, if there are any.

    A mask does so where it covers more than half of its picture and of its edges; a type, where
    more than half of its masks do. Without such a type, all do where the median covers more than
    half of its picture.

    Args:
        masks: of each the type, and the shares of its picture and of its edges that it covers.
    """
    shares: dict[str, list[float]] = {}
    suspect: Counter[str] = Counter()
    for kind, covered, edge in masks:
        shares.setdefault(kind, []).append(covered)
        suspect[kind] += covered > 0.5 and edge > 0.5
    types = [kind for kind, all_covered in shares.items() if 2 * suspect[kind] > len(all_covered)]
    chosen = [share for kind in types or shares for share in shares[kind]]
    if not chosen or median(chosen) <= 0.5:
        return None
    return {
        "types": types if len(types) < len(shares) else [],
        "share": median(chosen),
        "masks": len(chosen),
    }


def _tell_covering(covering: Mapping[str, Any] | None) -> list[str]:
    if not covering:
        return []
    of = f" of {', '.join(covering['types'])}" if covering["types"] else ""
    return [
        f"the masks{of} cover {100 * covering['share']:.0f} % of their pictures (median of "
        f"{covering['masks']}), as if they marked the background: all that is not 0 (black) "
        "counts as defect; if it should not, invert the masks or make their background black"
    ]


def _edge(mask: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, " N"]:
    return np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])


def _digest(stored: Stored) -> str:
    """Of the file where it is kept as it was, else of the pixels, however they are packed."""
    digest = hashlib.blake2b(digest_size=16)
    if stored.decoded.plain:
        digest.update(stored.content)
    else:
        digest.update(repr(stored.decoded.picture.shape).encode())
        digest.update(stored.decoded.picture.tobytes())
    return digest.hexdigest()


def _mean(shares: Sequence[float]) -> float:
    return fmean(shares) if shares else 0.0


def _say_counts(counts: Counts) -> str:
    return f"{counts.train} to train, {counts.good} good and {counts.defective} defective to test"
