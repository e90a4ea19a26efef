"""What compiled programs move: collectives by what they do, in texts of each compiler's kind and in programs here."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from imagegen_jax.machines import hlo
from imagegen_jax.machines.traffic import collectives, group_size, memory_bytes

# An asynchronous all-gather of a TPU in three fused operations, and a reduction of which each device keeps a part.
TPU = """HloModule step, is_scheduled=true

%begun (p: bf16[1,32]) -> (bf16[1,32], bf16[8,32], u32[]) {
  %p = bf16[1,32]{1,0:T(8,128)(2,1)} parameter(0)
  %ag.1 = bf16[8,32]{1,0:T(8,128)(2,1)} all-gather(%p), channel_id=2, replica_groups=mesh['axis_0'=8] {'axis_0'}
  ROOT %cc = (bf16[1,32], bf16[8,32], u32[]{:S(2)}) custom-call(%ag.1), custom_call_target="AsyncCollectiveStart"
}

%between (q: bf16[1,32], x: f32[4,4]) -> (bf16[8,32], f32[4,4]) {
  %q = bf16[1,32]{1,0} parameter(0)
  %x = f32[4,4]{1,0} parameter(1)
  %ag.2 = bf16[8,32]{1,0} all-gather(%q), channel_id=2, replica_groups=mesh['axis_0'=8] {'axis_0'}
  %twice = f32[4,4]{1,0} add(%x, %x)
  ROOT %t = (bf16[8,32]{1,0}, f32[4,4]{1,0}) tuple(%ag.2, %twice)
}

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%all-reduce-scatter (g: f32[16,4]) -> f32[2,4] {
  %g = f32[16,4]{1,0} parameter(0)
  %ar = f32[16,4]{1,0} all-reduce(%g), channel_id=3, replica_groups=[1,8]<=[8], to_apply=%add
  %zero = s32[] constant(0)
  ROOT %part = f32[2,4]{1,0} dynamic-slice(%ar, %zero, %zero), dynamic_slice_sizes={2,4}
}

%body (s: (s32[], f32[4,4])) -> (s32[], f32[4,4]) {
  %s = (s32[], f32[4,4]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %v = f32[4,4]{1,0} get-tuple-element(%s), index=1
  %cp = (f32[4,4], f32[4,4], u32[]{:S(2)}) collective-permute-start(%v), channel_id=4, source_target_pairs={{0,1},{1,0}}
  %done = f32[4,4]{1,0} collective-permute-done(%cp)
  %one = s32[] constant(1)
  %next = s32[] add(%i, %one)
  ROOT %r = (s32[], f32[4,4]{1,0}) tuple(%next, %done)
}

%bounded (s.1: (s32[], f32[4,4])) -> pred[] {
  %bound = s32[]{:T(128)} constant(6)
  %s.1 = (s32[], f32[4,4]{1,0}) parameter(0)
  %i.1 = s32[] get-tuple-element(%s.1), index=0
  ROOT %lt = pred[] compare(%i.1, %bound), direction=LT
}

ENTRY %main (w: bf16[1,32], x.1: f32[4,4], g.1: f32[16,4]) -> f32[2,4] {
  %w = bf16[1,32]{1,0} parameter(0)
  %x.1 = f32[4,4]{1,0} parameter(1)
  %g.1 = f32[16,4]{1,0} parameter(2)
  %fusion.1 = (bf16[1,32]{1,0}, bf16[8,32]{1,0}, u32[]{:S(2)}) fusion(%w), kind=kCustom, calls=%begun
  %fusion.2 = (bf16[8,32]{1,0}, f32[4,4]{1,0}) fusion(%w, %x.1), kind=kCustom, calls=%between
  %zero.1 = s32[] constant(0)
  %start = (s32[], f32[4,4]{1,0}) tuple(%zero.1, %x.1)
  %loop = (s32[], f32[4,4]{1,0}) while(%start), condition=%bounded, body=%body
  %close = f32[4,4]{1,0:T(8,128)S(1)} copy(%x.1)
  ROOT %fusion.3 = f32[2,4]{1,0} fusion(%g.1), kind=kCustom, calls=%all-reduce-scatter
}
"""

GPU = """HloModule step

%add (a: bf16[], b: bf16[]) -> bf16[] {
  %a = bf16[] parameter(0)
  %b = bf16[] parameter(1)
  ROOT %sum = bf16[] add(%a, %b)
}

%half (w.1: f32[64,16]) -> f32[8,16] {
  %w.1 = f32[64,16]{1,0} parameter(0)
  ROOT %s = f32[8,16]{1,0} slice(%w.1), slice={[0:8], [0:16]}
}

%wait (t.1: (s32[], f32[8])) -> pred[] {
  %t.1 = (s32[], f32[8]{0}) parameter(0)
  ROOT %p = pred[] custom-call(%t.1), custom_call_target="unknown"
}

%same (t.2: (s32[], f32[8])) -> (s32[], f32[8]) {
  ROOT %t.2 = (s32[], f32[8]{0}) parameter(0)
}

ENTRY %main (x: bf16[32,16], w: f32[64,16], t: (s32[], f32[8])) -> bf16[256,16] {
  %x = bf16[32,16]{1,0} parameter(0)
  %w = f32[64,16]{1,0} parameter(1)
  %t = (s32[], f32[8]{0}) parameter(2)
  %ags = ((bf16[32,16]), bf16[256,16]) all-gather-start(%x), channel_id=1, replica_groups={{0,1,2,3,4,5,6,7}}
  %agd = bf16[256,16]{1,0} all-gather-done(%ags)
  %rss = ((bf16[256,16]), bf16[32,16]) reduce-scatter-start(%agd), channel_id=2, replica_groups={{0,1,2,3},{4,5,6,7}}
  %rsd = bf16[32,16]{1,0} reduce-scatter-done(%rss)
  %alone = bf16[32,16]{1,0} all-reduce(%rsd), channel_id=3, replica_groups=[8,1]<=[8]
  %few = f32[8,16]{1,0} fusion(%w), kind=kLoop, calls=%half
  %w.2 = (s32[], f32[8]{0}) while(%t), condition=%wait, body=%same
  ROOT %out = bf16[256,16]{1,0} copy(%agd)
}
"""


def found(text):
    return {one.kind: (one.number, one.bytes, one.sent) for one in collectives(hlo.parse(text))}


def test_a_tpus_collectives_are_told_by_what_they_do():
    assert found(TPU) == {
        "all-gather": (1, 512, 448.0),  # one, though three fused operations hold parts of it; 7 of 8 rows are sent
        "reduce-scatter": (1, 256, 224.0),  # which is written as an all-reduce and a slice
        "collective-permute": (6, 6 * 64, 6 * 64.0),  # in a loop of six turns
    }


@pytest.mark.parametrize(
    ("written", "turns"),
    [
        (("constant(1)", "constant(2)"), 3),  # two turns written out as one
        (("constant(1)", "constant(4)"), 2),  # the second does less
        (("add(%i, %one)", "add(%one, %i)"), 6),
        (("add(%i, %one)", "multiply(%i, %one)"), 6),  # not known: as if by one
    ],
)
def test_a_loop_whose_counter_grows_by_more_has_fewer_turns(written, turns):
    assert TPU.count(written[0]) == 1
    assert found(TPU.replace(*written))["collective-permute"] == (turns, turns * 64, turns * 64.0)


def test_a_compilers_own_names_of_parts_tell_the_counter_too():
    text = TPU.replace("%next = s32[] add(%i, %one)", "%next = s32[] add(%s#0, %one)").replace(
        "constant(1)", "constant(3)"
    )
    text = text.replace("compare(%i.1, %bound)", "compare(%s.1#0, %bound)")
    assert found(text)["collective-permute"][0] == 2


def test_a_gpus_collectives_are_counted_where_they_start():
    assert found(GPU) == {
        "all-gather": (1, 8192, 7168.0),
        "reduce-scatter": (1, 8192, 6144.0),
    }  # none within one device


def test_collectives_that_share_a_channel_are_counted_each():
    """As in a U-Net for TPUs: a reduction of several arrays, of which parts are kept, and two permutations."""
    text = """HloModule step

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%both (g: f32[16,4], h: f32[8,4]) -> (f32[2,4], f32[1,4]) {
  %g = f32[16,4]{1,0} parameter(0)
  %h = f32[8,4]{1,0} parameter(1)
  %ar = (f32[16,4]{1,0}, f32[8,4]{1,0}) all-reduce(%g, %h), channel_id=1, replica_groups=[1,8]<=[8], to_apply=%add
  %zero = s32[] constant(0)
  %g.1 = f32[16,4]{1,0} get-tuple-element(%ar), index=0
  %h.1 = f32[8,4]{1,0} get-tuple-element(%ar), index=1
  %part = f32[2,4]{1,0} dynamic-slice(%g.1, %zero, %zero), dynamic_slice_sizes={2,4}
  %part.1 = f32[1,4]{1,0} dynamic-slice(%h.1, %zero, %zero), dynamic_slice_sizes={1,4}
  ROOT %parts = (f32[2,4]{1,0}, f32[1,4]{1,0}) tuple(%part, %part.1)
}

ENTRY %main (x: f32[16,4], y: f32[8,4]) -> f32[1,4] {
  %x = f32[16,4]{1,0} parameter(0)
  %y = f32[8,4]{1,0} parameter(1)
  %cp = f32[8,4]{1,0} collective-permute(%y), channel_id=1, source_target_pairs={{0,1},{1,0}}
  %cp.1 = f32[8,4]{1,0} collective-permute(%cp), channel_id=1, source_target_pairs={{0,1},{1,0}}
  %kept = (f32[2,4]{1,0}, f32[1,4]{1,0}) fusion(%x, %cp.1), kind=kCustom, calls=%both
  ROOT %out = f32[1,4]{1,0} get-tuple-element(%kept), index=1
}
"""
    assert found(text) == {"reduce-scatter": (1, 384, 336.0), "collective-permute": (2, 256, 256.0)}


def test_a_collective_that_goes_on_through_a_loop_is_one():
    inside = "  %cp = (f32[4,4], f32[4,4], u32[]{:S(2)}) collective-permute-start(%v)"
    goes_on = "  %on = (bf16[8,32]{1,0}, f32[4,4]{1,0}) fusion(%w.3, %v), kind=kCustom, calls=%between\n"
    kept = "  %w.3 = bf16[1,32]{1,0} constant({...})\n"
    text = TPU.replace(inside, kept + goes_on + inside)
    assert text != TPU and found(text) == found(TPU)


def test_memory_traffic_is_what_operations_read_and_write():
    gathered, doubled, closer = 64 + 512, 64 + 64, 64
    turns = 6 * ((64 + 64) + (4 + 4 + 4) + (4 + 4 + 1))  # the permutation, the sum of the counter, and the comparison
    scattered = (256 + 256) + 32
    assert memory_bytes(hlo.parse(TPU)) == gathered + doubled + closer + turns + scattered
    moved = (1024 + 8192) + (8192 + 1024) + (1024 + 1024)
    sliced, waited, copied = 512 + 512, 36 + 1, 8192 + 8192
    assert memory_bytes(hlo.parse(GPU)) == moved + sliced + waited + copied


def test_a_part_of_a_tuple_may_be_named_by_its_place():
    """As a TPU's compiler writes its plans: %both#1 is the second of what %both makes."""
    named = """HloModule m
%two (p: f32[8]) -> (f32[8], f32[4]) {
  %p = f32[8]{0} parameter(0)
  %half = f32[4]{0} slice(%p), slice={[0:4]}
  ROOT %t = (f32[8]{0}, f32[4]{0}) tuple(%p, %half)
}
ENTRY %main (x: f32[8]) -> f32[4] {
  %x = f32[8]{0} parameter(0)
  %both = (f32[8]{0}, f32[4]{0}) fusion(%x), kind=kLoop, calls=%two
  GET
  ROOT %out = f32[4]{0} add(PART, PART)
}
"""
    part = "%get = f32[4]{0} get-tuple-element(%both), index=1"
    written_out = memory_bytes(hlo.parse(named.replace("GET", part).replace("PART", "%get")))
    assert memory_bytes(hlo.parse(named.replace("PART", "%both#1"))) == written_out
    assert memory_bytes(hlo.parse(named.replace("PART", "%both#0"))) == written_out + 2 * 4 * 4


def test_loops_whose_length_is_unknown_are_named():
    assert (hlo.parse(TPU).loops_of_unknown_length(), hlo.parse(GPU).loops_of_unknown_length()) == (0, 1)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("replica_groups={{0,1},{2,3}}", 2),
        ("replica_groups=[4,2]<=[8]", 2),
        ("replica_groups=[2,4]<=[4,2]T(1,0)", 4),
        ("replica_groups=mesh['data'=4,'fsdp'=2] {'fsdp'}", 2),
        ("replica_groups=mesh['data'=4,'fsdp'=2] {'data','fsdp'}", 8),
    ],
)
def test_groups_are_read_in_every_notation(text, size):
    assert group_size(f", channel_id=1, {text}, to_apply=%add") == size


def test_what_is_no_program_is_refused():
    with pytest.raises(ValueError, match="no ENTRY"):
        hlo.parse("HloModule nothing\n")


@functools.cache
def mesh():
    return Mesh(np.array(jax.devices()).reshape(8), ("x",), axis_types=(AxisType.Auto,))


def compiled(function, *arrays, out):
    """The text of a program over eight devices; `arrays` are (shape, spec)."""
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32, sharding=NamedSharding(mesh(), spec)) for s, spec in arrays]
    return jax.jit(function, out_shardings=NamedSharding(mesh(), out)).lower(*shapes).compile().as_text()


def test_programs_of_eight_devices_here():
    n = 64 * 64 * 4
    gather = compiled(lambda w: w * 2, ((64, 64), P("x")), out=P())
    assert found(gather) == {"all-gather": (1, n, n * 7 / 8)}
    reduce = compiled(lambda a, b: a.T @ b, ((256, 64), P("x")), ((256, 64), P("x")), out=P())
    assert found(reduce) == {"all-reduce": (1, n, 2 * n * 7 / 8)}
    moved = compiled(lambda w: w, ((64, 64), P("x")), out=P(None, "x"))
    assert found(moved)["all-to-all"][0] == 1


def test_a_loop_here_is_counted_by_its_turns():
    def turned(x, w):
        return jax.lax.scan(lambda x, _: (jnp.tanh(x @ w), None), x, length=5)[0]

    text = compiled(turned, ((8, 64), P()), ((64, 64), P(None, "x")), out=P())
    module = hlo.parse(text)
    assert module.loops_of_unknown_length() == 0
    counted = found(text)
    assert sum(number for number, _, _ in counted.values()) >= 5, counted


def test_memory_traffic_of_a_program_here():
    x = jax.ShapeDtypeStruct((1024, 256), jnp.float32)
    text = jax.jit(lambda x: jnp.sin(x) * 2 + 1).lower(x).compile().as_text()
    assert memory_bytes(hlo.parse(text)) == 2 * 1024 * 256 * 4  # one fused operation reads x and writes the result
