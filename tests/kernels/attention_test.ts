import { assertThrows } from "@std/assert";
import { attention } from "../../kernels/attention.ts";
import { attentionGradKV, attentionGradQ } from "../../kernels/attention_backward.ts";
import { type AttentionShape, type AttentionTiling, attentionTiling } from "../../kernels/attention_tiles.ts";
import { assertClose, blank, type Data, runKernel, testDevice, values } from "./run_kernel.ts";

// Inputs are in -1..1 and rows have up to 130 terms: float32 keeps sums of that size to about 1e-5.
const TOLERANCE = 2e-5;

interface Arrays {
  readonly q: ArrayLike<number>;
  readonly k: ArrayLike<number>;
  readonly v: ArrayLike<number>;
  readonly dOut: ArrayLike<number>;
}

/** Attention and its gradients by their definitions, in float64. */
function reference(s: AttentionShape, { q, k, v, dOut }: Arrays, offset?: number) {
  const keys = s.keys ?? s.time;
  const before = offset ?? keys - s.time;
  const out = new Float64Array(s.batch * s.time * s.heads * s.dim);
  const lse = new Float64Array(s.batch * s.time * s.heads);
  const delta = new Float64Array(lse.length);
  const dq = new Float64Array(out.length);
  const dk = new Float64Array(s.batch * keys * s.kvHeads * s.dim);
  const dv = new Float64Array(dk.length);
  for (let b = 0; b < s.batch; b++) {
    for (let h = 0; h < s.heads; h++) {
      const g = Math.floor(h * s.kvHeads / s.heads);
      for (let i = 0; i < s.time; i++) {
        const query = (b * s.time + i) * s.heads + h;
        const seen: { key: number; score: number }[] = [];
        for (let j = 0; j < keys; j++) {
          const position = i + before;
          if (s.causal && j > position) continue;
          if (s.window && (j > position || j <= position - s.window)) continue;
          const key = (b * keys + j) * s.kvHeads + g;
          let score = 0;
          for (let d = 0; d < s.dim; d++) score += q[query * s.dim + d] * k[key * s.dim + d];
          seen.push({ key, score: score * s.scale });
        }
        const highest = Math.max(...seen.map(({ score }) => score));
        const total = seen.reduce((sum, { score }) => sum + Math.exp(score - highest), 0);
        lse[query] = highest + Math.log(total);
        const slopes = seen.map(({ key, score }) => {
          const weight = Math.exp(score - lse[query]);
          let dWeight = 0;
          for (let d = 0; d < s.dim; d++) {
            out[query * s.dim + d] += weight * v[key * s.dim + d];
            dWeight += dOut[query * s.dim + d] * v[key * s.dim + d];
            dv[key * s.dim + d] += weight * dOut[query * s.dim + d];
          }
          return { key, weight, dWeight };
        });
        delta[query] = slopes.reduce((sum, { weight, dWeight }) => sum + weight * dWeight, 0);
        for (const { key, weight, dWeight } of slopes) {
          const slope = weight * (dWeight - delta[query]) * s.scale;
          for (let d = 0; d < s.dim; d++) {
            dq[query * s.dim + d] += slope * k[key * s.dim + d];
            dk[key * s.dim + d] += slope * q[query * s.dim + d];
          }
        }
      }
    }
  }
  return { out, lse, delta, dq, dk, dv };
}

/** Adds up the shares of the query heads of each key head. */
function addHeads({ heads, kvHeads, dim }: AttentionShape, shares: ArrayLike<number>): Float64Array {
  const ratio = heads / kvHeads;
  const sums = new Float64Array(shares.length / ratio);
  for (let i = 0; i < shares.length; i++) {
    const head = Math.floor(i / dim);
    sums[Math.floor(head / ratio) * dim + i % dim] += shares[i];
  }
  return sums;
}

function arrays(s: AttentionShape) {
  const own = s.batch * s.time * s.heads * s.dim;
  const other = s.batch * (s.keys ?? s.time) * s.kvHeads * s.dim;
  return { q: values(own, 1), k: values(other, 2), v: values(other, 3), dOut: values(own, 4) };
}

const SHAPE = { batch: 2, time: 33, heads: 3, kvHeads: 1, dim: 8, scale: 0.7, causal: true };
interface Case {
  readonly title: string;
  readonly shape: AttentionShape;
  readonly tiling: AttentionTiling;
}
const CASES: readonly Case[] = [
  { title: "three query heads a key head, direct", shape: SHAPE, tiling: { tile: 0 } },
  { title: "tiles of 16 keys", shape: SHAPE, tiling: { tile: 16 } },
  { title: "two threads a row", shape: SHAPE, tiling: { tile: 8, split: 2, rows: 16 } },
  {
    title: "all keys visible",
    shape: { ...SHAPE, causal: false, heads: 2, kvHeads: 2 },
    tiling: { tile: 16 },
  },
  { title: "one position", shape: { ...SHAPE, time: 1 }, tiling: { tile: 0 } },
  {
    title: "dim 10 (scalar), a window of 7, split 5 positions a block",
    shape: { ...SHAPE, dim: 10, window: 7 },
    tiling: { tile: 4, rows: 8, split: 2 },
  },
  {
    title: "dim 7, direct, a window of 3",
    shape: { ...SHAPE, dim: 7, time: 21, window: 3 },
    tiling: { tile: 0, rows: 8 },
  },
  {
    title: "130 positions, dim 32, four threads a row",
    shape: { ...SHAPE, batch: 1, time: 130, dim: 32 },
    tiling: { tile: 32, split: 4 },
  },
  {
    title: "four rows a thread, direct, 41 positions",
    shape: { ...SHAPE, time: 41 },
    tiling: { tile: 0, rows: 32, each: 4 },
  },
  {
    title: "two rows a thread and two threads a row, a window of 9",
    shape: { ...SHAPE, time: 41, window: 9 },
    tiling: { tile: 8, rows: 16, each: 2, split: 2 },
  },
  {
    title: "5 queries after 28 earlier keys",
    shape: { ...SHAPE, time: 5, keys: 33, heads: 2 },
    tiling: { tile: 0 },
  },
  {
    title: "5 queries over 12 keys, all visible, a tile longer than the keys",
    shape: { ...SHAPE, time: 5, keys: 12, causal: false },
    tiling: { tile: 32 },
  },
];

for (const { title, shape, tiling } of CASES) {
  Deno.test(`attention equals its definition: ${title}`, async () => {
    const { q, k, v, dOut } = arrays(shape);
    const expected = reference(shape, { q, k, v, dOut });
    const [out, lse] = await runKernel(attention({ ...shape, ...tiling }), {
      inputs: [q, k, v],
      outputs: [blank(expected.out.length), blank(expected.lse.length)],
    });
    assertClose(out, expected.out, { tolerance: TOLERANCE, what: "out" });
    assertClose(lse, expected.lse, { tolerance: TOLERANCE, what: "lse" });
  });

  Deno.test(`attentionGradQ and attentionGradKV equal their definitions: ${title}`, async () => {
    const { q, k, v, dOut } = arrays(shape);
    const expected = reference(shape, { q, k, v, dOut });
    const [lse, delta] = [Float32Array.from(expected.lse), Float32Array.from(expected.delta)];
    const inputs: Data[] = [q, k, v, dOut, lse, delta];
    const options = { ...shape, ...tiling };
    const [dq] = await runKernel(attentionGradQ(options), { inputs, outputs: [blank(expected.dq.length)] });
    assertClose(dq, expected.dq, { tolerance: TOLERANCE, what: "dq" });
    const shares = expected.dk.length * shape.heads / shape.kvHeads;
    const [dk, dv] = (await runKernel(attentionGradKV({ ...options, outputs: { k: true, v: true } }), {
      inputs,
      outputs: [blank(shares), blank(shares)],
    })).map((share) => addHeads(shape, share));
    // Three heads of up to 130 queries add up in dk and dv: a few times the terms of the others.
    assertClose(dk, expected.dk, { tolerance: 4 * TOLERANCE, what: "dk" });
    assertClose(dv, expected.dv, { tolerance: 4 * TOLERANCE, what: "dv" });
  });
}

for (const tiling of [{ tile: 0 }, { tile: 16, split: 2 }] as const) {
  Deno.test(`attentionGradKV makes only the wanted gradient: tile ${tiling.tile}`, async () => {
    const { q, k, v, dOut } = arrays(SHAPE);
    const expected = reference(SHAPE, { q, k, v, dOut });
    const [lse, delta] = [Float32Array.from(expected.lse), Float32Array.from(expected.delta)];
    const size = expected.dk.length * SHAPE.heads / SHAPE.kvHeads;
    const [dk] = await runKernel(attentionGradKV({ ...SHAPE, ...tiling, outputs: { k: true, v: false } }), {
      inputs: [q, k, v, dOut, lse, delta],
      outputs: [blank(size)],
    });
    assertClose(addHeads(SHAPE, dk), expected.dk, { tolerance: 4 * TOLERANCE, what: "dk" });
    const [dv] = await runKernel(attentionGradKV({ ...SHAPE, ...tiling, outputs: { k: false, v: true } }), {
      inputs: [q, k, dOut, lse],
      outputs: [blank(size)],
    });
    assertClose(addHeads(SHAPE, dv), expected.dv, { tolerance: 4 * TOLERANCE, what: "dv" });
  });
}

Deno.test("attention adds up parts of a row through subgroups where the device has them", async () => {
  const device = await testDevice();
  if (!device.features.has("subgroups")) return;
  const { q, k, v, dOut } = arrays(SHAPE);
  const expected = reference(SHAPE, { q, k, v, dOut });
  const [out] = await runKernel(attention({ ...SHAPE, tile: 16, split: 2, subgroups: true }), {
    inputs: [q, k, v],
    outputs: [blank(expected.out.length), blank(expected.lse.length)],
  });
  assertClose(out, expected.out, { tolerance: TOLERANCE, what: "out" });
});

Deno.test("attention with an input offset ignores the slots of a cache that are not filled", async () => {
  const shape = { ...SHAPE, time: 3, keys: 40 };
  const { q, k, v, dOut } = arrays(shape);
  const filled = 9; // positions 6, 7, 8 are the queries
  const slot = shape.kvHeads * shape.dim;
  for (let b = 0; b < shape.batch; b++) {
    for (const cache of [k, v]) {
      cache.fill(NaN, (b * shape.keys + filled) * slot, (b + 1) * shape.keys * slot);
    }
  }
  const expected = reference(shape, { q, k, v, dOut }, 6);
  for (const tile of [0, 16]) {
    const [out, lse] = await runKernel(attention({ ...shape, tile, offset: "input" }), {
      inputs: [q, k, v, new Uint32Array([6])],
      outputs: [blank(expected.out.length), blank(expected.lse.length)],
    });
    assertClose(out, expected.out, { tolerance: TOLERANCE, what: `out, tile ${tile}` });
    assertClose(lse, expected.lse, { tolerance: TOLERANCE, what: `lse, tile ${tile}` });
  }
});

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

Deno.test("attention refuses heads that do not divide and queries before the first key", () => {
  assertThrows(() => attention({ ...SHAPE, kvHeads: 2, tile: 0 }), RangeError, '"kvHeads"');
  assertThrows(() => attention({ ...SHAPE, keys: 9, tile: 0 }), RangeError, "needs a key");
  assertThrows(() => attention({ ...SHAPE, tile: 0, split: 2 }), RangeError, '"split"');
});

Deno.test("attentionTiling recommends what attentionFrame accepts", () => {
  for (const dim of [1, 7, 10, 32, 64, 80, 96, 128, 256]) {
    for (const software of [true, false]) {
      const shape = { ...SHAPE, dim };
      const target = { software, subgroups: true };
      attention({ ...shape, ...attentionTiling(shape, { ...target, pass: "forward" }) });
      attentionGradQ({ ...shape, ...attentionTiling(shape, { ...target, pass: "gradQ" }) });
      const outputs = { k: true, v: true };
      attentionGradKV({ ...shape, outputs, ...attentionTiling(shape, { ...target, pass: "gradKV" }) });
    }
  }
});
