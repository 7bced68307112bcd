import { assert, assertThrows } from "@std/assert";
import { attention } from "../../kernels/attention.ts";
import { attentionGradKV, attentionGradQ } from "../../kernels/attention_backward.ts";
import { attentionTiling, tileBytes } from "../../kernels/attention_choice.ts";
import type { AttentionShape, AttentionTiling } from "../../kernels/attention_tiles.ts";
import { addHeads, addParts, arrays, reference } from "./attention_reference.ts";
import { assertClose, blank, type Data, runKernel, testDevice } from "./run_kernel.ts";

const SUBGROUPS = (await testDevice()).features.has("subgroups");

// Inputs are in -1..1 and rows have up to 130 terms: float32 keeps sums of that size to about 1e-5.
const TOLERANCE = 2e-5;

const SHAPE = { batch: 2, time: 33, heads: 3, kvHeads: 1, dim: 8, scale: 0.7, causal: true };
interface Case {
  readonly title: string;
  readonly shape: AttentionShape;
  readonly tiling: AttentionTiling;
  /** Gradients at this size would only show again what the other cases show, and take seconds to compile. */
  readonly forwardOnly?: true;
}
const HALVES = { ...SHAPE, batch: 1, dim: 32 };
const HEADS_64 = { ...HALVES, dim: 64, scale: 0.2 };
const GROUPED = { ...SHAPE, heads: 4, kvHeads: 2, dim: 48, window: 9, scale: 0.2 };

/** A tiling as {@link attentionTiling} returns it; subgroups of a software adapter may have only eight threads. */
function tiles(rows: number, tile: number, split: 4 | 8 | 16, subgroups = SUBGROUPS && split <= 8) {
  return { rows, tile, split, staged: false, subgroups };
}

/** A staged tiling as {@link attentionTiling} returns it. */
function stages(...options: Parameters<typeof tiles>) {
  return { ...tiles(...options), staged: true };
}

const CASES: readonly Case[] = [
  { title: "three query heads a key head, direct", shape: SHAPE, tiling: { tile: 0 } },
  { title: "one position", shape: { ...SHAPE, time: 1 }, tiling: { tile: 0 } },
  {
    title: "dim 10 (scalar), direct, a window of 7",
    shape: { ...SHAPE, dim: 10, window: 7 },
    tiling: { tile: 0, rows: 8 },
  },
  {
    title: "dim 7, direct, a window of 3",
    shape: { ...SHAPE, dim: 7, time: 21, window: 3 },
    tiling: { tile: 0, rows: 8 },
  },
  {
    title: "two rows a thread, direct, 41 positions",
    shape: { ...SHAPE, time: 41 },
    tiling: { tile: 0, rows: 16, each: 2 },
  },
  {
    title: "5 queries after 28 earlier keys, direct",
    shape: { ...SHAPE, time: 5, keys: 33, heads: 2 },
    tiling: { tile: 0 },
  },
  {
    title: "5 queries over 12 keys, direct, all visible",
    shape: { ...SHAPE, time: 5, keys: 12, causal: false },
    tiling: { tile: 0 },
  },
  {
    title: "tiles of 64 by 32, 8 threads a row, 130 positions",
    shape: { ...HALVES, time: 130 },
    tiling: tiles(64, 32, 8),
  },
  {
    title: "tiles of 64 by 32, 8 threads a row, all keys visible, no subgroups",
    shape: { ...HALVES, time: 45, keys: 71, causal: false },
    tiling: tiles(64, 32, 8, false),
  },
  {
    title: "tiles of 64 by 32, 4 threads a row, dim 48, two key heads, a window of 9",
    shape: { ...GROUPED, time: 70 },
    tiling: tiles(64, 32, 4),
  },
  {
    title: "tiles of 64 by 16, dim 80, a window of 40",
    shape: { ...HALVES, time: 70, dim: 80, window: 40, scale: 0.2 },
    tiling: tiles(64, 16, 4),
    forwardOnly: true,
  },
  {
    title: "tiles of 64 by 16, dim 16, 130 queries after 7 earlier keys",
    shape: { ...HALVES, time: 130, keys: 137, dim: 16 },
    tiling: tiles(64, 16, 4),
  },
  {
    title: "tiles of 32 by 32, dim 96, 33 queries after 60 keys that the window has left",
    shape: { ...HALVES, keys: 93, dim: 96, window: 5, scale: 0.2 },
    tiling: tiles(32, 32, 8),
  },
  {
    title: "tiles of 32 by 32, dim 128",
    shape: { ...HALVES, time: 21, dim: 128, scale: 0.1 },
    tiling: tiles(32, 32, 8),
    forwardOnly: true,
  },
  {
    title: "tiles of 32 by 16, dim 16, no subgroups",
    shape: { ...SHAPE, dim: 16 },
    tiling: tiles(32, 16, 4, false),
  },
  {
    title: "tiles of 16 by 32, dim 32, no subgroups",
    shape: HALVES,
    tiling: tiles(16, 32, 8, false),
  },
  {
    title: "tiles of 16 by 16, dim 16, three key heads, a window of 20",
    shape: { ...SHAPE, kvHeads: 3, time: 41, dim: 16, window: 20 },
    tiling: tiles(16, 16, 4),
  },
  {
    title: "staged, 64 by 64, dim 64, whole tiles",
    shape: { ...HEADS_64, time: 128 },
    tiling: stages(64, 64, 16),
  },
  {
    title: "staged, 64 by 64, dim 64, a window of 70",
    shape: { ...HEADS_64, time: 150, window: 70 },
    tiling: stages(64, 64, 16),
  },
  {
    title: "staged, 128 by 64, dim 64, 130 queries after 9 earlier keys",
    shape: { ...HEADS_64, time: 130, keys: 139 },
    tiling: stages(128, 64, 16),
  },
  {
    title: "staged, 128 by 32, 8 threads a row, 130 positions",
    shape: { ...HALVES, time: 130 },
    tiling: stages(128, 32, 8),
  },
  {
    title: "staged, 128 by 32, 8 threads a row, 64 queries after 64 earlier keys, whole tiles",
    shape: { ...HALVES, time: 64, keys: 128 },
    tiling: stages(128, 32, 8),
  },
  {
    title:
      "staged, 128 by 32, 8 threads a row, 37 queries after 40 earlier keys, three key heads, no subgroups",
    shape: { ...HALVES, time: 37, keys: 77, kvHeads: 3 },
    tiling: stages(128, 32, 8, false),
  },
  {
    title: "staged, 128 by 32, 4 threads a row, dim 48, two key heads, a window of 9",
    shape: { ...GROUPED, batch: 1, time: 130 },
    tiling: stages(128, 32, 4),
  },
  {
    title: "three parts, some of them without a row",
    shape: { ...HALVES, time: 70, heads: 2, kvHeads: 2 },
    tiling: { ...tiles(32, 16, 4), parts: 3 },
  },
  {
    title: "staged, two parts, a window of 40",
    shape: { ...HEADS_64, time: 100, window: 40 },
    tiling: { ...stages(64, 64, 16), parts: 2 },
  },
  {
    title: "staged, 128 by 32, 4 threads a row, dim 16, all keys visible, no subgroups",
    shape: { ...HALVES, time: 45, keys: 71, dim: 16, causal: false },
    tiling: stages(128, 32, 4, false),
  },
];

for (const { title, shape, tiling, forwardOnly } of CASES) {
  Deno.test(`attention equals its definition: ${title}`, async () => {
    const { q, k, v, dOut } = arrays(shape);
    const expected = reference(shape, { q, k, v, dOut });
    const [out, lse] = await runKernel(attention({ ...shape, ...tiling, parts: 1 }), {
      inputs: [q, k, v],
      outputs: [blank(expected.out.length), blank(expected.lse.length)],
    });
    assertClose(out, expected.out, { tolerance: TOLERANCE, what: "out" });
    assertClose(lse, expected.lse, { tolerance: TOLERANCE, what: "lse" });
  });
  if (forwardOnly) continue;
  Deno.test(`attentionGradQ and attentionGradKV equal their definitions: ${title}`, async () => {
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

const SMALL_TILES = tiles(32, 16, 4);
const SMALL_STAGES = stages(128, 32, 4);
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

Deno.test("attention with an input offset ignores the slots of a cache that are not filled", async () => {
  const shape = { ...WIDE, time: 3, keys: 40 };
  const { q, k, v, dOut } = arrays(shape);
  const filled = 9; // positions 6, 7, 8 are the queries
  const slot = shape.kvHeads * shape.dim;
  for (let b = 0; b < shape.batch; b++) {
    for (const cache of [k, v]) {
      cache.fill(NaN, (b * shape.keys + filled) * slot, (b + 1) * shape.keys * slot);
    }
  }
  const expected = reference(shape, { q, k, v, dOut }, 6);
  for (const tiling of [{ tile: 0 }, SMALL_TILES, SMALL_STAGES]) {
    const { tile } = tiling;
    const [out, lse] = await runKernel(attention({ ...shape, ...tiling, offset: "input" }), {
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

Deno.test("attentionTiling recommends what attentionFrame accepts, within the memory of the device", () => {
  for (const dim of [1, 7, 10, 16, 32, 48, 64, 80, 96, 112, 128, 256]) {
    for (const time of [1, 33, 256, 1024]) {
      for (const workgroupBytes of [16384, 32768, 49152]) {
        for (const [software, subgroups] of [[true, true], [false, true], [false, false]]) {
          const shape = { ...SHAPE, heads: 12, time, dim };
          const tiling = (pass: "forward" | "gradQ" | "gradKV"): AttentionTiling => {
            const chosen = attentionTiling(shape, { software, subgroups, workgroupBytes, pass });
            const { rows = 64, tile, split = 8, staged } = chosen;
            const options = { rows, tile, split, subgroups, dim, pass, staged };
            assert(tile === 0 || tileBytes(options) <= workgroupBytes);
            return chosen;
          };
          attention({ ...shape, ...tiling("forward") });
          attentionGradQ({ ...shape, ...tiling("gradQ") });
          attentionGradKV({ ...shape, outputs: { k: true, v: true }, ...tiling("gradKV") });
        }
      }
    }
  }
});

Deno.test("attentionTiling tiles the head sizes of common models on a GPU", () => {
  const gpu = { software: false, subgroups: true, workgroupBytes: 49152 };
  for (const dim of [32, 48, 64, 80, 96, 112, 128]) {
    for (const pass of ["forward", "gradQ", "gradKV"] as const) {
      const { tile } = attentionTiling({ ...SHAPE, dim }, { ...gpu, pass });
      assert(tile > 0, `${pass}, dim ${dim}`);
    }
  }
});

Deno.test("attentionTiling tiles as the cases do whose results are compared", () => {
  const name = ({ rows, tile, split, staged }: AttentionTiling): string =>
    `${rows} ${tile} ${split} ${staged}`;
  const compared = {
    forward: new Set(CASES.map(({ tiling }) => name(tiling))),
    gradient: new Set(CASES.filter(({ forwardOnly }) => !forwardOnly).map(({ tiling }) => name(tiling))),
  };
  for (const dim of [16, 32, 48, 64, 80, 96, 112, 128, 256]) {
    for (const [batch, time] of [[1, 1], [1, 12], [1, 24], [1, 256], [32, 1024]]) {
      for (const workgroupBytes of [16384, 32768, 49152]) {
        for (const pass of ["forward", "gradQ", "gradKV"] as const) {
          const shape = { ...SHAPE, batch, time, heads: 12, dim };
          const options = { software: false, subgroups: true, workgroupBytes, pass };
          const tiling = attentionTiling(shape, options);
          const cases = compared[pass === "forward" ? "forward" : "gradient"];
          assert(tiling.tile === 0 || cases.has(name(tiling)), `${pass}: ${name(tiling)}`);
        }
      }
    }
  }
});
