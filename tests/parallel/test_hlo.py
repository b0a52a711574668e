"""Collectives read from compiled programs: real ones on eight devices, where the bytes are known, and TPU syntax."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxpaint.parallel.hlo import Collective, collectives


def compiled(function, ins, outs, *shapes):
    """The text of a function, compiled for eight devices along "x"; ins and outs are the axes of the arrays."""
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
    ins, outs = [tuple(NamedSharding(mesh, PartitionSpec(*axes)) for axes in group) for group in (ins, outs)]
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    jitted = jax.jit(function, in_shardings=ins, out_shardings=outs[0] if len(outs) == 1 else outs)
    return jitted.lower(*arguments).compile().as_text()


def test_all_reduce_of_a_sum():
    text = compiled(functools.partial(jnp.sum, axis=0), [["x"]], [[]], (64, 100))
    assert collectives(text) == {"all-reduce": Collective(1, 100 * 4)}


def test_no_collectives():
    assert collectives(compiled(jnp.sin, [["x"]], [["x"]], (64, 100))) == {}


def test_all_gather_and_all_to_all():
    assert collectives(compiled(jnp.sin, [["x"]], [[]], (64, 96))) == {"all-gather": Collective(1, 64 * 96 * 4)}
    # Rows to columns: every device ends with 64 x 12 numbers.
    assert collectives(compiled(jnp.sin, [["x"]], [[None, "x"]], (64, 96))) == {
        "all-to-all": Collective(1, 64 * 12 * 4)
    }


def test_halo_of_a_convolution():
    def blur(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    text = compiled(blur, [[None, "x"], []], [[None, "x"]], (2, 64, 32, 3), (3, 3, 3, 5))
    # One row of the picture from above and one from below.
    assert collectives(text) == {"collective-permute": Collective(2, 2 * 2 * 32 * 3 * 4)}


def test_inside_a_loop_of_known_length():
    def chain(x, weights):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights)[0]

    text = compiled(chain, [[], [None, None, "x"]], [[]], (16, 40), (7, 40, 40))
    found = collectives(text)
    assert set(found) == {"all-gather"}
    # Once a pass; the compiler may gather the last result once more, outside.
    assert found["all-gather"].count in (7, 8)
    assert found["all-gather"].bytes == found["all-gather"].count * 16 * 40 * 4
    assert found["all-gather"].open_loops == 0


SNIPPETS = {
    # An asynchronous pair is one exchange; its start holds (operand, result, context).
    "collective-permute": (
        """
ENTRY %main_spmd (p: bf16[2,64,128]) -> bf16[2,1,128] {
  %s = (bf16[2,1,128]{2,1,0:T(8,128)(2,1)}, bf16[2,1,128]{2,1,0:T(8,128)(2,1)S(1)}, u32[]{:S(2)}, u32[]{:S(2)}) \
collective-permute-start(%p), channel_id=1, source_target_pairs={{0,1},{1,2}}
  ROOT %d = bf16[2,1,128]{2,1,0:T(8,128)(2,1)S(1)} collective-permute-done(%s)
}
""",
        Collective(1, 2 * 128 * 2),
    ),
    # Several gradients in one exchange; commas and brackets of layouts and comments are no elements.
    "all-reduce": (
        """
%add (x: f32[], y: f32[]) -> f32[] {
  ROOT %a = f32[] add(%x, %y)
}

ENTRY %main_spmd (p: f32[5,5,4,48], q: f32[]) -> (f32[5,5,4,48], f32[]) {
  ROOT %all-reduce.7 = (f32[5,5,4,48]{3,2,1,0:T(8,128)}, /*index=1*/f32[]{:T(128)S(6)}) all-reduce(%p, %q), \
replica_groups=mesh['axis_0'=4] {'axis_0'}, to_apply=%add
}
""",
        Collective(1, (5 * 5 * 4 * 48 + 1) * 4),
    ),
    # The start of an all-reduce holds the results alone.
    "all-reduce-start": (
        """
ENTRY %main (p: f32[8]) -> f32[8] {
  %s = (f32[8]{0:T(256)}, bf16[3]{0:T(256)(2,1)}) all-reduce-start(%p, %q), to_apply=%add
  ROOT %d = (f32[8]{0:T(256)}, bf16[3]{0:T(256)(2,1)}) all-reduce-done(%s)
}
""",
        Collective(1, 8 * 4 + 3 * 2),
    ),
    "all-gather": (
        """
ENTRY %main (p: f32[8]) -> f32[64] {
  %s = ((f32[8]{0}, s8[2]{0}), (f32[64]{0}, s8[16]{0})) all-gather-start(%p, %q), dimensions={0}
  ROOT %d = (f32[64]{0}, s8[16]{0}) all-gather-done(%s)
}
""",
        Collective(1, 64 * 4 + 16),
    ),
    # What a TPU compiler makes of a reduce-scatter.
    "reduce-scatter": (
        """
%all-reduce-scatter (input: f32[64,16]) -> f32[8,16] {
  %input = f32[64,16]{1,0:T(8,128)} parameter(0)
  %all-reduce.2 = f32[64,16]{1,0:T(8,128)} all-reduce(%input), channel_id=2, to_apply=%add
  ROOT %dynamic-slice.3 = f32[8,16]{1,0:T(8,128)} dynamic-slice(%all-reduce.2, %i, %j), dynamic_slice_sizes={8,16}
}

ENTRY %main (p: f32[64,16]) -> f32[8,16] {
  ROOT %fusion = f32[8,16]{1,0:T(8,128)} fusion(%p), kind=kCustom, calls=%all-reduce-scatter
}
""",
        Collective(1, 8 * 16 * 4),
    ),
    # A loop of unknown length is counted once, and says so; what nothing calls is not counted.
    "all-to-all": (
        """
%body.1 (t: (s32[], f32[4])) -> (s32[], f32[4]) {
  %x = f32[4]{0} all-to-all(%t), dimensions={0}
}

%nobody (t: f32[4]) -> f32[4] {
  ROOT %x = f32[4]{0} all-to-all(%t), dimensions={0}
}

ENTRY %main (p: f32[4]) -> f32[4] {
  %x = f32[4]{0} all-to-all(%p), dimensions={0}
  %w = (s32[]{:T(128)}, f32[4]{0}) while(%t), condition=%cond.1, body=%body.1, metadata={op_name="= f32[9] all-gather("}
}
""",
        Collective(2, 2 * 4 * 4, open_loops=1),
    ),
    # Both branches of a conditional; a loop in a loop.
    "collective-broadcast": (
        """
%inner (t: f32[4]) -> f32[4] {
  ROOT %x = f32[4]{0} collective-broadcast(%t)
}
%outer (t: f32[4]) -> f32[4] {
  ROOT %w = f32[4]{0} while(%t), condition=%c, body=%inner, backend_config={"known_trip_count":{"n":"3"}}
}
%yes (t: f32[4]) -> f32[4] {
  ROOT %w = f32[4]{0} while(%t), condition=%c, body=%outer, backend_config={"known_trip_count":{"n":"5"}}
}
ENTRY %main (p: f32[4]) -> f32[4] {
  ROOT %x = f32[4]{0} conditional(%i, %p, %p), branch_computations={%yes, %inner}
}
""",
        Collective(3 * 5 + 1, 16 * 4 * 4),
    ),
}


@pytest.mark.parametrize("name", SNIPPETS)
def test_syntax(name):
    text, expected = SNIPPETS[name]
    assert collectives(text) == {name.removesuffix("-start"): expected}
