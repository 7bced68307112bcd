import { rmsNorm, rmsNormGradX } from "../../kernels/rms_norm.ts";
import { rowThreads, type Threads } from "../../kernels/rows.ts";
import { assert } from "@std/assert";
import { assertClose, blank, runKernel, values } from "./run_kernel.ts";

const EPS = 1e-5;
// Values of a few units from sums of up to 288 squares: float32 keeps them to about 1e-6.
const TOLERANCE = 1e-5;

function reference(width: number, { x, gain, dy }: Record<"x" | "gain" | "dy", ArrayLike<number>>) {
  const rows = x.length / width;
  const y = new Float64Array(x.length);
  const dx = new Float64Array(x.length);
  const rstd = new Float64Array(rows);
  for (let r = 0; r < rows; r++) {
    let squares = 0;
    for (let c = 0; c < width; c++) squares += x[r * width + c] ** 2;
    rstd[r] = 1 / Math.sqrt(squares / width + EPS);
    let along = 0; // mean over the row of dy * gain * normalised x
    for (let c = 0; c < width; c++) {
      y[r * width + c] = x[r * width + c] * rstd[r] * gain[c];
      along += dy[r * width + c] * gain[c] * x[r * width + c] * rstd[r] / width;
    }
    for (let c = 0; c < width; c++) {
      dx[r * width + c] = rstd[r] * (dy[r * width + c] * gain[c] - x[r * width + c] * rstd[r] * along);
    }
  }
  return { y, dx, rstd };
}

const CASES: readonly (readonly [rows: number, width: number, threads: Threads])[] = [
  [1, 1, 1],
  [33, 5, 1],
  [70, 64, 1],
  [5, 129, 1],
  [7, 288, 1],
  [3, 5, 32],
  [9, 64, 32],
  [4, 129, 64],
  [5, 288, 32],
  [3, 129, 128],
  [2, 1100, 256],
];

for (const [rows, width, threads] of CASES) {
  Deno.test(`rmsNorm and rmsNormGradX equal their definitions: ${rows}x${width}, ${threads} threads a row`, async () => {
    const [x, gain, dy] = [values(rows * width, 1), values(width, 2), values(rows * width, 3)];
    const more = values(rows * width, 4);
    const expected = reference(width, { x, gain, dy });
    const [y, rstd] = await runKernel(rmsNorm({ rows, width, eps: EPS, threads, saveScale: true }), {
      inputs: [x, gain],
      outputs: [blank(rows * width), blank(rows)],
    });
    assertClose(y, expected.y, { tolerance: TOLERANCE, what: "y" });
    const scale = Math.max(1, ...expected.rstd);
    assertClose(rstd, expected.rstd, { tolerance: TOLERANCE * scale, what: "rstd" });
    const residual = rows % 2 === 1;
    const [dx] = await runKernel(rmsNormGradX({ rows, width, threads, residual }), {
      inputs: [x, gain, dy, Float32Array.from(expected.rstd), ...(residual ? [more] : [])],
      outputs: [blank(rows * width)],
    });
    const sum = expected.dx.map((slope, i) => slope + (residual ? more[i] : 0));
    assertClose(dx, sum, { tolerance: TOLERANCE * scale, what: "dx" });
  });
}

Deno.test("rmsNorm without saveScale writes one output", async () => {
  const [x, gain] = [values(3 * 8, 1), values(8, 2)];
  const expected = reference(8, { x, gain, dy: x });
  const [y] = await runKernel(rmsNorm({ rows: 3, width: 8, eps: EPS, threads: 32, saveScale: false }), {
    inputs: [x, gain],
    outputs: [blank(24)],
  });
  assertClose(y, expected.y, { tolerance: TOLERANCE, what: "y" });
});

Deno.test("rowThreads gives a thread a row on software adapters and grows with the width on others", () => {
  assert(rowThreads(true, 4096) === 1);
  assert(rowThreads(false, 64) === 32);
  assert(rowThreads(false, 32000) === 256);
});
