import { singleQueryAttention } from "../../kernels/attention/single_query.ts";
import type { AttentionShape } from "../../kernels/attention/frame.ts";
import { arrays, reference } from "./attention_reference.ts";
import { assertClose, blank, runKernel } from "./run_kernel.ts";

const SHAPE: AttentionShape = {
  batch: 2,
  time: 1,
  keys: 37,
  heads: 4,
  kvHeads: 2,
  dim: 16,
  scale: 0.25,
  causal: true,
};

/** Shapes that take each way through the kernel: idle threads, values longer than the threads, several chunks of keys. */
const CASES: readonly (readonly [string, Partial<AttentionShape>])[] = [
  ["few keys", { keys: 3 }],
  ["one key", { keys: 1 }],
  ["a head that four does not divide", { dim: 6, kvHeads: 1 }],
  ["heads longer than the threads", { dim: 132, heads: 2 }],
  ["more keys than weights in memory", { keys: 1030, heads: 2, kvHeads: 1, batch: 1 }],
  ["a window", { window: 5 }],
  ["a window longer than the keys", { window: 50 }],
  ["a bound of scores", { softCap: 0.5 }],
];

for (const threads of [32, 256] as const) {
  for (const [title, more] of CASES) {
    Deno.test(`singleQueryAttention with ${threads} threads equals its definition: ${title}`, async () => {
      const shape = { ...SHAPE, ...more }, { q, k, v, dOut } = arrays(shape);
      const expected = reference(shape, { q, k, v, dOut });
      const [out, lse] = await runKernel(singleQueryAttention({ ...shape, threads }), {
        inputs: [q, k, v],
        outputs: [blank(expected.out.length), blank(expected.lse.length)],
      });
      assertClose(out, expected.out, { tolerance: 2e-5, what: "out" });
      assertClose(lse, expected.lse, { tolerance: 2e-5, what: "lse" });
    });
  }

  Deno.test(`singleQueryAttention with ${threads} threads sees the keys of its range, and gives 0 for none`, async () => {
    const { q, k, v, dOut } = arrays(SHAPE), ranges = [[4, 9], [7, 7]];
    const sees = (b: number, _: number, j: number): boolean => j >= ranges[b][0] && j < ranges[b][1];
    const expected = reference(SHAPE, { q, k, v, dOut }, sees), half = expected.out.length / 2;
    const [out] = await runKernel(singleQueryAttention({ ...SHAPE, ranges: true, threads }), {
      inputs: [q, k, v, new Int32Array(ranges.flat())],
      outputs: [blank(expected.out.length), blank(expected.lse.length)],
    });
    assertClose(out, expected.out.map((x, i) => i < half ? x : 0), { tolerance: 2e-5, what: "out" });
  });
}
