"""Work directories and output folders from elsewhere: their JSON, and what is saved beside it."""

import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.fuzz.promise import Target


def _prepare() -> None:
    from draem_jax import config, thresholds  # noqa: F401
    from draem_jax.inspection import journal, types  # noqa: F401
    from draem_jax.pytorch import importing  # noqa: F401
    from draem_jax.training import checkpoints, trained_on, tuned_from, workdir  # noqa: F401


def _dump(value: Any) -> bytes:
    return json.dumps(value).encode()


def _config(content: bytes, folder: Path) -> None:
    from draem_jax import config as configs

    path = folder / "config.json"
    path.write_bytes(content)
    config = configs.from_json(path)
    configs.check_config(config)
    configs.fitting(config)
    configs.data_set(config)
    configs.region_of_interest(config)
    configs.with_absolute_paths(config)
    configs.differences(config, configs.default_config())


def _configs() -> list[bytes]:
    from draem_jax.config import default_config, to_json

    odd: list[Any] = [
        {"seed": "x"}, {"seed": 1.5}, {"data": 3}, {"data": {"image_size": 5}}, {"model": None},
        {"data": {"image_size": [[1], {}]}}, {"train": {"steps": None}}, [], 3, {"losses": {}},
        {"model": {"reconstructive_width": 10**12}}, {"anomalies": {"masks": ["x"]}},
        {"optimizer": {"learning_rate": float("nan")}}, {"data": {"depth": [1]}},
        *({"data": {field: "a" * 300}} for field in ("root", "roi", "texture_source")),
    ]  # fmt: skip
    return [to_json(default_config()).encode(), *map(_dump, odd), b"[" * 5000, b'{"a":' * 3000]


def _thresholds(content: bytes, folder: Path) -> None:
    import numpy as np

    from draem_jax.thresholds import Thresholds, pixel_threshold

    path = folder / "thresholds.json"
    path.write_bytes(content)
    loaded = Thresholds.load(path)
    loaded.p_values(np.array([0.5]))
    for alpha in (0.01, 0.5):
        loaded.image_threshold(alpha)
        loaded.guarantee(alpha)
        loaded.warning(alpha)
        pixel_threshold(loaded, alpha=alpha)
    loaded.save(folder / "again.json")


def _threshold_files() -> list[bytes]:
    from draem_jax.scores import DEFAULT_SCORE
    from draem_jax.thresholds import Thresholds

    made = Thresholds(DEFAULT_SCORE, (0.1, 0.2), (-1.0, 2.0), 0.3, 0.1, 4, 2, {"step": 4})
    bare = Thresholds(DEFAULT_SCORE, (), ())
    return [_saved(thresholds.save) for thresholds in (made, bare)]


def _saved(save: Callable[[Path], None]) -> bytes:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "file"
        save(path)
        return path.read_bytes()


def _types(content: bytes, folder: Path) -> None:
    import numpy as np

    from draem_jax.inspection.types import TypeModel

    path = folder / "types.json"
    path.write_bytes(content)
    model = TypeModel.load(path)
    with np.errstate(all="ignore"):
        model.name_regions(np.zeros((2, len(model.names))))
    model.save(folder / "again.json")


def _type_files() -> list[bytes]:
    fields = {
        "format": "draem_jax types", "version": 1, "types": ["a", "b"], "names": ["x", "y"],
        "temperature": 1.0, "distances": [0.1, 0.2], "unknown_rate": 0.1, "made_from": {"step": 1},
        "classifier": {
            "centre": [0.0, 1.0], "scale": [1.0, 2.0], "weights": [1.0, 1.0],
            "coefficients": [[0.0, 0.0], [1.0, 1.0]], "intercepts": [0.0, 0.5],
            "regions": [[0.0, 0.0], [1.0, 1.0]], "region_types": [0, 1],
            "region_weights": [1.0, 1.0],
        },
    }  # fmt: skip
    return [_dump(fields), _dump({**fields, "distances": [[1], 2]}), b"[" * 5000]


def _notes(content: bytes, folder: Path, *, name: str) -> None:
    """What a work directory notes of where it comes from."""
    from draem_jax.pytorch.importing import ImportedFrom
    from draem_jax.training.trained_on import TrainedOn
    from draem_jax.training.tuned_from import TunedFrom

    (folder / name).write_bytes(content)
    if name == "data.json":
        noted = TrainedOn.load(folder)
        assert noted is not None
        noted.differences(TrainedOn({"good/1": "x"}, {}, ""))
        assert noted.paths is not None
    elif name == "imported.json":
        imported = ImportedFrom.load(folder)
        assert imported is not None
        imported.save(folder)
    else:
        tuned = TunedFrom.load(folder)
        if tuned is not None:
            TunedFrom("/a", 1).hold_to(folder, started=True)


_NOTES = {
    "data.json": {
        "training": {"good/1": "x"}, "held_out": {"good/2": "y"}, "textures": "z",
        "full_scale": 4095, "roi": "",
    },
    "imported.json": {
        "kind": "authors", "files": {"reconstructive": "/a"}, "sha256": {"reconstructive": "00"},
        "order": {}, "batches": {"reconstructive": {"n": 3}},
    },
    "tuned_from.json": {"workdir": "/a", "step": 1, "accept": "", "defects": ""},
    "config.json": {"tuned_from": {"workdir": "/a", "step": 1, "accept": "", "defects": ""}},
}  # fmt: skip


def _note_seeds(name: str) -> list[bytes]:
    odd: list[Any] = [[], None, {"training": [1]}, {"full_scale": 1e999}, {"tuned_from": []}, "x"]
    return [_dump(_NOTES[name]), *map(_dump, odd), b"[" * 5000]


def _journal(content: bytes, folder: Path) -> None:
    from draem_jax.inspection import record
    from draem_jax.inspection.journal import Journal

    out = folder / "out"
    out.mkdir()
    (out / "journal.jsonl").write_bytes(content)
    journal = Journal(out / "journal.jsonl", {"step": 1})
    for entry in journal.entries.values():
        for kind in ("maps", "masks"):
            place = out / kind / entry.output
            assert ".." not in place.parts, f"outside: {place}"
            assert place.is_relative_to(out / kind), f"outside: {place}"
    tables = record.Tables(out)
    tables.begin(journal.records)
    record.write_coco(out, journal.records)
    record.count(journal.records())


def _journals() -> list[bytes]:
    from draem_jax.inspection.record import COLUMNS

    head = {"format": "predict --watch 1", "step": 1}
    region = [["a", "1"], {"bbox": [0, 0, 1, 1], "area": 1}, [[0, 0, 1, 1]], {"counts": [1]}, "t"]
    row = ["a.png", "0.5", "0.1", "1", *[""] * (len(COLUMNS) - 4)]
    record = {
        "name": "a.png", "row": row, "size": [4, 5], "regions": [region], "highest": None,
        "is_small": False, "notes": ["n"], "error": "",
    }  # fmt: skip
    line = {"file": "a.png", "bytes": 10, "mtime_ns": 5, "output": "a.png.png", "record": record}
    made = []
    for changes in (
        {}, {"output": "../../out.png"}, {"output": "/tmp/draem_jax_out.png"}, {"bytes": 1e999},
        {"record": {**record, "regions": [[1, 2, 3, 4, []]]}},
        {"record": {**record, "row": [1, None]}}, {"record": {**record, "size": ["x", {}]}},
        {"record": {**record, "error": 5}}, {"output": "a\0b"}, {"file": "\ud800"},
    ):  # fmt: skip
        made.append(b"".join(_dump(one) + b"\n" for one in (head, {**line, **changes})))
    return [*made, _dump(head) + b"\n" + b"[" * 5000 + b"\n", _dump(head)[:20], b"{}\n"]


def _metadata(content: bytes, folder: Path) -> None:
    """`_CHECKPOINT_METADATA` and `metrics.jsonl`, as far as nothing is restored."""
    from draem_jax.training import checkpoints

    step = folder / "checkpoints" / "4"
    step.mkdir(parents=True)
    (step / "_CHECKPOINT_METADATA").write_bytes(content)
    (folder / "metrics.jsonl").write_bytes(content)
    losses = checkpoints._read_losses(folder)
    checkpoints._best([4], losses)
    checkpoints.logged_losses(folder)


def _metadata_seeds() -> list[bytes]:
    facts = {"validation_loss": 0.5, "sha256": "00", "networks": {"step": "00"}}
    odd: list[Any] = [
        {"custom_metadata": [1]},
        {"custom_metadata": {"validation_loss": "x"}},
        [],
        1,
    ]
    lines = b'{"step": 4, "validation_loss": 0.5}\n{"step": 1e999, "validation_loss": 1}\n'
    return [_dump({"custom_metadata": facts}), *map(_dump, odd), lines, b"[" * 5000, b"\xff\n1"]


# What a tiny run saved, by the paths within its work directory; see `_prepare_run`.
_RUN: dict[str, bytes] = {}


def _prepare_run() -> None:
    from draem_jax.config import default_config
    from draem_jax.training.loop import train

    _prepare()
    if _RUN:
        return
    config = default_config()
    config.data.image_size = (32,)
    config.model.reconstructive_width = config.model.discriminative_width = 4
    config.optimizer.milestones = ()
    config.train.batch_size, config.train.steps, config.train.checkpoint_every = 2, 1, 1
    config.train.validation_pictures = 2
    with tempfile.TemporaryDirectory() as name:
        train(config, Path(name) / "run", quiet=True)
        keep_run(Path(name) / "run")


def keep_run(workdir: Path) -> None:
    """Takes a run for the one that is damaged; what only training needs is left out."""
    _RUN.clear()
    for path in sorted(workdir.rglob("*")):
        name = path.relative_to(workdir).as_posix()
        if path.is_file() and (name.startswith("checkpoints/") or name.endswith(".json")):
            _RUN[name] = path.read_bytes()


def _load(content: bytes, folder: Path) -> None:
    """Loads a run of which one file is damaged.

    The first byte chooses the file, three say where its damage begins and one of which kind it is;
    the others are what is written there.
    """
    from draem_jax.detector import Draem

    names = sorted(_RUN)
    chosen = names[content[0] % len(names)] if content else ""
    for name, kept in _RUN.items():
        path = folder / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name == chosen:
            place = int.from_bytes(content[1:4], "little") % (len(kept) + 1)
            how = content[4] % 3 if len(content) > 4 else 0
            tail = kept[place + len(content) - 5 :] if how else b""
            kept = content[5:] if how == 2 else kept[:place] + content[5:] + tail
        path.write_bytes(kept)
    Draem.load(folder / "run")


def _damages() -> list[bytes]:
    return [b"", *(bytes([n, 0, 0, 0, how]) + b"{}" for n in range(12) for how in range(3))]


TARGETS = (
    Target("config", "config.json", _configs, _config, 1 << 13, _prepare, is_json=True),
    Target(
        *("thresholds", "thresholds", _threshold_files, _thresholds),
        prepare=_prepare,
        is_json=True,
    ),
    Target("types", "types of defects", _type_files, _types, prepare=_prepare, is_json=True),
    *(
        Target(
            name.removesuffix(".json") if name != "config.json" else "tuned_config",
            f"{name}, of where a run comes from",
            functools.partial(_note_seeds, name),
            functools.partial(_notes, name=name),
            prepare=_prepare,
            is_json=True,
        )
        for name in _NOTES
    ),
    Target(
        *("journal", "the journal of a watched folder", _journals, _journal),
        prepare=_prepare,
        is_json=True,
    ),
    Target(
        *("metadata", "what is said of checkpoints", _metadata_seeds, _metadata),
        prepare=_prepare,
        is_json=True,
    ),
    Target("run", "a run with a damaged file", _damages, _load, prepare=_prepare_run),
)
