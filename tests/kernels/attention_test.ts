import { assertThrows } from "@std/assert";
import type { AttentionTiling } from "../../kernels/attention/frame.ts";
import { attention } from "../../kernels/attention/forward.ts";
import { attentionGradKV, attentionGradQ } from "../../kernels/attention/backward.ts";
import { type Case, CASES, SHAPE, stages, tiles } from "./attention_cases.ts";
import { addHeads, addParts, arrays, reference } from "./attention_reference.ts";
import { assertClose, blank, type Data, runKernel, testSubgroups } from "./run_kernel.ts";
import { ALL_CASES } from "../reference/all_cases.ts";

const { subgroups: SUBGROUPS, wideSubgroups: WIDE_SUBGROUPS, least: LEAST } = await testSubgroups();

// Inputs are in -1..1 and rows have up to 130 terms: float32 keeps sums of that size to about 1e-5.
const TOLERANCE = 2e-5;

/** Whether subgroups of this adapter hold the threads that share a row. */
const held = (split: number): boolean => split > 8 ? WIDE_SUBGROUPS : SUBGROUPS;

/** Whether a case is the first with its rows, tile and split: the others are computed in one way, with subgroups or without. */
function isFirst({ tiling }: Case): boolean {
  const name = ({ rows, tile, split, staged }: AttentionTiling): string =>
    `${rows} ${tile} ${split} ${staged}`;
  return CASES.find((one) => name(one.tiling) === name(tiling))!.tiling === tiling;
}

for (const one of CASES.filter(({ slow }) => ALL_CASES || !slow)) {
  const { title, shape, tiling } = one, { gradients = shape } = ALL_CASES ? { gradients: shape } : one;
  const { tile, split = 8 } = tiling;
  const ways = tile === 0 ? [false] : ALL_CASES || isFirst(one) ? [true, false] : [held(split)];
  for (const subgroups of ways) {
    const missing = subgroups && !held(split);
    const how = tile === 0 ? "" : subgroups ? `, subgroups of ${split} threads` : ", no subgroups";
    Deno.test({
      name: `attention equals its definition: ${title}${how}${missing ? ` (here they have ${LEAST})` : ""}`,
      ignore: missing,
      async fn() {
        const { q, k, v, dOut } = arrays(shape);
        const expected = reference(shape, { q, k, v, dOut });
        const [out, lse] = await runKernel(attention({ ...shape, ...tiling, subgroups, parts: 1 }), {
          inputs: [q, k, v],
          outputs: [blank(expected.out.length), blank(expected.lse.length)],
        });
        assertClose(out, expected.out, { tolerance: TOLERANCE, what: "out" });
        assertClose(lse, expected.lse, { tolerance: TOLERANCE, what: "lse" });
      },
    });
  }
  if (gradients === null) continue;
  const smaller = gradients.dim === shape.dim ? "" : `, gradients of dim ${gradients.dim}`;
  Deno.test(`attentionGradQ and attentionGradKV equal their definitions: ${title}${smaller}`, async () => {
    const shape = gradients;
    const { q, k, v, dOut } = arrays(shape);
    const expected = reference(shape, { q, k, v, dOut });
    const [lse, delta] = [Float32Array.from(expected.lse), Float32Array.from(expected.delta)];
    const inputs: Data[] = [q, k, v, dOut, lse, delta];
    const options = { ...shape, ...tiling };
    const { parts = 1 } = tiling;
    const outputs = [blank(parts * expected.dq.length)];
    const [dq] = (await runKernel(attentionGradQ(options), { inputs, outputs })).map((all) =>
      addParts(all, parts)
    );
    assertClose(dq, expected.dq, { tolerance: TOLERANCE, what: "dq" });
    const shares = expected.dk.length * shape.heads / shape.kvHeads;
    const [dk, dv] = (await runKernel(attentionGradKV({ ...options, outputs: { k: true, v: true } }), {
      inputs,
      outputs: [blank(parts * shares), blank(parts * shares)],
    })).map((all) => addHeads(shape, addParts(all, parts)));
    // Three heads of up to 130 queries add up in dk and dv: a few times the terms of the others.
    assertClose(dk, expected.dk, { tolerance: 4 * TOLERANCE, what: "dk" });
    assertClose(dv, expected.dv, { tolerance: 4 * TOLERANCE, what: "dv" });
  });
}

const SMALL_TILES = { ...tiles(32, 16, 4), subgroups: SUBGROUPS };
const SMALL_STAGES = { ...stages(128, 32, 4), subgroups: SUBGROUPS };
const WIDE = { ...SHAPE, dim: 16 };

for (
  const [shape, tiling] of [
    [SHAPE, { tile: 0 }],
    [WIDE, SMALL_TILES],
    [WIDE, SMALL_STAGES],
  ] as const
) {
  Deno.test(`attentionGradKV makes only the wanted gradient: tile ${tiling.tile}`, async () => {
    const { q, k, v, dOut } = arrays(shape);
    const expected = reference(shape, { q, k, v, dOut });
    const [lse, delta] = [Float32Array.from(expected.lse), Float32Array.from(expected.delta)];
    const size = expected.dk.length * shape.heads / shape.kvHeads;
    const [dk] = await runKernel(attentionGradKV({ ...shape, ...tiling, outputs: { k: true, v: false } }), {
      inputs: [q, k, v, dOut, lse, delta],
      outputs: [blank(size)],
    });
    assertClose(addHeads(shape, dk), expected.dk, { tolerance: 4 * TOLERANCE, what: "dk" });
    const [dv] = await runKernel(attentionGradKV({ ...shape, ...tiling, outputs: { k: false, v: true } }), {
      inputs: [q, k, dOut, lse],
      outputs: [blank(size)],
    });
    assertClose(addHeads(shape, dv), expected.dv, { tolerance: 4 * TOLERANCE, what: "dv" });
  });
}

Deno.test("attention with ranges of keys ignores the slots of a cache that are not filled", async () => {
  const shape = { ...WIDE, time: 3, keys: 40, ranges: true };
  const { q, k, v, dOut } = arrays(shape);
  const filled = 9; // positions 6, 7, 8 are the queries
  const slot = shape.kvHeads * shape.dim;
  for (let b = 0; b < shape.batch; b++) {
    for (const cache of [k, v]) {
      cache.fill(NaN, (b * shape.keys + filled) * slot, (b + 1) * shape.keys * slot);
    }
  }
  const expected = reference(shape, { q, k, v, dOut }, (_, i, j) => j <= i + 6);
  const ranges = Int32Array.from({ length: 12 }, (_, n) => n % 2 === 0 ? 0 : 7 + (n >> 1) % 3);
  for (const tiling of [{ tile: 0 }, SMALL_TILES, SMALL_STAGES]) {
    const { tile } = tiling;
    const [out, lse] = await runKernel(attention({ ...shape, ...tiling }), {
      inputs: [q, k, v, ranges],
      outputs: [blank(expected.out.length), blank(expected.lse.length)],
    });
    assertClose(out, expected.out, { tolerance: TOLERANCE, what: `out, tile ${tile}` });
    assertClose(lse, expected.lse, { tolerance: TOLERANCE, what: `lse, tile ${tile}` });
  }
});

Deno.test("attention and its gradients read no tile of another document", async () => {
  for (const kept of [0, 1]) await checkDocument(kept);
});

/** Compares one of two documents, where the other holds NaN: a number of it would show even with a weight of 0. */
async function checkDocument(kept: number): Promise<void> {
  const half = 64, shape = { ...WIDE, batch: 1, time: 2 * half, heads: 1, ranges: true }, { dim } = shape;
  const { q, k, v, dOut } = arrays(shape), first = half * dim;
  const sees = (_: number, i: number, j: number): boolean => j <= i && (i < half) === (j < half);
  const expected = reference(shape, { q, k, v, dOut }, sees);
  for (const data of [q, k, v, dOut]) data.fill(NaN, kept === 0 ? first : 0, kept === 0 ? undefined : first);
  const bounds = (i: number): number[] => [i < half ? 0 : half, i + 1];
  const queries = Array.from({ length: 2 * half }, (_, i) => i);
  const ranges = Int32Array.from(queries.flatMap(bounds));
  const rows = Float32Array.from(
    queries.flatMap((i) => [expected.lse[i], expected.delta[i], ...bounds(i)]),
  );
  const empty = blank(q.length), inputs = [q, k, v, dOut, rows];
  const tilings = [{ tile: 0, rows: 16 }, ...(ALL_CASES ? [SMALL_TILES, { ...SMALL_STAGES, rows: 32 }] : [])];
  for (const tiling of tilings) {
    const options = { ...shape, ...tiling };
    const [out] = await runKernel(attention(options), {
      inputs: [q, k, v, ranges],
      outputs: [empty, blank(2 * half)],
    });
    const [dq] = await runKernel(attentionGradQ(options), { inputs, outputs: [empty] });
    const both = attentionGradKV({ ...options, outputs: { k: true, v: true } });
    const [dk, dv] = await runKernel(both, { inputs, outputs: [empty, empty] });
    for (const [what, seen] of Object.entries({ out, dq, dk, dv })) {
      const [from, to] = [kept * first, (kept + 1) * first];
      const wanted = expected[what as "out"].subarray(from, to);
      assertClose(seen.subarray(from, to), wanted, { tolerance: 4 * TOLERANCE, what });
    }
  }
}

Deno.test("attention keeps scores of a thousand finite", async () => {
  const shape = { ...SHAPE, scale: 1000 };
  const { q, k, v, dOut } = arrays(shape);
  const expected = reference(shape, { q, k, v, dOut });
  const [out] = await runKernel(attention({ ...shape, tile: 0 }), {
    inputs: [q, k, v],
    outputs: [blank(expected.out.length), blank(expected.lse.length)],
  });
  // Scores near 1000 have a spacing of 6e-5, and the softmax turns that into a relative error.
  assertClose(out, expected.out, { tolerance: 5e-3, what: "out" });
});

Deno.test("attention refuses heads that do not divide, queries before the first key and tiles that do not fit", () => {
  assertThrows(() => attention({ ...SHAPE, kvHeads: 2, tile: 0 }), RangeError, '"kvHeads"');
  assertThrows(() => attention({ ...SHAPE, keys: 9, tile: 0 }), RangeError, "needs a key");
  assertThrows(() => attention({ ...SHAPE, ...SMALL_TILES }), RangeError, '"dim"');
  assertThrows(() => attention({ ...WIDE, ...SMALL_TILES, split: 8 }), RangeError, '"split"');
  assertThrows(() => attention({ ...WIDE, ...SMALL_TILES, parts: 2 }), RangeError, "for gradients");
  assertThrows(() => attentionGradQ({ ...WIDE, tile: 0, parts: 2 }), RangeError, '"parts"');
  assertThrows(() => attentionGradQ({ ...WIDE, ...SMALL_TILES, parts: 1.5 }), RangeError, '"parts"');
  assertThrows(() => attention({ ...SHAPE, tile: 0, each: 3 }), RangeError, '"each"');
  assertThrows(() => attention({ ...WIDE, ...SMALL_TILES, rows: 2 }), RangeError, "times 4");
  assertThrows(() => attention({ ...WIDE, ...SMALL_TILES, rows: 48 }), RangeError, "a power of two");
  assertThrows(() => attention({ ...WIDE, ...SMALL_TILES, tile: 12 }), RangeError, '"tile"');
  assertThrows(() => attention({ ...WIDE, ...SMALL_STAGES, rows: 16 }), RangeError, "multiples of 32");
  assertThrows(() => attention({ ...WIDE, ...SMALL_STAGES, tile: 16 }), RangeError, "multiples of 32");
});
