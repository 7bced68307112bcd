/**
 * Optimizers in float64 from their papers. Shares no code with the package.
 *
 * @module
 */

import { gradients, type Numbers, numbers, SHAPES, STEPS } from "./steps.ts";

/** One parameter before a step, and what changes it in place. */
interface Now {
  readonly path: string;
  readonly p: Float64Array;
  readonly g: Float64Array;
  /** From 1. */
  readonly step: number;
  /** A tensor of zeros that stays from step to step. */
  readonly keep: (name: string, size?: number) => Float64Array;
}

/** Takes all steps with an update. */
export function reference(update: (now: Now) => void): Numbers {
  const params = numbers(1), kept = new Map<string, Float64Array>();
  for (let step = 1; step <= STEPS; step++) {
    for (const [path, g] of gradients(step)) {
      const p = params.get(path)!;
      const keep = (name: string, size = p.length): Float64Array => {
        const key = `${name} ${path}`, value = kept.get(key) ?? new Float64Array(size);
        kept.set(key, value);
        return value;
      };
      update({ path, p, g, step, keep });
    }
  }
  return params;
}

/** Lion, algorithm 2 of arXiv 2302.06675. */
export function lionReference(
  { rate, beta1, beta2, decay }: Readonly<Record<"rate" | "beta1" | "beta2" | "decay", number>>,
): Numbers {
  return reference(({ p, g, keep }) => {
    const m = keep("m");
    p.forEach((x, i) => {
      p[i] = x - rate * (Math.sign(beta1 * m[i] + (1 - beta1) * g[i]) + decay * x);
      m[i] = beta2 * m[i] + (1 - beta2) * g[i];
    });
  });
}

/** AdamW without a schedule, algorithm 1 of arXiv 2405.15682: the points x, y and z one by one; gives y and x. */
export function scheduleFreeReference(
  { rate, beta1, beta2, eps, decay }: {
    readonly rate: (step: number) => number;
    readonly beta1: number;
    readonly beta2: number;
    readonly eps: number;
    readonly decay: number;
  },
): { readonly y: Numbers; readonly x: Numbers } {
  const x = numbers(1), z = numbers(1);
  let sum = 0, highest = 0, last = 0, share = 0;
  const y = reference(({ path, p, g, step, keep }) => {
    if (step !== last) {
      highest = Math.max(highest, rate(step));
      sum += highest ** 2;
      [share, last] = [highest ** 2 / sum, step];
    }
    const v = keep("v"), own = { x: x.get(path)!, z: z.get(path)! };
    p.forEach((y, i) => {
      v[i] = beta2 * v[i] + (1 - beta2) * g[i] ** 2;
      own.z[i] -= rate(step) * (g[i] / (Math.sqrt(v[i] / (1 - beta2 ** step)) + eps) + decay * y);
      own.x[i] = (1 - share) * own.x[i] + share * own.z[i];
      p[i] = (1 - beta1) * own.z[i] + beta1 * own.x[i];
    });
  });
  return { y, x };
}

/** Muon of matrices, and AdamW of others. */
export function muonReference(
  { rate, momentum, decay, nesterov, iterations, scale }: {
    readonly rate: number;
    readonly momentum: number;
    readonly decay: number;
    readonly nesterov: boolean;
    readonly iterations: number;
    readonly scale: (rows: number, columns: number) => number;
  },
): Numbers {
  return reference(({ path, p, g, step, keep }) => {
    const [rows, columns] = SHAPES[path], m = keep("m");
    if (columns === undefined) return adamWStep({ p, g, step, keep }, rate);
    g.forEach((x, i) => m[i] = momentum * m[i] + (1 - momentum) * x);
    const way = m.map((x, i) => nesterov ? momentum * x + (1 - momentum) * g[i] : x);
    const norm = Math.hypot(...way);
    let x = Array.from(
      { length: rows },
      (_, r) => [...way.subarray(r * columns, (r + 1) * columns)].map((e) => e / norm),
    );
    for (let n = 0; n < iterations; n++) {
      const gram = times(x, transposed(x)), twice = times(gram, gram);
      const polynomial = gram.map((row, r) => row.map((e, c) => -4.775 * e + 2.0315 * twice[r][c]));
      const more = times(polynomial, x);
      x = x.map((row, r) => row.map((e, c) => 3.4445 * e + more[r][c]));
    }
    const flat = x.flat();
    p.forEach((w, i) => p[i] = w - rate * decay * w - rate * scale(rows, columns) * flat[i]);
  });
}

function adamWStep({ p, g, step, keep }: Omit<Now, "path">, rate: number): void {
  const m = keep("m"), v = keep("v");
  p.forEach((x, i) => {
    m[i] = 0.9 * m[i] + 0.1 * g[i];
    v[i] = 0.999 * v[i] + 0.001 * g[i] ** 2;
    p[i] = x - rate * (m[i] / (1 - 0.9 ** step)) / (Math.sqrt(v[i] / (1 - 0.999 ** step)) + 1e-8);
  });
}

type Matrix = readonly (readonly number[])[];

function times(a: Matrix, b: Matrix): number[][] {
  return a.map((row) => b[0].map((_, c) => row.reduce((sum, x, k) => sum + x * b[k][c], 0)));
}

function transposed(a: Matrix): number[][] {
  return a[0].map((_, c) => a.map((row) => row[c]));
}

/** The numbers of 8-bit codes: of a first moment those of both signs, of a second those from 0. */
export function codes8bit(signed: boolean): number[] {
  const values = [0, 1];
  for (let i = 0; i < 7; i++) {
    const size = 2 ** (signed ? i : i + 1);
    for (let j = 0; j < size; j++) {
      const value = 10 ** (i - 6) * (0.1 + 0.9 * (j + 0.5) / size);
      values.push(value);
      if (signed) values.push(-value);
    }
  }
  return values.sort((a, b) => a - b);
}

/** AdamW whose moments are packed in blocks after every step, as arXiv 2110.02861 says. */
export function adamW8bitReference({ rate, decay, block }: {
  readonly rate: number;
  readonly decay: number;
  readonly block: number;
}): Numbers {
  const packed = (values: Float64Array, codes: readonly number[]): void => {
    for (let at = 0; at < values.length; at += block) {
      const part = values.subarray(at, at + block), top = Math.fround(Math.max(...part.map(Math.abs)));
      part.forEach((x, i) => {
        const near = codes.reduce((best, c) => Math.abs(c - x / top) < Math.abs(best - x / top) ? c : best);
        part[i] = top === 0 ? 0 : near * top;
      });
    }
  };
  const [signed, unsigned] = [codes8bit(true), codes8bit(false)];
  return reference(({ p, g, step, keep }) => {
    const before = p.slice();
    adamWStep({ p, g, step, keep }, rate);
    p.forEach((x, i) => p[i] = x - rate * decay * before[i]);
    packed(keep("m"), signed);
    packed(keep("v"), unsigned);
  });
}
