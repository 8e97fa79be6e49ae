"""What is known of a data set once its files have been read, and what of that the user is told.

The facts are kept with the prepared data, as JSON, so that the same lines can be told whenever the
data are used: by `data prepare`, `data check`, training and evaluation alike.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from draem_jax.data.depth import AUTO, Depth
from draem_jax.data.layouts.entries import GOOD, Counts, Entry, Listing
from draem_jax.data.pictures import Header, Stored, picture_header
from draem_jax.errors import UserError

LARGE = 50_000_000
"""The user is told how much memory it takes to read pictures of this many pixels or more."""

# While a picture is read, as measured; the latter with more than 8 bits a channel.
_BYTES_A_PIXEL, _BYTES_A_DEEP_PIXEL = 13, 28

_DARK, _BRIGHT = 16, 239  # values below and above which a picture is nearly black or white
_NEARLY_ALL = 0.999
_SAMPLED = 128  # rows and columns of a picture whose values are looked at, about
_NAMED = 3  # pictures that a line names; the others are counted


class PictureFacts(NamedTuple):
    """What is noted of one picture when it is read.

    Attributes:
        entry: which picture it is.
        size: its (height, width).
        digest: of what is stored: equal for equal pictures, whatever file they are kept in.
        nbytes: the size in bytes of its file.
        highest: the highest value where it has more than 8 bits a channel, else None.
        opacity_ignored: whether it was transparent everywhere.
        dark: the share of its values that are nearly black.
        bright: the share of its values that are nearly white.
        even: whether it is of one single colour.
        white: whether that is white.
        covered: the share of it that its mask covers; None of a normal picture or without a
            mask.
        edge: the share of its outermost pixels that its mask covers; None as for `covered`.
    """

    entry: Entry
    size: tuple[int, int]
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


def note_picture(
    entry: Entry, stored: Stored, mask: Bool[np.ndarray, "H W"] | None
) -> PictureFacts:
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
    return PictureFacts(
        entry=entry,
        size=picture.shape[:2],
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
    noted: Sequence[PictureFacts],
    *,
    listing: Listing,
    headers: Sequence[Header],
    depth: Depth,
    full_scale: int | None,
    highest: int | None,
) -> dict[str, Any]:
    """The facts to keep, all of them JSON.

    Args:
        noted: what was noted of each picture that can be used, in their order.
        listing: the listing of the data set, with all that was found wrong among its problems.
        headers: the headers of the pictures.
        depth: the depth that was asked for.
        full_scale: the value that is white in pictures with more than 8 bits a channel, see
            `draem_jax.data.depth`.
        highest: the highest value of such pictures; None where there are none.
    """
    splits = {split: [k for k in noted if k.entry.split == split] for split in ("train", "test")}
    shares = [
        (k.entry.defect_type, k.covered, k.edge)
        for k in noted
        if k.covered is not None and k.edge is not None
    ]
    even = [k for k in noted if k.even]
    return {
        "names": {split: [k.entry.name for k in part] for split, part in splits.items()},
        "digests": {split: [k.digest for k in part] for split, part in splits.items()},
        "sizes": {split: [k.nbytes for k in part] for split, part in splits.items()},
        "types": dict(Counter(k.entry.defect_type for k in splits["test"])),
        "without_mask": sum(not k.entry.has_mask for k in noted),
        "empty_masks": sum(k.covered == 0 for k in noted),
        "covering": _find_covering(shares),
        "some_covering": _find_some_covering(shares),
        "skipped": dict(Counter(problem.kind for problem in listing.problems)),
        "left_out": dict(listing.left_out),
        "notes": list(listing.notes),
        "depth": str(depth),
        "full_scale": full_scale,
        "highest": highest,
        "deep": sum(k.highest is not None for k in noted),
        "opacity_ignored": sum(k.opacity_ignored for k in noted),
        **_file_facts(headers),
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
    return _tell_covering(_find_covering(shares), _find_some_covering(shares))


def tell_pictures(paths: Iterable[Path], *, by_windows: bool = False) -> list[str]:
    """What `tell_facts` says of files that hold several pages, and of large pictures.

    Args:
        paths: the paths of pictures; those that cannot be read are passed over, as reading them
            will tell.
        by_windows: whether large ones are read by windows, so that there is nothing to say of them.
    """
    headers = []
    for path in paths:
        with suppress(UserError):
            headers.append(picture_header(path, turn=False))
    facts = _file_facts(headers)
    if by_windows:
        del facts["large"]
    return _tell_files(facts)


def counts_of(facts: Mapping[str, Any]) -> Counts:
    """The numbers of pictures, counted as the published ones are."""
    normal = facts["types"].get(GOOD, 0)
    return Counts(len(facts["names"]["train"]), normal, sum(facts["types"].values()) - normal)


def tell_facts(facts: Mapping[str, Any], published: Counts | None) -> list[str]:
    """What the user should know before trusting figures, one line each.

    Args:
        facts: as `gather_facts` gives them. Of what is missing, as in data that an older version
            prepared, nothing is said.
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
            f"{_many(count, 'defective picture has', 'defective pictures have')} no mask: the "
            "whole picture counts, but no pixels do"
        )
    if count := facts.get("empty_masks", 0):
        lines.append(
            f"{_many(count, 'defective picture has', 'defective pictures have')} a mask without "
            "any defect"
        )
    return lines + _tell_covering(facts.get("covering"), facts.get("some_covering"))


def _tell_values(facts: Mapping[str, Any]) -> list[str]:
    lines = []
    full_scale, highest = facts.get("full_scale"), facts.get("highest")
    deep = _many(facts.get("deep", 0), "picture has", "pictures have")
    if full_scale and highest is not None and highest > full_scale:
        lines.append(
            f"{deep} more than 8 bits a channel and values up to {highest}, but {full_scale} is "
            "taken for white: what is brighter is cut off; config.data.depth sets another range"
        )
    elif full_scale and facts["depth"] == AUTO and full_scale != 65535:
        lines.append(
            f"{deep} more than 8 bits a channel and values up to {highest}: "
            f"{full_scale.bit_length()} bits are taken for the range, so that {full_scale} is "
            "white; config.data.depth sets another"
        )
    for key, name, where in (
        ("dark", "black", f"below {_DARK}"),
        ("bright", "white", f"above {_BRIGHT}"),
    ):
        if facts.get(key):
            depth = ", and config.data.depth" if facts.get("deep") else ""
            lines.append(
                f"the pictures to train on are nearly {name}: {100 * _NEARLY_ALL:g} % of their "
                f"values are {where} of 255; check how they were taken and converted{depth}"
            )
    if even := facts.get("even"):
        named = ", ".join(even[:_NAMED]) + (f" and {len(even) - _NAMED} more") * (
            len(even) > _NAMED
        )
        white = f", {facts['white']} of {len(even)} white" * bool(facts["white"])
        lines.append(
            f"{_many(len(even), 'picture is', 'pictures are')} of one single colour{white} "
            f"({named}); take away what shows nothing"
        )
    return lines


def _tell_files(facts: Mapping[str, Any]) -> list[str]:
    lines = []
    if count := facts.get("opacity_ignored", 0):
        lines.append(
            f"{_many(count, 'picture is', 'pictures are')} transparent everywhere; the opacity "
            "(alpha channel) is ignored there"
        )
    paged = facts.get("paged", {"files": 0})
    if paged["files"]:
        lines.append(
            f"{_many(paged['files'], 'file holds', 'files hold')} {paged['pages']} pages; the "
            f"first of each is read, and {paged['pages'] - paged['files']} left out: save as "
            "single pictures what is to be used"
        )
    large = facts.get("large", {"files": 0})
    if large["files"]:
        lines.append(
            f"{_many(large['files'], 'picture has', 'pictures have')} {LARGE / 1e6:g} million "
            f"pixels or more, up to {large['pixels'] / 1e6:.0f} million: reading one takes about "
            f"{large['bytes'] / 1e9:.1f} GB of memory, and several are read at a time"
        )
    return lines


def _file_facts(headers: Sequence[Header]) -> dict[str, dict[str, int]]:
    large = [header for header in headers if math.prod(header.size) >= LARGE]
    many = [header.pages for header in headers if header.pages > 1]
    return {
        "paged": {"files": len(many), "pages": sum(many)},
        "large": {
            "files": len(large),
            "pixels": max((math.prod(header.size) for header in large), default=0),
            "bytes": max((_bytes_to_read(header) for header in large), default=0),
        },
    }


def _bytes_to_read(header: Header) -> int:
    return math.prod(header.size) * (_BYTES_A_DEEP_PIXEL if header.deep else _BYTES_A_PIXEL)


def _find_covering(masks: Iterable[tuple[str, float, float]]) -> dict[str, Any] | None:
    """The types of defects whose masks seem to mark the background, if there are any.

    A mask does so where `_covers` says it; a type, where more than half of its masks do. Without
    such a type, all do where the median covers more than half of its picture.

    Args:
        masks: of each the type, and the shares of its picture and of its edges that it covers.
    """
    shares: dict[str, list[float]] = {}
    suspect: Counter[str] = Counter()
    for kind, covered, edge in masks:
        shares.setdefault(kind, []).append(covered)
        suspect[kind] += _covers(covered, edge)
    types = [kind for kind, all_covered in shares.items() if 2 * suspect[kind] > len(all_covered)]
    chosen = [share for kind in types or shares for share in shares[kind]]
    if not chosen or median(chosen) <= 0.5:
        return None
    return {
        "types": types if len(types) < len(shares) else [],
        "share": median(chosen),
        "masks": len(chosen),
    }


def _find_some_covering(masks: Iterable[tuple[str, float, float]]) -> dict[str, Any] | None:
    """The masks that seem to mark the background where `_find_covering` speaks of none of them.

    One alone may be a large defect; from two on they are counted.

    Args:
        masks: as for `_find_covering`.
    """
    masks = list(masks)
    told = _find_covering(masks)
    rest = [mask for mask in masks if told and told["types"] and mask[0] not in told["types"]]
    rest = rest if told else masks
    count = Counter(kind for kind, covered, edge in rest if _covers(covered, edge))
    if count.total() < 2:
        return None
    return {"types": list(count), "covering": count.total(), "masks": len(rest)}


def _covers(covered: float, edge: float) -> bool:
    """Whether a mask covers more than half of its picture and of its edges."""
    return covered > 0.5 and edge > 0.5


def _tell_covering(covering: Mapping[str, Any] | None, some: Mapping[str, Any] | None) -> list[str]:
    remedy = (
        "more than defects do as a rule: all that is not 0 (black) counts as defect; if they mark "
        "the background, invert the masks or make their background black"
    )
    lines = []
    if covering:
        of = f" of {', '.join(covering['types'])}" if covering["types"] else ""
        lines.append(
            f"the masks{of} cover {100 * covering['share']:.0f} % of their pictures (median of "
            f"{covering['masks']}), {remedy}"
        )
    if some:
        lines.append(
            f"{some['covering']} of {some['masks']} masks cover more than half of their pictures "
            f"and of their edges ({', '.join(some['types'])}), {remedy}"
        )
    return lines


def _edge(mask: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, " N"]:
    return np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])


def _digest(stored: Stored) -> str:
    """Digest of the picture's file where that is stored untouched, else of its pixels."""
    digest = hashlib.sha256()
    if stored.decoded.plain:
        digest.update(stored.content)
    else:
        digest.update(repr(stored.decoded.picture.shape).encode())
        digest.update(stored.decoded.picture.tobytes())
    return digest.hexdigest()[:32]  # enough, and a data set may have many


def _many(count: int, one: str, more: str) -> str:
    return f"{count} {one if count == 1 else more}"


def _mean(shares: Sequence[float]) -> float:
    return fmean(shares) if shares else 0.0


def _say_counts(counts: Counts) -> str:
    return f"{counts.train} to train, {counts.normal} good and {counts.defective} defective to test"
