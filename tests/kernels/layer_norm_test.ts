import { layerNorm, layerNormGradX } from "../../kernels/layer_norm.ts";
import type { Threads } from "../../kernels/rows.ts";
import { softmax, softmaxGrad } from "../../kernels/softmax.ts";
import { assertClose, blank, runKernel, values } from "./run_kernel.ts";

const EPS = 1e-5;

type Inputs = Record<"x" | "gain" | "bias" | "dy" | "more", ArrayLike<number>>;

function reference(width: number, { x, gain, bias, dy, more }: Inputs) {
  const rows = x.length / width;
  const y = new Float64Array(x.length), dx = new Float64Array(x.length);
  const mean = new Float64Array(rows), rstd = new Float64Array(rows);
  for (let r = 0; r < rows; r++) {
    const place = (c: number): number => r * width + c;
    for (let c = 0; c < width; c++) mean[r] += x[place(c)] / width;
    let variance = 0, level = 0, tilt = 0;
    for (let c = 0; c < width; c++) variance += (x[place(c)] - mean[r]) ** 2 / width;
    rstd[r] = 1 / Math.sqrt(variance + EPS);
    const norm = (c: number): number => (x[place(c)] - mean[r]) * rstd[r];
    for (let c = 0; c < width; c++) {
      y[place(c)] = norm(c) * gain[c] + bias[c];
      level += dy[place(c)] * gain[c] / width;
      tilt += dy[place(c)] * gain[c] * norm(c) / width;
    }
    for (let c = 0; c < width; c++) {
      dx[place(c)] = rstd[r] * (dy[place(c)] * gain[c] - level - norm(c) * tilt) + more[place(c)];
    }
  }
  return { y, dx, mean, rstd };
}

const CASES: readonly (readonly [rows: number, width: number, threads: Threads])[] = [
  [33, 5, 1],
  [5, 129, 1],
  [7, 288, 32],
  [3, 129, 128],
  [2, 1100, 256],
];

for (const [rows, width, threads] of CASES) {
  Deno.test(`layerNorm and layerNormGradX equal their definitions: ${rows}x${width}, ${threads} threads a row`, async () => {
    const size = rows * width, residual = rows % 2 === 1;
    const x = values(size, 1).map((v) => v + 3), [gain, bias] = [values(width, 2), values(width, 5)];
    const dy = values(size, 3), more = residual ? values(size, 4) : new Float32Array(size);
    const expected = reference(width, { x, gain, bias, dy, more });
    const [y, mean, rstd] = await runKernel(
      layerNorm({ rows, width, eps: EPS, threads, gain: true, bias: true, saveStatistics: true }),
      { inputs: [x, gain, bias], outputs: [blank(size), blank(rows), blank(rows)] },
    );
    // Values up to 4 from sums of up to 1,100 terms: f32 keeps means to about 5e-7, which a small deviation magnifies.
    const tolerance = 2e-5 * Math.max(1, ...expected.rstd);
    assertClose(y, expected.y, { tolerance, what: "y" });
    assertClose(mean, expected.mean, { tolerance: 3e-6, what: "mean" });
    assertClose(rstd, expected.rstd, { tolerance, what: "rstd" });
    const [dx] = await runKernel(layerNormGradX({ rows, width, threads, gain: true, residual }), {
      inputs: [
        x,
        dy,
        Float32Array.from(expected.mean),
        Float32Array.from(expected.rstd),
        gain,
        ...(residual ? [more] : []),
      ],
      outputs: [blank(size)],
    });
    assertClose(dx, expected.dx, { tolerance, what: "dx" });
  });
}

const AXES: readonly (readonly [outer: number, length: number, inner: number, threads: Threads])[] = [
  [33, 5, 1, 1],
  [3, 129, 1, 64],
  [2, 1100, 1, 256],
  [3, 7, 5, 1],
  [2, 33, 8, 1],
];

for (const [outer, length, inner, threads] of AXES) {
  Deno.test(`softmax and softmaxGrad equal their definitions: ${outer}x${length}x${inner}, ${threads} threads`, async () => {
    const size = outer * length * inner, options = { outer, length, inner, threads };
    // Far from zero, so that exponentials overflow unless the largest is taken out.
    const x = values(size, 1).map((v) => 5 * v + 200), dy = values(size, 2);
    const y = new Float64Array(size), dx = new Float64Array(size);
    for (let column = 0; column < outer * inner; column++) {
      const places = Array.from(
        { length },
        (_, k) => (Math.floor(column / inner) * length + k) * inner + column % inner,
      );
      const sum = places.reduce((n, p) => n + Math.exp(x[p] - 200), 0);
      for (const p of places) y[p] = Math.exp(x[p] - 200) / sum;
      const along = places.reduce((n, p) => n + y[p] * dy[p], 0);
      for (const p of places) dx[p] = y[p] * (dy[p] - along);
    }
    const [seen] = await runKernel(softmax(options), { inputs: [x], outputs: [blank(size)] });
    assertClose(seen, y, { tolerance: 1e-6, what: "y" });
    const [slope] = await runKernel(softmaxGrad(options), {
      inputs: [Float32Array.from(y), dy],
      outputs: [blank(size)],
    });
    assertClose(slope, dx, { tolerance: 1e-6, what: "dx" });
  });
}
