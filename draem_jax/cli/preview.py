"""`draem-jax preview`."""

from pathlib import Path
from typing import Any

from absl import flags

from draem_jax.cli.common import (
    Verb,
    check_smallest_defect,
    define_path,
    define_smallest_defect,
    say,
)
from draem_jax.errors import UserError
from draem_jax.files import expand


def _define(values: flags.FlagValues) -> None:
    define_path(values, "out", "preview.png", "Where the sheet goes, a .png.")
    flags.DEFINE_integer(
        "rows", 8, "Samples on the sheet.", lower_bound=1, upper_bound=64, flag_values=values
    )
    define_smallest_defect(values)


def _run(values: Any) -> None:
    from draem_jax.cli.scale import tell_advice
    from draem_jax.inspection.preview import preview_samples
    from draem_jax.inspection.seen import advise_on, draw_seen
    from draem_jax.reports.pictures import write_png
    from draem_jax.training.parallel import use_cpu_devices

    if Path(values.out).suffix.lower() != ".png":
        raise UserError(f"--out={values.out} must end in .png")
    check_smallest_defect(values)
    _check_apart(Path(values.out), values.config.data)
    use_cpu_devices(1)
    defect = values.smallest_defect
    advice = None if defect is None else advise_on(values.config, defect)
    seen = draw_seen(values.config, smallest_defect=defect)
    preview = preview_samples(values.config, rows=values.rows)
    write_png(values.out, preview.sheet)
    print(f"wrote {values.out}")
    if preview.looked_at < 1:
        print(f"looked at: {100 * preview.looked_at:.3g} % of these pictures, on average")
    beside = Path(values.out).with_name(f"{Path(values.out).stem}_seen.png")
    write_png(beside, seen)
    print(f"wrote {beside}: a picture beside what the networks see of it")
    if advice:
        say("\n".join(tell_advice(advice)))


def _check_apart(out: Path, data: Any) -> None:
    """Raises UserError where the sheet would be read as a picture of the data set later."""
    from draem_jax.data.texture_sources import parse_texture_sources

    textures = parse_texture_sources(data.texture_source)
    for folder in (data.root, data.roi, *(source.name for source in textures if source.is_folder)):
        if folder and expand(folder).resolve() in out.resolve().parents:
            raise UserError(
                f"--out={out} lies in {folder}, where it would be taken for one of the pictures "
                "later; write the sheet elsewhere"
            )


VERB = Verb(
    "preview",
    "Draw a sheet of simulated anomalies, to judge a recipe by eye.",
    """\
    Draws normal pictures, the same with simulated anomalies, the masks, and what changed:
    the first samples that training would see, had none of them to stay untouched. Where a part
    of the pictures alone is looked at (config.data.roi), it shows which.

    Another picture beside the sheet, with _seen in its name, shows a normal picture beside what the
    networks see of it: the whole, or one of its tiles. With --smallest_defect it shows how large
    that is there, and a scale is recommended.

      draem-jax preview --config=configs/quickstart.py --out=sheet.png
      draem-jax preview --config=configs/quickstart.py --config.anomalies.opacity=0.1,0.5
      draem-jax preview --config=configs/folder.py --config.data.root=photos/ --smallest_defect=12
    """,
    _define,
    _run,
    config="run",
)
