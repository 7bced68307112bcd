import { assert } from "@std/assert";
import { crossEntropy, crossEntropyGrad } from "../../kernels/cross_entropy.ts";
import type { Threads } from "../../kernels/rows.ts";
import { assertClose, blank, runKernel, values } from "./run_kernel.ts";

const IGNORE = -100;
// Logits are in -20..20: 1e-5 is a few units in the last place of float32.
const TOLERANCE = 1e-5;

function reference(logits: ArrayLike<number>, { classes, labels }: { classes: number; labels: Int32Array }) {
  const loss = new Float64Array(labels.length);
  const lse = new Float64Array(labels.length);
  const slope = new Float64Array(logits.length);
  labels.forEach((label, r) => {
    const row = Array.from({ length: classes }, (_, c) => logits[r * classes + c]);
    const highest = Math.max(...row);
    lse[r] = highest + Math.log(row.reduce((sum, x) => sum + Math.exp(x - highest), 0));
    if (label === IGNORE) return;
    loss[r] = lse[r] - row[label];
    row.forEach((x, c) => slope[r * classes + c] = Math.exp(x - lse[r]) - (c === label ? 1 : 0));
  });
  return { loss, lse, slope };
}

const CASES: readonly (readonly [rows: number, classes: number, threads: Threads])[] = [
  [1, 1, 1],
  [37, 97, 1],
  [5, 64, 1],
  [6, 97, 32],
  [5, 1000, 64],
  [3, 97, 128],
  [3, 4100, 256],
];

for (const [rows, classes, threads] of CASES) {
  Deno.test(`crossEntropy and its gradient equal their definitions: ${rows}x${classes}, ${threads} threads`, async () => {
    const logits = values(rows * classes, 1).map((x) => 20 * x);
    const labels = Int32Array.from(
      { length: rows },
      (_, r) => r % 5 === 3 ? IGNORE : (r * 31 + classes - 1) % classes,
    );
    const expected = reference(logits, { classes, labels });
    const [loss, lse] = await runKernel(crossEntropy({ rows, classes, ignore: IGNORE, threads }), {
      inputs: [logits, labels],
      outputs: [blank(rows), blank(rows)],
    });
    assertClose(loss, expected.loss, { tolerance: TOLERANCE, what: "loss" });
    assertClose(lse, expected.lse, { tolerance: TOLERANCE, what: "lse" });
    const inPlace = threads === 1;
    const scale = new Float32Array([0.25]);
    const lse32 = Float32Array.from(expected.lse);
    const [slope] = await runKernel(crossEntropyGrad({ rows, classes, ignore: IGNORE, inPlace }), {
      inputs: inPlace ? [labels, lse32, scale] : [logits, labels, lse32, scale],
      outputs: [inPlace ? logits : blank(rows * classes)],
    });
    assertClose(slope, expected.slope.map((x) => 0.25 * x), { tolerance: TOLERANCE, what: "dlogits" });
  });
}

for (
  const [classes, stride, threads] of [[97, 104, 1], [97, 104, 32], [5, 8, 1], [1030, 1032, 64], [
    97,
    101,
    1,
  ]] as const
) {
  Deno.test(`crossEntropy and its gradient see ${classes} classes of ${stride}, ${threads} threads`, async () => {
    const rows = 5;
    const own = values(rows * classes, 1).map((x) => 20 * x);
    // What lies behind the classes may be anything, as memory is used again.
    const logits = Float32Array.from({ length: rows * stride }, (_, i) => {
      const column = i % stride;
      return column < classes
        ? own[Math.floor(i / stride) * classes + column]
        : [NaN, Infinity, 50][column % 3];
    });
    const labels = Int32Array.from({ length: rows }, (_, r) => r === 3 ? IGNORE : classes - 1 - r);
    const expected = reference(own, { classes, labels });
    const sizes = { rows, classes, stride, ignore: IGNORE };
    const [loss, lse] = await runKernel(crossEntropy({ ...sizes, threads }), {
      inputs: [logits, labels],
      outputs: [blank(rows), blank(rows)],
    });
    assertClose(loss, expected.loss, { tolerance: TOLERANCE, what: "loss" });
    assertClose(lse, expected.lse, { tolerance: TOLERANCE, what: "lse" });
    const [slope] = await runKernel(crossEntropyGrad({ ...sizes, inPlace: true }), {
      inputs: [labels, lse, new Float32Array([1])],
      outputs: [logits],
    });
    assertClose(slope.filter((_, i) => i % stride < classes), expected.slope, {
      tolerance: TOLERANCE,
      what: "dlogits",
    });
    assert(slope.every((x, i) => i % stride < classes || x === 0));
  });
}

Deno.test("crossEntropy takes logits of minus infinity and gives NaN for a label outside the classes", async () => {
  const classes = 8;
  const logits = values(2 * classes, 1);
  logits.fill(-Infinity, 1, 5);
  const labels = new Int32Array([0, classes]);
  const [loss] = await runKernel(crossEntropy({ rows: 2, classes, ignore: IGNORE, threads: 32 }), {
    inputs: [logits, labels],
    outputs: [blank(2), blank(2)],
  });
  const left = [logits[0], logits[5], logits[6], logits[7]];
  const expected = Math.log(left.reduce((sum, x) => sum + Math.exp(x), 0)) - logits[0];
  assertClose([loss[0]], [expected], { tolerance: TOLERANCE, what: "loss" });
  assert(Number.isNaN(loss[1]));
});

Deno.test("crossEntropyGrad gives zero for an ignored row of NaN and NaN for a label outside the classes", async () => {
  const logits = new Float32Array(8).fill(NaN, 0, 4);
  const [slope] = await runKernel(crossEntropyGrad({ rows: 2, classes: 4, ignore: IGNORE }), {
    inputs: [
      logits,
      new Int32Array([IGNORE, -1]),
      new Float32Array([NaN, Math.log(4)]),
      new Float32Array([1]),
    ],
    outputs: [blank(8)],
  });
  assertClose(slope, [0, 0, 0, 0, NaN, NaN, NaN, NaN], { tolerance: 0, what: "dlogits" });
});
