"""What a fine-tuned detector was made from: noted when tuning begins, and held to ever after."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from draem_jax import files
from draem_jax.errors import UserError
from draem_jax.hosts.joining import is_first

# What is raised where a file holds other things than were written to it.
_DAMAGED = (ValueError, KeyError, TypeError, AttributeError, OverflowError)


@dataclass(frozen=True)
class TunedFrom:
    """The run that was tuned, and what it was shown.

    Attributes:
        workdir: the work directory of the run, absolute.
        step: the step of the checkpoint that was taken.
        accept: the folder of pictures on which nothing is a defect, absolute; "" for none.
        defects: the folder of defects with masks, absolute; "" for none.
    """

    workdir: str
    step: int
    accept: str = ""
    defects: str = ""

    @classmethod
    def note(
        cls,
        workdir: str | Path,
        step: int,
        *,
        accept: str | Path | None,
        defects: str | Path | None,
    ) -> TunedFrom:
        """Notes it by paths that hold wherever the command is given again."""
        return cls(
            files.absolute_path(workdir),
            step,
            *(files.absolute_path(path) if path else "" for path in (accept, defects)),
        )

    @classmethod
    def load(cls, workdir: Path) -> TunedFrom | None:
        """What a run was made from; None if it was not fine-tuned.

        Raises:
            UserError: the file is damaged.
        """
        path = workdir / "tuned_from.json"
        try:
            if path.is_file():
                return cls._from_dict(files.parse_json(path.read_text(encoding="utf-8")))
            # Runs that were begun before there was such a file have it in their config.
            path = workdir / "config.json"
            stored = files.parse_json(path.read_text(encoding="utf-8")) if path.is_file() else {}
            known = stored.get("tuned_from", {})
            return cls._from_dict(known) if known.get("workdir") else None
        except (OSError, *_DAMAGED) as error:
            raise UserError(
                f"{path} is damaged, so that it cannot be told what {workdir} was tuned from; "
                "restore it, or tune anew in another --out-workdir"
            ) from error

    @classmethod
    def _from_dict(cls, stored: dict[str, Any]) -> TunedFrom:
        return cls(
            str(stored["workdir"]),
            int(stored["step"]),
            str(stored["accept"]),
            str(stored["defects"]),
        )

    def hold_to(self, workdir: Path, *, started: bool) -> None:
        """Notes what a run begins with, or makes sure that one that goes on has the same.

        Args:
            workdir: the work directory of the fine-tuned run.
            started: whether the run goes on.

        Raises:
            UserError: it was made from something else.
        """
        if not is_first():
            return
        before = TunedFrom.load(workdir) if started else None
        if before is not None and before != self:
            was, now = dataclasses.asdict(before), dataclasses.asdict(self)
            changed = [
                f"{name}: {was[name] or 'none'} → {now[name] or 'none'}"
                for name in was
                if was[name] != now[name]
            ]
            raise UserError(
                f"{workdir} was tuned from something else ({'; '.join(changed)}); give the same "
                "to go on with it, or choose another --out-workdir"
            )
        if before is None:
            content = json.dumps(dataclasses.asdict(self), indent=1) + "\n"
            files.write_text(workdir / "tuned_from.json", content)
