"""The anomaly generator's numbers, in one tree of traced leaves, and its static choices."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args, get_type_hints

import jax

from draem_jax.anomalies.rotation import Corners
from draem_jax.errors import UserError

# A float; JAX puts tracers and placeholders of its own in its place, so it cannot be stricter.
Number = Any
Range = tuple[Number, Number]

MaskShape = Literal[
    "perlin",
    "rectangles",
    "union",
    "intersection",
    "magnitude",
    "scar",
    "foreground",
    "crack",
    "spots",
    "mixed",
]
MaskPlace = Literal["anywhere", "foreground"]
Blend = Literal["alpha", "poisson"]
Contrast = Literal["plain", "subtle"]

MAX_PERLIN_EXPONENT = 6
MAX_RECTANGLES = 8
MAX_CRACK_BRANCHES = 4
MAX_SPOTS = 8
MAX_FEATHER = 4
MAX_BLOCK_EXPONENT = 4


@dataclasses.dataclass(frozen=True)
class _Within:
    """Marks a field with the values that it can hold."""

    low: float
    high: float
    whole: bool = False


@dataclasses.dataclass(frozen=True)
class _OneOf:
    """Marks a field with the words that it can hold."""

    words: tuple[str, ...]


_NOT_NEGATIVE = _Within(0.0, float("inf"))
_SHARE = _Within(0.0, 1.0)
_LEVELS = _Within(-255.0, 255.0)
_WHOLE_LEVELS = _Within(-255.0, 255.0, whole=True)
_EXPONENT = _Within(0.0, float(MAX_PERLIN_EXPONENT), whole=True)
_COUNT = _Within(1.0, float(MAX_RECTANGLES), whole=True)
_BRANCHES = _Within(0.0, float(MAX_CRACK_BRANCHES), whole=True)
_SPOTS = _Within(1.0, float(MAX_SPOTS), whole=True)
_BLOCKS = _Within(0.0, float(MAX_BLOCK_EXPONENT), whole=True)
_FEATHER = _Within(0.0, float(MAX_FEATHER))
_LOG_SHARE = _Within(1e-6, 1.0)
_AT_LEAST_1 = _Within(1.0, float("inf"))
_ANY = _Within(float("-inf"), float("inf"))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class OperationWeights:
    """How readily each texture operation is drawn, relative to the others.

    `TextureParams.operations` distinct operations are drawn for a sample, one after the other, each
    in proportion to the weights of those that are left. An operation of weight 0 is never drawn;
    where fewer weights are above 0, that many operations are applied, so all weights at 0 leaves
    the texture as it is. The fields are the names in `texture_operations.OPERATIONS`.
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


MAX_OPERATIONS = len(dataclasses.fields(OperationWeights))
_OPERATIONS = _Within(0.0, float(MAX_OPERATIONS), whole=True)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class TextureParams:
    """How a texture is made and changed; "levels" are of 0 to 255.

    Attributes:
        operations: how many are applied to a texture, a whole number up to that of all there are.
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
        block_exponent: of the source "blocks", which cuts the picture into 2^k × 2^k; whole numbers
            from 0 to 4.
        shift: of the source "elsewhere": how far away the other place is along each axis, as a
            share of the picture's side.
    """

    operations: Annotated[Number, _OPERATIONS] = 3.0
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
    block_exponent: Annotated[Range, _BLOCKS] = (1.0, 3.0)
    shift: Annotated[Range, _SHARE] = (0.25, 0.75)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class ShapeWeights:
    """How readily mask=mixed draws each shape, relative to the others.

    The fields are names in `masks.MASKS`: of the shapes that need no other shape's number, and that
    are not two Perlin masks.
    """

    perlin: Annotated[Number, _NOT_NEGATIVE] = 2.0
    rectangles: Annotated[Number, _NOT_NEGATIVE] = 0.0
    magnitude: Annotated[Number, _NOT_NEGATIVE] = 0.0
    scar: Annotated[Number, _NOT_NEGATIVE] = 0.0
    crack: Annotated[Number, _NOT_NEGATIVE] = 1.0
    spots: Annotated[Number, _NOT_NEGATIVE] = 1.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class ShapeParams:
    """The numbers of mask shapes other than the plain Perlin mask; see `masks`.

    Attributes:
        rectangles: how many are drawn, which may overlap; whole numbers from 1 to 8.
        rectangle_side: height and width of a rectangle, each as a share of the picture's.
        intersection_threshold: takes the place of `AnomalyParams.threshold` where two Perlin masks
            are intersected, which at 0.5 would leave next to nothing.
        magnitude_threshold: the mask stands where the noise's absolute value is above this.
        scar_length: as a share of the picture's shorter side.
        scar_width: as a share of the picture's shorter side; at least √2 pixels are drawn.
        scar_rotation: degrees from the horizontal, clockwise.
        foreground_border: a picture has a background if at least this share of its frame is
            background; see `foreground`.
        crack_length: from end to end before it bends, as a share of the picture's shorter side.
        crack_width: pixels in its middle, falling to 1 or to two fifths at its ends.
        crack_branches: how many leave it; whole numbers from 0 to 4.
        crack_roughness: 0 for a straight scratch, 1 for a crack that wanders and is jagged.
        spots: how many there are, which may overlap; whole numbers from 1 to 8.
        spot_area: as a share of the picture's, drawn log-uniformly.
        spot_elongation: length over width.
        spot_roughness: by which share of the radius the outline is uneven at most, about.
        weights: how readily mask=mixed draws each shape.
    """

    rectangles: Annotated[Range, _COUNT] = (1.0, 4.0)
    rectangle_side: Annotated[Range, _SHARE] = (0.02, 0.3)
    intersection_threshold: Annotated[Range, _ANY] = (0.2, 0.2)
    magnitude_threshold: Annotated[Range, _NOT_NEGATIVE] = (0.45, 0.75)
    scar_length: Annotated[Range, _SHARE] = (0.1, 0.5)
    scar_width: Annotated[Range, _SHARE] = (0.008, 0.03)
    scar_rotation: Annotated[Range, _ANY] = (-90.0, 90.0)
    foreground_border: Annotated[Number, _SHARE] = 0.9
    crack_length: Annotated[Range, _SHARE] = (0.15, 0.8)
    crack_width: Annotated[Range, _NOT_NEGATIVE] = (1.0, 4.0)
    crack_branches: Annotated[Range, _BRANCHES] = (0.0, 3.0)
    crack_roughness: Annotated[Range, _SHARE] = (0.0, 1.0)
    spots: Annotated[Range, _SPOTS] = (1.0, 4.0)
    spot_area: Annotated[Range, _LOG_SHARE] = (0.00025, 0.01)
    spot_elongation: Annotated[Range, _AT_LEAST_1] = (1.0, 2.5)
    spot_roughness: Annotated[Range, _SHARE] = (0.2, 0.8)
    weights: ShapeWeights = dataclasses.field(default_factory=ShapeWeights)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class SubtleParams:
    """The numbers of anomalies that hardly differ from the picture, for contrast=subtle.

    Each share is drawn apart from the others. With these defaults, samples are those of
    contrast=plain but for other random numbers.

    Attributes:
        opacity_share: how often `subtle.opacity` takes the place of `opacity`.
        opacity: weight of the texture inside the mask, drawn log-uniformly.
        matched_share: how often a texture's mean colour is moved to the picture's inside the mask.
        matched_shift: added to a texture that was moved there, levels.
        shaded_share: how often the picture itself, brighter or darker, takes the texture's place.
        shade_factor: what the picture is multiplied by.
        shade_shift: what is then added to it, levels.
        feather: pixels over which the opacity falls to half at the mask's border; 0 for hard ones.
        label_threshold: levels by which some channel of a labelled pixel differs from the normal
            picture's at least; 0 labels the whole mask. What is empty then is normal.
    """

    opacity_share: Annotated[Number, _SHARE] = 0.0
    opacity: Annotated[Range, _LOG_SHARE] = (0.05, 0.3)
    matched_share: Annotated[Number, _SHARE] = 0.0
    matched_shift: Annotated[Range, _LEVELS] = (-20.0, 20.0)
    shaded_share: Annotated[Number, _SHARE] = 0.0
    shade_factor: Annotated[Range, _NOT_NEGATIVE] = (0.7, 1.3)
    shade_shift: Annotated[Range, _LEVELS] = (-15.0, 15.0)
    feather: Annotated[Range, _FEATHER] = (0.0, 0.0)
    label_threshold: Annotated[Number, _Within(0.0, 255.0)] = 0.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class AnomalyParams:
    """What the anomaly generator does.

    A pytree whose leaves are floats: passed to a compiled function they are traced, so other
    numbers run the same program. Give floats, not integers, which would compile once more. `mask`,
    `place`, `blend`, `contrast` and `normal_corners` are no leaves but part of the tree's form:
    another word is another program. A pair is a range that is drawn from uniformly, both ends
    included for whole numbers; equal ends fix the value. The defaults are the authors' code's, see
    `code` and `paper`.

    Attributes:
        mask: the shape of masks; see `masks.MASKS`.
        place: "anywhere", or "foreground" to keep of a mask of any shape what lies on the object;
            see `masks.PLACES`.
        blend: "alpha" mixes texture and image by the opacity; "poisson" also shifts the mixture
            smoothly so that it meets the image at the mask's border; see `blending.BLENDS`.
        contrast: "plain" puts a texture on the image by the opacity; "subtle" heeds the numbers of
            `subtle` as well; see `contrast.CONTRASTS`.
        untouched_share: how often a sample stays as it is, in [0, 1].
        opacity: weight of the texture inside the mask, in [0, 1]; the image has the rest. The
            paper's β is this weight. The code's β is the weight of the image, so its U(0, 0.8) is
            (0.2, 1.0) here.
        threshold: the mask stands where the Perlin noise, in about [-1, 1], is above this.
        perlin_exponent: the noise has 2^k cells along an axis, k drawn for each axis; whole numbers
            from 0 to 6.
        noise_rotation: degrees by which the noise is turned, its corners filled with 0.
        normal_rotation_share: how often `rotate_normals` turns an image, in [0, 1].
        normal_rotation: degrees by which the image is turned.
        normal_corners: what fills the corners of turned images: "black", as in the authors' code;
            "reflect", the image mirrored at its sides, so that no edge is there to be learned.
        normal_flip_share: how often `rotate_normals` mirrors an image, along each axis, in [0, 1].
        normal_brightness: what `brighten_normals_with_keys` multiplies an image by.
        texture: the textures' numbers.
        shapes: the numbers of other mask shapes.
        subtle: the numbers of anomalies that hardly differ from the picture.
    """

    mask: Annotated[MaskShape, _OneOf(get_args(MaskShape))] = dataclasses.field(
        default="perlin", metadata={"static": True}
    )
    place: Annotated[MaskPlace, _OneOf(get_args(MaskPlace))] = dataclasses.field(
        default="anywhere", metadata={"static": True}
    )
    blend: Annotated[Blend, _OneOf(get_args(Blend))] = dataclasses.field(
        default="alpha", metadata={"static": True}
    )
    contrast: Annotated[Contrast, _OneOf(get_args(Contrast))] = dataclasses.field(
        default="plain", metadata={"static": True}
    )
    untouched_share: Annotated[Number, _SHARE] = 0.5
    opacity: Annotated[Range, _SHARE] = (0.2, 1.0)
    threshold: Annotated[Range, _ANY] = (0.5, 0.5)
    perlin_exponent: Annotated[Range, _EXPONENT] = (0.0, 5.0)
    noise_rotation: Annotated[Range, _ANY] = (-90.0, 90.0)
    normal_rotation_share: Annotated[Number, _SHARE] = 0.3
    normal_rotation: Annotated[Range, _ANY] = (-90.0, 90.0)
    normal_corners: Annotated[Corners, _OneOf(get_args(Corners))] = dataclasses.field(
        default="black", metadata={"static": True}
    )
    normal_flip_share: Annotated[Number, _SHARE] = 0.0
    normal_brightness: Annotated[Range, _NOT_NEGATIVE] = (1.0, 1.0)
    texture: TextureParams = dataclasses.field(default_factory=TextureParams)
    shapes: ShapeParams = dataclasses.field(default_factory=ShapeParams)
    subtle: SubtleParams = dataclasses.field(default_factory=SubtleParams)

    @classmethod
    def code(cls) -> AnomalyParams:
        """The recipe of the authors' code."""
        return cls()

    def with_plain_normals(self) -> AnomalyParams:
        """The same anomalies on normal images as they are."""
        return dataclasses.replace(
            self,
            normal_rotation_share=0.0,
            normal_flip_share=0.0,
            normal_brightness=(1.0, 1.0),
        )

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
            values: by field name; a range is a pair of numbers; `texture`, `shapes`, the
                `weights` of both, and `subtle` are mappings themselves.
            base: where the fields that are not named come from; the code's recipe by default.

        Raises:
            UserError: a field that does not exist, a value that it cannot hold, mask=mixed of no
                shape, or numbers of `subtle` that contrast=plain would not heed.

        Example:
            >>> AnomalyParams.from_dict({"opacity": (0.5, 1.0)}).opacity
            (0.5, 1.0)
        """
        params = _replace(cls() if base is None else base, values, path="")
        if params.mask == "mixed" and not any(dataclasses.astuple(params.shapes.weights)):
            raise UserError("mask=mixed needs one of shapes.weights.* above 0")
        if params.contrast == "plain" and params.subtle != SubtleParams():
            raise UserError("subtle.* acts with contrast=subtle alone; choose it as well")
        return params


def _replace(params: Any, values: Mapping[str, Any], *, path: str) -> Any:
    """`params` with the named fields replaced and checked, numbers converted to floats."""
    fields = [field.name for field in dataclasses.fields(params)]
    hints = get_type_hints(type(params), include_extras=True)
    changes = {}
    for name, value in values.items():
        full_name = f"{path}{name}"
        if name not in fields:
            raise UserError(
                f"the anomaly generator has no field {full_name!r}; "
                f"known are {', '.join(path + known for known in fields)}"
            )
        current = getattr(params, name)
        allowed: Any = getattr(hints[name], "__metadata__", (None,))[0]
        if dataclasses.is_dataclass(current):
            if not isinstance(value, Mapping):
                raise UserError(f"{full_name} must be a mapping of its fields, not {value!r}")
            changes[name] = _replace(current, value, path=f"{full_name}.")
        elif isinstance(allowed, _OneOf):
            if value not in allowed.words:
                raise UserError(
                    f"{full_name} must be one of {', '.join(allowed.words)}, not {value!r}"
                )
            changes[name] = value
        else:
            changes[name] = _checked(full_name, value, current, allowed)
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
