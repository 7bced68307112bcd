import { assertEquals } from "@std/assert";
import { attentionGradKV, attentionGradQ } from "../../kernels/attention/backward.ts";
import { attentionGradBias } from "../../kernels/attention/bias_gradient.ts";
import { attention } from "../../kernels/attention/forward.ts";
import { attentionRanges, attentionRows } from "../../kernels/attention/visibility.ts";
import { ALL_CASES } from "../reference/all_cases.ts";
import { type Limits, randomCase } from "./attention_options.ts";
import { addHeads, addParts, arrays, reference } from "./attention_reference.ts";
import { assertClose, blank, type Data, runKernel } from "./run_kernel.ts";

/** Those of every test run: the quickest to compile that have each kind of tile, and each option in two of them. */
const SEEDS = ALL_CASES ? Array.from({ length: 200 }, (_, seed) => seed) : [2, 34, 46, 73, 132, 175];

// Scores reach a few units, and sums have up to 180 terms below one in some heads: float32 keeps them to about 1e-5.
const TOLERANCE = 1e-4;

/** Computes the ranges of keys, and compares each with what the limits let its query see. */
async function rangesOf({ options, inputs, sees }: Limits): Promise<Int32Array<ArrayBuffer>> {
  const { batch, time, keys } = options;
  const [ranges] = await runKernel(attentionRanges(options), {
    inputs,
    outputs: [new Int32Array(batch * time * 2).fill(-7)],
  });
  const seen = Array.from({ length: keys }, (_, j) => j);
  for (let b = 0; b < batch; b++) {
    for (let i = 0; i < time; i++) {
      const [from, to] = ranges.subarray(2 * (b * time + i));
      const what = `query ${i} of sequence ${b}`;
      assertEquals(seen.filter((j) => j >= from && j < to), seen.filter((j) => sees(b, i, j)), what);
    }
  }
  return ranges as Int32Array<ArrayBuffer>;
}

for (const seed of SEEDS) {
  const { title, shape, tiling, limits, bias } = randomCase(seed);
  Deno.test(`attention and its gradients equal their definitions, random case ${title}`, async () => {
    const { q, k, v, dOut } = arrays(shape);
    const expected = reference(shape, { q, k, v, dOut, bias }, limits?.sees);
    const near = (actual: ArrayLike<number>, what: "out" | "lse" | "dq" | "dk" | "dv" | "dBias"): void =>
      assertClose(actual, expected[what], { tolerance: TOLERANCE, what });
    const ranges = limits === null ? [] : [await rangesOf(limits)];
    const biases = bias === undefined ? [] : [bias];
    const [out, lse] = await runKernel(attention({ ...shape, ...tiling, parts: 1 }), {
      inputs: [q, k, v, ...ranges, ...biases],
      outputs: [blank(expected.out.length), blank(expected.lse.length)],
    });
    near(out, "out");
    near(lse, "lse");
    const delta = Float32Array.from(expected.delta);
    let numbers: Data[] = [lse, delta];
    if (ranges.length + biases.length > 0) {
      const rows = attentionRows({ rows: lse.length, heads: shape.heads, ranges: ranges.length > 0 });
      numbers = await runKernel(rows, { inputs: [lse, delta, ...ranges], outputs: [blank(4 * lse.length)] });
    }
    const inputs = [q, k, v, dOut, ...numbers, ...biases], { parts = 1 } = tiling;
    const [dq] = await runKernel(attentionGradQ({ ...shape, ...tiling }), {
      inputs,
      outputs: [blank(parts * expected.dq.length)],
    });
    near(addParts(dq, parts), "dq");
    const shares = parts * expected.dk.length * shape.heads / shape.kvHeads;
    const [dk, dv] = await runKernel(
      attentionGradKV({ ...shape, ...tiling, outputs: { k: true, v: true } }),
      {
        inputs,
        outputs: [blank(shares), blank(shares)],
      },
    );
    near(addHeads(shape, addParts(dk, parts)), "dk");
    near(addHeads(shape, addParts(dv, parts)), "dv");
    if (shape.bias === undefined) return;
    const [dBias] = await runKernel(attentionGradBias({ ...shape, bias: shape.bias }), {
      inputs,
      outputs: [blank(expected.dBias.length)],
    });
    near(dBias, "dBias");
  });
}
