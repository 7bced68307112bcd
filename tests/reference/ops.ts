/**
 * What the numeric operations mean: plain loops in float64, one function an operation.
 *
 * @module
 */

import { at, build, count, type Values } from "./values.ts";

/** Applies a function at every place; shapes broadcast as in NumPy. */
export function map(f: (...args: number[]) => number, ...inputs: readonly Values[]): Values {
  const rank = Math.max(...inputs.map((x) => x.shape.length));
  const shape = Array.from({ length: rank }, (_, d) => {
    const sizes = inputs.map((x) => x.shape[d - rank + x.shape.length] ?? 1);
    return sizes.find((size) => size !== 1) ?? 1;
  });
  return build(shape, (place) => f(...inputs.map((x) => at(x, place))));
}

/** Joins all elements along some axes, which vanish. */
export function fold(
  x: Values,
  { axes, join }: { readonly axes: readonly number[]; readonly join: (parts: readonly number[]) => number },
): Values {
  const kept = x.shape.map((_, d) => d).filter((d) => !axes.includes(d));
  const inner = axes.map((d) => x.shape[d]);
  return build(kept.map((d) => x.shape[d]), (place) => {
    const whole = x.shape.map((_, d) => place[kept.indexOf(d)] ?? 0);
    const parts = build(inner, (own) => {
      axes.forEach((d, i) => whole[d] = own[i]);
      return at(x, whole);
    });
    return join([...parts.data]);
  });
}

/** Adds numbers up. */
export function total(parts: readonly number[]): number {
  return parts.reduce((a, b) => a + b, 0);
}

/** Softmax over an axis, the last when absent. */
export function softmax(x: Values, axis = x.shape.length - 1): Values {
  const powers = map(Math.exp, x), sums = fold(powers, { axes: [axis], join: total });
  return map((e, sum) => e / sum, powers, { ...sums, shape: x.shape.with(axis, 1) });
}

/** The same elements in another shape. */
export function reshape({ data }: Values, shape: readonly number[]): Values {
  return { shape, data };
}

/** Axis d of the result is axis `axes[d]` of the input. */
export function permute(x: Values, axes: readonly number[]): Values {
  return build(axes.map((a) => x.shape[a]), (place) => at(x, axes.map((_, d) => place[axes.indexOf(d)])));
}

/** The block of `sizes` at `starts`. */
export function slice(
  x: Values,
  { starts, sizes }: { readonly starts: number[]; readonly sizes: number[] },
): Values {
  return build(sizes, (place) => at(x, place.map((p, d) => p + (x.shape[d] === 1 ? 0 : starts[d]))));
}

/** Zeros around an array. */
export function pad(
  x: Values,
  { before, after }: { readonly before: number[]; readonly after: number[] },
): Values {
  return build(x.shape.map((size, d) => before[d] + size + after[d]), (place) => {
    const own = place.map((p, d) => p - before[d]);
    return own.every((p, d) => p >= 0 && p < x.shape[d]) ? at(x, own) : 0;
  });
}

/** Arrays one after the other along an axis. */
export function concat(all: readonly Values[], axis: number): Values {
  const width = all.reduce((n, x) => n + x.shape[axis], 0);
  return build(all[0].shape.map((size, d) => d === axis ? width : size), (place) => {
    let before = 0, which = 0;
    while (place[axis] >= before + all[which].shape[axis]) before += all[which++].shape[axis];
    return at(all[which], place.map((p, d) => d === axis ? p - before : p));
  });
}

/** Product of stacked matrices, each operand as stored or transposed. */
export function matmul(
  a: Values,
  b: Values,
  { transposeA = false, transposeB = false }: {
    readonly transposeA?: boolean;
    readonly transposeB?: boolean;
  } = {},
): Values {
  const swap = (x: Values): Values =>
    permute(x, x.shape.map((_, d, { length }) => d < length - 2 ? d : 2 * length - 3 - d));
  const [left, right] = [transposeA ? swap(a) : a, transposeB ? swap(b) : b];
  const [m, k] = left.shape.slice(-2), n = right.shape.at(-1)!;
  const shape = [...left.shape.slice(0, -1), n];
  const data = new Float64Array(count(shape));
  for (let row = 0; row < data.length / n; row++) {
    const stack = Math.floor(row / m) * k;
    for (let i = 0; i < k; i++) {
      for (let c = 0; c < n; c++) {
        data[row * n + c] += left.data[row * k + i] * right.data[(stack + i) * n + c];
      }
    }
  }
  return { shape, data };
}

/** `x / sqrt(mean(x^2) + eps) * gain` over the last axis. */
export function rmsNorm(x: Values, gain: Values, eps: number): Values {
  const squares = fold(x, {
    axes: [x.shape.length - 1],
    join: (row) => total(row.map((v) => v * v)) / row.length,
  });
  return build(
    x.shape,
    (place) => at(x, place) / Math.sqrt(at(squares, place.slice(0, -1)) + eps) * gain.data[place.at(-1)!],
  );
}

/** `(x - mean) / sqrt(variance + eps)` over the last axis. */
export function layerNorm(x: Values, eps: number): Values {
  const mean = (row: readonly number[]): number => total(row) / row.length;
  const axes = [x.shape.length - 1];
  const means = fold(x, { axes, join: mean });
  const squares = fold(x, { axes, join: (row) => mean(row.map((v) => (v - mean(row)) ** 2)) });
  return build(x.shape, (place) => {
    const row = place.slice(0, -1);
    return (at(x, place) - at(means, row)) / Math.sqrt(at(squares, row) + eps);
  });
}

/** Turns elements i and i + D/2 of each head by the angle of their position: x [B, T, H, D], tables [T, D/2]. */
export function rotary(x: Values, cos: Values, sin: Values): Values {
  const half = cos.shape[1];
  return build(x.shape, ([b, t, h, d]) => {
    if (d >= 2 * half) return at(x, [b, t, h, d]);
    const other = at(x, [b, t, h, d < half ? d + half : d - half]);
    const angle = [t, d % half];
    return at(x, [b, t, h, d]) * at(cos, angle) + (d < half ? -other : other) * at(sin, angle);
  });
}

/**
 * Softmax attention: q [B, T, H, D], k and v [B, S, G, D], bias [B|1, H|1, T|1, S]; query i sits at position i + S - T.
 * `sees` replaces causality and window; a query that sees nothing gives 0.
 */
export function attention(
  [q, k, v, bias]: readonly Values[],
  { scale, causal = true, window = null, softCap = null, sees: given }: {
    readonly scale?: number;
    readonly causal?: boolean;
    readonly window?: number | null;
    readonly softCap?: number | null;
    readonly sees?: (b: number, i: number, j: number) => boolean;
  } = {},
): Values {
  const [batch, time, heads, dim] = q.shape, [, keys, groups] = k.shape;
  const factor = scale ?? 1 / Math.sqrt(dim);
  const data = new Float64Array(q.data.length);
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      const g = Math.floor(h * groups / heads);
      for (let i = 0; i < time; i++) {
        const query = ((b * time + i) * heads + h) * dim;
        const position = i + keys - time;
        const row = (j: number): number => ((b * keys + j) * groups + g) * dim;
        const sees = (j: number): boolean =>
          given !== undefined
            ? given(b, i, j)
            : (!(causal || window !== null) || j <= position) && (window === null || j > position - window);
        const weights = Array.from({ length: keys }, (_, j) => {
          let score = 0;
          for (let d = 0; d < dim; d++) score += q.data[query + d] * k.data[row(j) + d];
          if (!sees(j)) return 0;
          score *= factor;
          if (softCap !== null) score = softCap * Math.tanh(score / softCap);
          const [batches, biasHeads, queries] = bias?.shape ?? [];
          if (bias !== undefined) score += at(bias, [b % batches, h % biasHeads, i % queries, j]);
          return Math.exp(score);
        });
        const sum = total(weights) || 1;
        weights.forEach((w, j) => {
          for (let d = 0; d < dim; d++) data[query + d] += w / sum * v.data[row(j) + d];
        });
      }
    }
  }
  return { shape: q.shape, data };
}

/** Rows of a table by id; NaN outside the table. */
export function embedding(table: Values, ids: Values): Values {
  const [rows, width] = table.shape;
  return build([...ids.shape, width], (place) => {
    const id = at(ids, place.slice(0, -1));
    return id < 0 || id >= rows ? NaN : table.data[id * width + place.at(-1)!];
  });
}

/** Mean negative log-likelihood over the rows whose label is not -100; 0 when there is none. */
export function crossEntropy(logits: Values, labels: Values): Values {
  const classes = logits.shape.at(-1)!;
  let loss = 0, counted = 0;
  labels.data.forEach((label, row) => {
    if (label === -100) return;
    const scores = [...logits.data.subarray(row * classes, (row + 1) * classes)];
    loss += Math.log(total(scores.map(Math.exp))) - scores[label];
    counted++;
  });
  return { shape: [], data: Float64Array.of(loss / Math.max(1, counted)) };
}
