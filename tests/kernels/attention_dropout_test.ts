/** Dropout of the weights of attention: kernels against float64 with the factors of the CPU. */

import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { attentionGradKV, attentionGradQ } from "../../kernels/attention/backward.ts";
import { attentionDrops, attentionDropValues } from "../../kernels/attention/dropout.ts";
import { dropoutKey } from "../../kernels/random.ts";
import type { AttentionShape, AttentionTiling } from "../../kernels/attention/frame.ts";
import { attention } from "../../kernels/attention/forward.ts";
import { attentionTiling } from "../../kernels/attention/tiling.ts";
import { attentionRanges, attentionRows } from "../../kernels/attention/visibility.ts";
import { ALL_CASES } from "../reference/all_cases.ts";
import { SHAPE, stages, tiles } from "./attention_cases.ts";
import { addHeads, addParts, arrays, reference } from "./attention_reference.ts";
import { assertClose, blank, runKernel, testSubgroups } from "./run_kernel.ts";

const { subgroups: SUBGROUPS } = await testSubgroups();
const TOLERANCE = 5e-5; // Factors of up to 1.5 on sums of terms that float32 keeps to 2e-5.
const RATE = 0.3, KEY = dropoutKey([5, 1]), STEP = 7, DRAW = Float32Array.of(...KEY, STEP);
const WIDE = { ...SHAPE, batch: 1, dim: 16 };

const CASES: readonly (readonly [string, AttentionShape, AttentionTiling])[] = [
  ["direct", SHAPE, { tile: 0 }],
  ["direct, a window of 7, two rows a thread", { ...SHAPE, dim: 10, window: 7 }, {
    tile: 0,
    rows: 16,
    each: 2,
  }],
  ["direct, 9 queries after 28 keys, all seen", { ...SHAPE, time: 9, keys: 37, causal: false }, {
    tile: 0,
    rows: 8,
  }],
  ["tiled, a window of 6", { ...WIDE, window: 6 }, { ...tiles(32, 16, 4), subgroups: SUBGROUPS }],
  ["tiled in two parts", { ...WIDE, time: 40 }, { ...tiles(16, 16, 4), parts: 2 }],
  ["staged", { ...WIDE, time: 70 }, { ...stages(128, 32, 4), subgroups: SUBGROUPS }],
];

for (
  const [title, plain, tiling] of ALL_CASES ? CASES : CASES.filter(([name]) => name.startsWith("direct"))
) {
  for (const ranged of title === "direct" || title === "staged" ? [true, false] : [false]) {
    if (ranged && title === "staged" && !ALL_CASES) continue;
    Deno.test(`attention and its gradients drop weights as their definition: ${title}${ranged ? ", documents" : ""}`, async () => {
      const shape = { ...plain, dropout: RATE, ranges: ranged }, { batch, time, keys = time, heads } = shape;
      const given = arrays(shape), { q, k, v, dOut } = given;
      const drops = attentionDropValues({ batch, time, keys, heads, rate: RATE, key: KEY, step: STEP });
      // Documents of 13 tokens, which do not begin at multiples of four.
      const apart = (i: number, j: number): boolean => Math.floor(i / 13) === Math.floor(j / 13) && j <= i;
      const expected = reference(shape, { ...given, drops }, ranged ? (_, i, j) => apart(i, j) : undefined);
      const segments = Int32Array.from({ length: batch * time }, (_, n) => Math.floor(n % time / 13));
      const ranges = ranged
        ? await runKernel(
          attentionRanges({
            batch,
            time,
            keys,
            causal: true,
            window: null,
            offset: 0,
            inputs: [{ limit: "segments", type: "i32" }],
          }),
          {
            inputs: [segments],
            outputs: [new Int32Array(batch * time * 2)],
          },
        )
        : [];
      const [out, lse] = await runKernel(attention({ ...shape, ...tiling, parts: 1 }), {
        inputs: [q, k, v, ...ranges, DRAW],
        outputs: [blank(expected.out.length), blank(expected.lse.length)],
      });
      assertClose(out, expected.out, { tolerance: TOLERANCE, what: "out" });
      assertClose(lse, expected.lse, { tolerance: TOLERANCE, what: "lse" });
      const numbers = [lse, Float32Array.from(expected.delta), ...ranges];
      const rows = await runKernel(attentionRows({ rows: lse.length, heads, ranges: ranged }), {
        inputs: numbers,
        outputs: [blank(4 * lse.length)],
      });
      const { parts = 1 } = tiling, inputs = [q, k, v, dOut, ...rows, DRAW];
      const [dq] = await runKernel(attentionGradQ({ ...shape, ...tiling }), {
        inputs,
        outputs: [blank(parts * expected.dq.length)],
      });
      assertClose(addParts(dq, parts), expected.dq, { tolerance: TOLERANCE, what: "dq" });
      if (tiling.staged) return;
      const shares = parts * expected.dk.length * heads / shape.kvHeads;
      const [dk, dv] = await runKernel(
        attentionGradKV({ ...shape, ...tiling, outputs: { k: true, v: true } }),
        { inputs, outputs: [blank(shares), blank(shares)] },
      );
      assertClose(addHeads(shape, addParts(dk, parts)), expected.dk, {
        tolerance: 4 * TOLERANCE,
        what: "dk",
      });
      assertClose(addHeads(shape, addParts(dv, parts)), expected.dv, {
        tolerance: 4 * TOLERANCE,
        what: "dv",
      });
    });
  }
}

Deno.test("attentionDrops draws on the device what attentionDropValues draws, of the right share and mean", async () => {
  const sizes = { batch: 2, time: 9, keys: 61, heads: 3, rate: RATE };
  const expected = attentionDropValues({ ...sizes, key: KEY, step: STEP });
  const [drops] = await runKernel(attentionDrops(sizes), {
    inputs: [DRAW],
    outputs: [blank(expected.length)],
  });
  assertEquals(drops, expected);
  const mean = expected.reduce((a, b) => a + b, 0) / expected.length;
  // The deviation of the mean of n factors is sqrt(rate / (1 - rate) / n), 0.011: four of them.
  assertAlmostEquals(mean, 1, 0.045);
  const others = [
    attentionDropValues({ ...sizes, key: KEY, step: STEP + 1 }),
    attentionDropValues({
      ...sizes,
      key: dropoutKey([5, 2]),
      step: STEP,
    }),
  ];
  for (const other of others) {
    const equal = other.filter((x, i) => (x === 0) === (expected[i] === 0)).length / other.length;
    assertAlmostEquals(equal, RATE ** 2 + (1 - RATE) ** 2, 0.05);
  }
});

Deno.test("attention with dropout is recommended no matrix units, and no staged gradients by keys", () => {
  const shape = { batch: 64, time: 512, heads: 16, kvHeads: 16, dim: 64, scale: 1, causal: true };
  const device = { software: false, workgroupBytes: 49152, subgroups: true, wideSubgroups: true };
  const units = {
    half: true,
    subgroupSize: 32,
    matrices: [{ m: 16, n: 16, k: 16, operands: "f16", sums: "f32" } as const],
  };
  const of = (dropout: number | undefined, pass: "forward" | "gradKV") =>
    attentionTiling({ ...shape, dropout }, { ...device, ...units, pass });
  assert(of(undefined, "forward").matrix !== undefined && of(RATE, "forward").matrix === undefined);
  assertEquals([of(RATE, "forward").staged, of(RATE, "gradKV").staged], [true, false]);
  assertThrows(
    () => attentionGradKV({ ...WIDE, dropout: RATE, ...stages(128, 32, 4), outputs: { k: true, v: true } }),
    RangeError,
    "are not staged",
  );
});
