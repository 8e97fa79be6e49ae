"""What a run was trained on: noted when it begins, and held to ever after."""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from draem_jax import files
from draem_jax.data.loading import Part, StoredPictures, halves
from draem_jax.data.names import natural_key
from draem_jax.errors import UserError
from draem_jax.hosts.joining import is_first
from draem_jax.hosts.talking import from_first, gathered, who

_LOG = logging.getLogger("draem_jax")


@dataclass(frozen=True)
class TrainedOn:
    """The pictures that a run was begun with.

    Attributes:
        training: digests of the normal pictures that are trained on, by name; "" where a built-in
            picture has none.
        held_out: the same of those that are kept from training.
        textures: a digest of the textures' names and sizes or contents.
        full_scale: see `draem_jax.data.loading.StoredPictures`.
        roi: a digest of the masks that say where to look, see `draem_jax.data.roi.Roi`; "" where
            there are none.
    """

    training: Mapping[str, str]
    held_out: Mapping[str, str]
    textures: str
    full_scale: int | None = None
    roi: str = ""

    @property
    def paths(self) -> list[str]:
        """Paths of all of them within the data set, see `StoredPictures.path`."""
        return [f"train/{name}" for name in (*self.training, *self.held_out)]

    @classmethod
    def load(cls, workdir: Path) -> TrainedOn | None:
        """What a run noted; None if it was begun before runs did.

        Raises:
            UserError: the file is damaged.
        """
        path = workdir / "data.json"
        if not path.is_file():
            return None
        try:
            stored = files.parse_json(path.read_text(encoding="utf-8"))
            return cls(
                _texts(stored["training"]),
                _texts(stored["held_out"]),
                str(stored["textures"]),
                None if stored["full_scale"] is None else int(stored["full_scale"]),
                str(stored.get("roi", "")),
            )
        except (OSError, ValueError, KeyError, TypeError, OverflowError, AttributeError) as error:
            raise UserError(
                f"{path} is damaged, so that it cannot be told what the run was trained on; "
                "restore it, or delete it to go on without"
            ) from error

    def save(self, workdir: Path) -> None:
        """Writes `WORKDIR/data.json`."""
        content = json.dumps(dataclasses.asdict(self), indent=1) + "\n"
        files.write_text(workdir / "data.json", content)

    def differences(self, now: TrainedOn) -> list[str]:
        """What has changed since, for people."""
        before = {**self.training, **self.held_out}
        there = {**now.training, **now.held_out}
        changes = [
            _count(names, f" {what}")
            for what, names in (
                ("added", [name for name in there if name not in before]),
                ("gone", [name for name in before if name not in there]),
                ("changed", [n for n in there if n in before and there[n] != before[n]]),
            )
            if names
        ]
        if self.full_scale != now.full_scale:
            changes = [f"white was {self.full_scale} in deep pictures, and is {now.full_scale}"]
        elif not changes and self.training.keys() != now.training.keys():
            changes.append("others are held out")
        if self.textures != now.textures:
            changes.append("the textures of config.data.texture_source have changed")
        if self.roi != now.roi:
            changes.append("what the masks of config.data.roi mark has changed")
        return changes

    def take(self, source: StoredPictures, part: Part) -> StoredPictures:
        """Of all normal pictures there are now, those of a part of the run's.

        What was added or has changed since was not trained on and not held out, so it is in no
        part; a warning is logged once.

        Args:
            source: all normal pictures.
            part: see `draem_jax.data.loading.Part`.

        Raises:
            UserError: the part had pictures, and none of them is left.
        """
        now, known = digests_of(source), {**self.training, **self.held_out}
        for line in _changes(known, now):
            _warn_once(line)
        wanted = list(self.training) if part == "training" else halves(self.held_out)[part]
        left = {name for name in wanted if now.get(name) == known[name]}
        if wanted and not left:
            raise UserError(
                f"none of the {len(wanted)} normal pictures that the run "
                f"{'was trained on' if part == 'training' else 'held out from training'} is left "
                "unchanged; restore them, or train anew in another --workdir"
            )
        return source.take([i for i, name in enumerate(source.names) if name in left])


def _texts(stored: Any) -> dict[str, str]:
    return {str(name): str(digest) for name, digest in stored.items()}


def digests_of(source: StoredPictures) -> dict[str, str]:
    """The digest of each picture by its name, "" where it has none."""
    return dict(zip(source.names, source.digests or [""] * len(source), strict=True))


def hold_to_data(workdir: Path, now: TrainedOn, *, started: bool) -> None:
    """Notes what a run begins with, or makes sure that one that goes on has the same.

    Processes that train together do this together, and make sure that all have the same.

    Args:
        workdir: the work directory of the run.
        now: what there is now.
        started: whether the run goes on.

    Raises:
        UserError: something has changed.
    """
    if is_first():
        _hold_first(workdir, now, started=started)
    first = from_first(dataclasses.asdict(now) if is_first() else None)
    for process, changes in gathered([who(), TrainedOn(**first).differences(now)]):
        if changes:
            raise UserError(
                f"the data on {process} are not those of process 0: {', '.join(changes)}; make "
                "them the same on all hosts"
            )


def _hold_first(workdir: Path, now: TrainedOn, *, started: bool) -> None:
    before = TrainedOn.load(workdir) if started else None
    if before is not None and (changes := before.differences(now)):
        raise UserError(
            f"the data are not those that {workdir} was begun with: {', '.join(changes)}; restore "
            "them to go on, or train anew in another --workdir"
        )
    if before is None:
        now.save(workdir)


def _changes(known: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    if added := [name for name in now if name not in known]:
        yield (
            f"{_count(added)} came after the run had begun; it was not trained on what is new, "
            "which is left out"
        )
    if lost := [name for name, digest in known.items() if now.get(name) != digest]:
        yield f"{_count(lost)} of the run's are gone or have changed, and are left out"


def _count(names: Collection[str], what: str = "") -> str:
    first, more = min(names, key=natural_key), len(names) - 1
    pictures = "normal pictures" if more else "normal picture"
    return f"{len(names)} {pictures}{what} ({first}{f' and {more} more' if more else ''})"


@functools.cache
def _warn_once(line: str) -> None:
    _LOG.warning(line)
