"""What is said of the smallest defect: what is left of it, and which scale suits it."""

from collections.abc import Callable, Iterator

from draem_jax.data.fitting import Fitting
from draem_jax.data.scale import WANTED, Advice, Outcome, Sizes, Spread, kept_text
from draem_jax.data.tiles import usual_overlap


def tell_advice(advice: Advice) -> Iterator[str]:
    """What is left of the smallest defect, and what is recommended, a line each."""
    configured, usual, recommended = advice.configured, advice.usual, advice.recommended
    yield f"pictures: {_sizes(advice.sizes)} pixels (width x height)"
    yield f"smallest defect: {advice.smallest_defect:g} pixels across in them; {_wanted(advice)}"
    if configured.fitting != usual.fitting:
        yield f"as configured, {_outcome(configured, advice)}"
    yield _outcome(usual, advice)
    chosen = _config_flags(recommended.fitting, configured)
    keeps = f"it keeps {_spread(recommended.kept, kept_text)} pixels"
    yield f"recommended: {chosen}, where {keeps}"
    if recommended.fitting != usual.fitting:
        yield _cost(recommended, usual)


def _wanted(advice: Advice) -> str:
    if advice.smallest_defect >= WANTED:
        return f"the networks should see {WANTED:g} or more of them"
    return (
        f"the networks should see {WANTED:g}, so scale 1 is the best there is, unless pictures are "
        "taken from nearer"
    )


def _outcome(outcome: Outcome, advice: Advice) -> str:
    if outcome.kept.least >= advice.wanted:
        enough = "enough" if advice.wanted < advice.smallest_defect else "all of it"
    else:
        enough = "too few" + " in some pictures" * (outcome.kept.most >= advice.wanted)
    return f"{_way(outcome.fitting)}: it keeps {_spread(outcome.kept, kept_text)} pixels, {enough}"


def _cost(outcome: Outcome, usual: Outcome) -> str:
    seen = "whole"
    if outcome.fitting.is_tiled:
        tiles = outcome.tiles
        seen = f"in {_spread(tiles, '{:.0f}'.format)} tile{'s' * (tiles.most > 1)}"
        seen += f" that share {outcome.overlap} pixels or more" * (tiles.most > 1)
    times = f"{outcome.cost:.1f}" if outcome.cost < 9.95 else f"{outcome.cost:.0f}"
    longer = "" if times == "1.0" else f"{times.removesuffix('.0')} times "
    return (
        f"a picture is seen {seen} then; evaluation takes about {longer}as long as "
        f"{_way(usual.fitting)}"
    )


def _way(fitting: Fitting) -> str:
    size = _size(fitting.size)
    if fitting.is_tiled:
        return f"in tiles of {size} at scale {fitting.scale:g}"
    return f"{'letterboxed' if fitting.way == 'letterbox' else 'squeezed'} to {size}"


def _config_flags(chosen: Fitting, configured: Outcome) -> str:
    """What makes the chosen way of the configured one; fields that would contradict it as well."""
    height, width = chosen.size
    size = f"{height}" if height == width else f"{height},{width}"
    if chosen.is_tiled:
        fields = {"tile": size, "scale": f"{chosen.scale:g}"}
    else:
        fields = {"image_size": size}
        if configured.fitting.is_tiled:
            fields |= {"tile": "0", "scale": "1"}
    if configured.fitting.is_tiled and configured.overlap != usual_overlap(configured.fitting.size):
        fields["tile_overlap"] = "-1"
    if configured.fitting.way == "letterbox":
        fields["fit"] = "squeeze"
    return " ".join(f"--config.data.{name}={value}" for name, value in fields.items())


def _sizes(sizes: Sizes) -> str:
    if sizes.smallest == sizes.largest:
        return _size(sizes.typical)
    return f"{_size(sizes.smallest)} to {_size(sizes.largest)}, typically {_size(sizes.typical)}"


def _size(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"


def _spread(spread: Spread, text: Callable[[float], str]) -> str:
    least, typical, most = map(text, spread)
    return least if least == most else f"{least} to {most} (typically {typical})"
