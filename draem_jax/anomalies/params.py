"""Every number of the anomaly generator, in one tree of traced leaves."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, get_type_hints

import jax

from draem_jax.errors import UserError

# A float; JAX puts tracers and placeholders of its own in its place, so it cannot be stricter.
Number = Any
Range = tuple[Number, Number]

MAX_PERLIN_EXPONENT = 6


@dataclasses.dataclass(frozen=True)
class _Within:
    """Marks a field with the values that it can hold."""

    low: float
    high: float
    whole: bool = False


_NOT_NEGATIVE = _Within(0.0, float("inf"))
_SHARE = _Within(0.0, 1.0)
_LEVELS = _Within(-255.0, 255.0)
_WHOLE_LEVELS = _Within(-255.0, 255.0, whole=True)
_EXPONENT = _Within(0.0, float(MAX_PERLIN_EXPONENT), whole=True)
_ANY = _Within(float("-inf"), float("inf"))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class OperationWeights:
    """How readily each texture operation is drawn, relative to the others.

    Three distinct operations are drawn for a sample, one after the other, each in proportion to
    the weights of those that are left. An operation of weight 0 is never drawn; with fewer than
    three weights above 0, that many operations are applied, so all weights at 0 leaves the texture
    as it is.
    """

    gamma_contrast: Annotated[Number, _NOT_NEGATIVE] = 1.0
    brightness: Annotated[Number, _NOT_NEGATIVE] = 1.0
    sharpness: Annotated[Number, _NOT_NEGATIVE] = 1.0
    hue_and_saturation: Annotated[Number, _NOT_NEGATIVE] = 1.0
    solarize: Annotated[Number, _NOT_NEGATIVE] = 1.0
    posterize: Annotated[Number, _NOT_NEGATIVE] = 1.0
    invert: Annotated[Number, _NOT_NEGATIVE] = 1.0
    autocontrast: Annotated[Number, _NOT_NEGATIVE] = 1.0
    equalize: Annotated[Number, _NOT_NEGATIVE] = 1.0
    rotate: Annotated[Number, _NOT_NEGATIVE] = 1.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class TextureParams:
    """The ranges that the texture operations draw from; "levels" are of 0 to 255.

    Attributes:
      gamma: exponent of the gamma contrast, drawn for each channel.
      brightness_factor: what brightness is multiplied by.
      brightness_shift: what is added to brightness, levels.
      sharpness: 0 smooths, 1 changes nothing, 2 sharpens.
      hue_shift: levels, 255 for a full turn; whole numbers.
      saturation_shift: levels; whole numbers.
      solarize_share: how often a drawn solarize acts; otherwise it leaves the texture as it is.
      solarize_threshold: levels; values from here on are inverted.
      posterize_bits: bits a channel keeps; whole numbers.
      autocontrast_cutoff: percent of the pixels cut at each end; whole numbers.
      rotation: degrees, clockwise.
      weights: how readily each operation is drawn.
    """

    gamma: Annotated[Range, _NOT_NEGATIVE] = (0.5, 2.0)
    brightness_factor: Annotated[Range, _NOT_NEGATIVE] = (0.8, 1.2)
    brightness_shift: Annotated[Range, _LEVELS] = (-30.0, 30.0)
    sharpness: Annotated[Range, _NOT_NEGATIVE] = (0.0, 2.0)
    hue_shift: Annotated[Range, _WHOLE_LEVELS] = (-50.0, 50.0)
    saturation_shift: Annotated[Range, _WHOLE_LEVELS] = (-50.0, 50.0)
    solarize_share: Annotated[Number, _SHARE] = 0.5
    solarize_threshold: Annotated[Range, _Within(0.0, 256.0)] = (32.0, 128.0)
    posterize_bits: Annotated[Range, _Within(1.0, 8.0, whole=True)] = (1.0, 8.0)
    autocontrast_cutoff: Annotated[Range, _Within(0.0, 49.0, whole=True)] = (0.0, 20.0)
    rotation: Annotated[Range, _ANY] = (-45.0, 45.0)
    weights: OperationWeights = dataclasses.field(default_factory=OperationWeights)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class AnomalyParams:
    """The numbers of the anomaly generator.

    A pytree whose leaves are floats: passed to a compiled function they are traced, so other
    numbers run the same program. Give floats, not integers, which would compile once more. A pair
    is a range that is drawn from uniformly, both ends included for whole numbers; equal ends fix
    the value. The defaults are the authors' code's, see `code` and `paper`.

    Attributes:
      untouched_share: how often a sample stays as it is, in [0, 1].
      opacity: weight of the texture inside the mask, in [0, 1]; the image has the rest. The paper's
        β is this weight. The code's β is the weight of the image, so its U(0, 0.8) is
        (0.2, 1.0) here.
      threshold: the mask stands where the Perlin noise, in about [-1, 1], is above this.
      perlin_exponent: the noise has 2^k cells along an axis, k drawn for each axis; whole numbers
        from 0 to 6.
      noise_rotation: degrees by which the noise is turned, its corners filled with 0.
      normal_rotation_share: how often `rotate_normals` turns an image, in [0, 1].
      normal_rotation: degrees by which it turns it, its corners filled with black.
      texture: the texture operations' numbers.
    """

    untouched_share: Annotated[Number, _SHARE] = 0.5
    opacity: Annotated[Range, _SHARE] = (0.2, 1.0)
    threshold: Annotated[Range, _ANY] = (0.5, 0.5)
    perlin_exponent: Annotated[Range, _EXPONENT] = (0.0, 5.0)
    noise_rotation: Annotated[Range, _ANY] = (-90.0, 90.0)
    normal_rotation_share: Annotated[Number, _SHARE] = 0.3
    normal_rotation: Annotated[Range, _ANY] = (-90.0, 90.0)
    texture: TextureParams = dataclasses.field(default_factory=TextureParams)

    @classmethod
    def code(cls) -> AnomalyParams:
        """The recipe of the authors' code."""
        return cls()

    @classmethod
    def paper(cls) -> AnomalyParams:
        """The recipe of the paper, as far as it gives one.

        It says that the threshold is drawn uniformly but not from which range: here (0.25, 0.75),
        around the code's 0.5. What it does not say at all is taken from the code.
        """
        return cls(opacity=(0.1, 1.0), threshold=(0.25, 0.75), normal_rotation=(-45.0, 45.0))

    @classmethod
    def from_dict(
        cls, values: Mapping[str, Any], *, base: AnomalyParams | None = None
    ) -> AnomalyParams:
        """Builds the numbers from a plain, possibly nested mapping, such as a config's.

        Args:
          values: by field name; a range is a pair of numbers, `texture` and its `weights` are
            mappings themselves.
          base: where the fields that are not named come from; the code's recipe by default.

        Raises:
          UserError: a field that does not exist, or a value that it cannot hold.

        Example:
          >>> AnomalyParams.from_dict({"opacity": (0.5, 1.0)}).opacity
          (0.5, 1.0)
        """
        return _replace(cls() if base is None else base, values, path="")


def _replace(params: Any, values: Mapping[str, Any], *, path: str) -> Any:
    """`params` with the named fields replaced, checked, and converted to floats."""
    fields = [field.name for field in dataclasses.fields(params)]
    hints = get_type_hints(type(params), include_extras=True)
    changes = {}
    for name, value in values.items():
        full_name = f"{path}{name}"
        if name not in fields:
            raise UserError(
                f"the anomaly generator has no number {full_name!r}; "
                f"known are {', '.join(path + known for known in fields)}"
            )
        current = getattr(params, name)
        if dataclasses.is_dataclass(current):
            if not isinstance(value, Mapping):
                raise UserError(f"{full_name} must be a mapping of its fields, not {value!r}")
            changes[name] = _replace(current, value, path=f"{full_name}.")
        else:
            changes[name] = _checked(full_name, value, current, hints[name].__metadata__[0])
    return dataclasses.replace(params, **changes)


def _checked(name: str, value: Any, current: Any, within: _Within) -> Any:
    """A float, or a pair of them where the current value is one, that the field can hold."""
    is_range = isinstance(current, tuple)
    try:
        numbers = tuple(float(number) for number in value) if is_range else (float(value),)
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != (2 if is_range else 1):
        kind = "a pair of numbers (lowest, highest)" if is_range else "a number"
        raise UserError(f"{name} must be {kind}, not {value!r}")
    if not all(within.low <= number <= within.high for number in numbers):
        raise UserError(f"{name} must lie from {within.low:g} to {within.high:g}, not {value!r}")
    if numbers[0] > numbers[-1]:
        raise UserError(f"{name} must give its lowest value first, not {value!r}")
    if within.whole and not all(number.is_integer() for number in numbers):
        raise UserError(f"{name} must be whole numbers, not {value!r}")
    return numbers if is_range else numbers[0]
