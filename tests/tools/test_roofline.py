"""What the roofline reads in compiled programs, held to sums made by hand."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from draem_jax.config import default_config
from draem_jax.training.parallel import AXIS_NAME
from tools.roofline import __main__ as command
from tools.roofline import compilers
from tools.roofline.devices import DEVICES
from tools.roofline.hlo import parse_module, read_arrays
from tools.roofline.kernels import Kernel, read_kernels
from tools.roofline.memory import fullest_moment
from tools.roofline.parts import OTHER, RULES
from tools.roofline.programs import PARTS
from tools.roofline.report import totals_by_part

ROOT = Path(__file__).parents[2]
SMALL = Path(__file__).with_name("small.hlo")
X, MADE, KERNEL = 2 * 8 * 8 * 3, 2 * 8 * 8 * 4, 4 * 3 * 3 * 3  # numbers in each


def test_each_part_has_the_sums_made_by_hand():
    kernels = read_kernels(parse_module(SMALL.read_text()), passes=3)
    found = {
        part: (total.kernels, total.nbytes, total.flop)
        for part, total in totals_by_part(kernels, DEVICES["h100"]).items()
    }
    products = 2 * MADE * 3 * 3 * 3
    assert found == {
        # Read picture, kernel in bfloat16; write activations. Room to work in does not count.
        "convolutions, forward": (1, 2 * X + 2 * KERNEL + 2 * MADE, products),
        "convolutions, backward": (1, 2 * X + 2 * MADE + 2 * KERNEL, products),
        "kernels' casts and layouts": (1, 4 * KERNEL + 2 * KERNEL, 0),
        "pooling, forward": (1, 2 * MADE + 2 * MADE // 4, 0),
        # Without a name of its own; two results.
        "optimiser": (1, (4 + 4 + 2) * KERNEL + (4 + 4) * KERNEL, 0),
        "copies": (1, (4 + 4) * KERNEL, 0),
        # Three passes: of a hundred pictures two are taken by two indices; a count goes up by a
        # constant, and is compared with one.
        "generator": (9, 3 * ((X + X + 2 * 4) + (4 + 4 + 4) + (4 + 4 + 1)), 0),
    }


def test_the_fullest_moment_has_the_sum_made_by_hand():
    held = fullest_moment(parse_module(SMALL.read_text()))
    # While the weight gradient is made: activations, pooled ones, its result. The kernel in
    # bfloat16 has been taken, and what becomes the new state lies in the arguments' place.
    names = {one.maker for one in held if one.array.size}
    assert names == {"conv.1", "pooled", "conv.2"}
    assert sum(one.array.size for one in held) == 2 * MADE + 2 * MADE // 4 + 2 * KERNEL


def test_tiles_are_filled_up_and_faster_memory_is_no_traffic():
    tiled, fast, plain = read_arrays(
        "(bf16[2,8,20,3]{3,2,1,0:T(8,128)(2,1)}, f32[100]{0:T(1024)S(1)}, /*index=2*/pred[])"
    )
    assert tiled.size == tiled.traffic == 2 * 8 * 24 * 128 * 2
    assert fast.size == 1024 * 4
    assert fast.traffic == 0
    assert plain.size == 1


FUSED_CONVOLUTION = """\
HloModule jit_outputs, is_scheduled=true

%within (param_0: bf16[2,8,8,128], param_1: f32[3,3,128,256]) -> bf16[2,8,8,256] {
  %param_0 = bf16[2,8,8,128]{3,2,1,0:T(8,128)(2,1)} parameter(0)
  %param_1 = f32[3,3,128,256]{3,2,1,0:T(8,128)S(1)} parameter(1)
  %convert = bf16[3,3,128,256]{3,2,1,0:T(8,128)(2,1)} convert(%param_1)
  ROOT %conv = bf16[2,8,8,256]{3,2,1,0:T(8,128)(2,1)} convolution(%param_0, %convert), \
window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f
}

ENTRY %main (x: bf16[2,8,8,128], kernel: f32[3,3,128,256]) -> bf16[2,8,8,256] {
  %x = bf16[2,8,8,128]{3,2,1,0:T(8,128)(2,1)} parameter(0)
  %kernel = f32[3,3,128,256]{3,2,1,0:T(8,128)} parameter(1)
  %start = (f32[3,3,128,256]{3,2,1,0:T(8,128)S(1)}, f32[3,3,128,256]{3,2,1,0:T(8,128)}, \
u32[]{:S(2)}) copy-start(%kernel)
  %done = f32[3,3,128,256]{3,2,1,0:T(8,128)S(1)} copy-done(%start)
  ROOT %fusion = bf16[2,8,8,256]{3,2,1,0:T(8,128)(2,1)} fusion(%x, %done), kind=kOutput, \
calls=%within, metadata={op_name="jit(outputs)/DraemNetwork/encoder1/unit1/conv/conv"}
}
"""


def test_a_tpu_convolves_within_a_fusion_from_memory_that_was_filled_before():
    copy, convolution = read_kernels(parse_module(FUSED_CONVOLUTION), passes=3)
    assert (copy.part, copy.nbytes, copy.flop) == ("copies", 4 * 9 * 128 * 256, 0)
    assert convolution.part == "convolutions, forward"
    assert convolution.nbytes == 2 * (2 * 8 * 8) * (128 + 256)
    assert convolution.flop == 2 * (2 * 8 * 8) * 9 * 128 * 256


@pytest.mark.parametrize(("dtype", "milliseconds"), [("bf16", 10.0), ("f32", 19.75)])
def test_a_kernel_takes_the_longer_of_moving_and_computing(dtype, milliseconds):
    kernel = Kernel("k", "p", "fusion", (), "", 1, int(3e9), int(7.9e12), dtype)
    assert 1e3 * kernel.seconds(DEVICES["h100"]) == pytest.approx(milliseconds)
    moving = Kernel("k", "p", "fusion", (), "", 4, int(3e9), int(7.9e10), dtype)
    assert 1e3 * moving.seconds(DEVICES["h100"]) == pytest.approx(4 * 1.0)


@pytest.mark.long
def test_names_of_the_package_are_those_that_parts_are_known_by():
    config = default_config()
    config.model.reconstructive_width = config.model.discriminative_width = 8
    config.model.dtype = "bfloat16"
    config.data.image_size = (32,)
    config.train.batch_size = 2
    mesh = Mesh(np.array(jax.devices()[:1]), (AXIS_NAME,))
    lowered = PARTS["step"](config, mesh).lower(lowering_platforms=("cuda",))
    # Before it is optimised, each operation is a kernel of its own, under its own name.
    text = lowered.compiler_ir(dialect="hlo").get_hlo_module().to_string()
    totals = totals_by_part(read_kernels(parse_module(text), passes=3), DEVICES["h100"])
    assert {part.partition(",")[0] for part in totals} >= {rule.part for rule in RULES}
    nbytes = {part: total.nbytes for part, total in totals.items()}
    assert nbytes[OTHER] < 0.1 * sum(nbytes.values())


def test_what_can_be_mended_is_said_in_one_line(monkeypatch, tmp_path, capsys):
    other = tmp_path / "other.txt"
    other.write_text("no program")
    monkeypatch.setattr(compilers, "_is_there", lambda module: False)
    for arguments, said in (
        ([], "pip install --no-deps --target DIR jax-cuda13-plugin=="),
        ([f"--hlo={other}"], "--save_hlo writes such a file"),
        ([f"--hlo={tmp_path / 'none'}"], "--save_hlo writes such a file"),
        ([f"--hlo={SMALL}", "--largest=nothing"], "the parts are generator, conv"),
    ):
        assert command.main(["--device=h100", *arguments]) == 1
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1


def test_nothing_imports_jax_before_the_compilers_are_chosen():
    program = "import sys, tools.roofline.__main__; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
    assert tuple(PARTS) == command.PARTS


def test_the_command_reads_a_program_that_was_kept(capsys):
    assert command.main(["--device=h100", f"--hlo={SMALL}", "--largest=pooling", "--batch=2"]) == 0
    table = capsys.readouterr().out
    assert "What this cannot know: no NVIDIA H100 was asked" in " ".join(table.split())
    assert "reconstructive/reduce_max" in table
