/**
 * The value of a graph in float64, fused ops by their definitions: models as they are, without a device.
 *
 * @module
 */

import type { Tensor } from "@firn/train";
import { ELEMENT } from "./evaluate.ts";
import { count, type Values } from "./values.ts";

/** Steps from an element to the next along each axis; 0 along axes of size 1, which repeat over `shape`. */
function stepsOf(own: readonly number[], shape: readonly number[] = own): number[] {
  const steps = own.map((_, d) => own[d] === 1 ? 0 : count(own.slice(d + 1)));
  return [...shape.slice(own.length).map(() => 0), ...steps];
}

/** Visits the places of a shape in order, each with its offset by the steps. */
function walk(
  { shape, steps, first = 0 }: {
    readonly shape: readonly number[];
    readonly steps: readonly number[];
    readonly first?: number;
  },
  visit: (index: number, offset: number) => void,
): void {
  const place = shape.map(() => 0), total = count(shape);
  for (let i = 0, offset = first; i < total; i++) {
    visit(i, offset);
    for (let d = shape.length - 1; d >= 0; d--) {
      offset += steps[d];
      if (++place[d] < shape[d]) break;
      offset -= steps[d] * shape[d];
      place[d] = 0;
    }
  }
}

type Walk = Parameters<typeof walk>[0];

function taken({ data }: Values, along: Walk): Values {
  const out = new Float64Array(count(along.shape));
  walk(along, (i, offset) => {
    out[i] = data[offset];
  });
  return { shape: along.shape, data: out };
}

function put(
  shape: readonly number[],
  parts: readonly { readonly x: Values; readonly first: number }[],
): Values {
  const data = new Float64Array(count(shape)), steps = shape.map((_, d) => count(shape.slice(d + 1)));
  for (const { x, first } of parts) {
    walk({ shape: x.shape, steps, first }, (i, offset) => data[offset] = x.data[i]);
  }
  return { shape, data };
}

const spread = (x: Values, shape: readonly number[]): Values =>
  taken(x, { shape, steps: stepsOf(x.shape, shape) });

function elementwise(
  f: (...args: number[]) => number,
  inputs: readonly Values[],
  shape: readonly number[],
): Values {
  const size = count(shape), data = new Float64Array(size);
  const [x, y, z] = inputs.map((input) =>
    input.data.length === size ? input.data : spread(input, shape).data
  );
  if (y === undefined) { for (let i = 0; i < size; i++) data[i] = f(x[i]); }
  else if (z === undefined) { for (let i = 0; i < size; i++) data[i] = f(x[i], y[i]); }
  else for (let i = 0; i < size; i++) data[i] = f(x[i], y[i], z[i]);
  return { shape, data };
}

// deno-lint-ignore no-explicit-any
type Attrs = any;
type Rule = (inputs: readonly Values[], attrs: Attrs, shape: readonly number[]) => Values;

function product([a, b]: readonly Values[], attrs: Attrs, shape: readonly number[]): Values {
  const { transposeA = false, transposeB = false, padOut = 0 } = attrs;
  const [m, full] = shape.slice(-2), n = full - padOut, wide = a.shape.at(-1)!;
  const k = b.shape.at(transposeB ? -1 : -2)!, data = new Float64Array(count(shape));
  const [am, ak] = transposeA ? [1, wide] : [wide, 1], [bk, bn] = transposeB ? [1, k] : [n, 1];
  const sizes = [a.shape.at(-2)! * wide, b.shape.at(-2)! * b.shape.at(-1)!];
  for (let row = 0; row < data.length / full; row++) {
    const stack = Math.floor(row / m), i = row % m;
    const [left, right] = [a, b].map((x, s) => x.data.length === sizes[s] ? 0 : stack * sizes[s]);
    for (let j = 0; j < n; j++) {
      let total = 0;
      for (let l = 0; l < k; l++) total += a.data[left + i * am + l * ak] * b.data[right + l * bk + j * bn];
      data[row * full + j] = total;
    }
  }
  return { shape, data };
}

function reduced(
  [x]: readonly Values[],
  { axis, count: axes, kind }: Attrs,
  shape: readonly number[],
): Values {
  const inner = count(x.shape.slice(axis + axes)), middle = count(x.shape.slice(axis, axis + axes));
  const data = new Float64Array(count(shape)).fill(kind === "sum" ? 0 : -Infinity);
  x.data.forEach((value, i) => {
    const at = Math.floor(i / inner / middle) * inner + i % inner;
    data[at] = kind === "sum" ? data[at] + value : Math.max(data[at], value);
  });
  return { shape, data };
}

function ranges(
  inputs: readonly Values[],
  { time, keys, causal, window, limits }: Attrs,
  shape: readonly number[],
): Values {
  const limit = (name: string): Float64Array | undefined => inputs[limits.indexOf(name)]?.data;
  const [starts, lengths, segments] = [limit("starts"), limit("lengths"), limit("segments")];
  /** Where the run of equal numbers begins, or ends, in which a key lies. */
  const run = (b: number, at: number, step: number): number => {
    if (segments === undefined) return step < 0 ? 0 : keys;
    const own = segments.subarray(b * keys, (b + 1) * keys);
    let end = at;
    while (own[end + step] === own[at]) end += step;
    return step < 0 ? end : end + 1;
  };
  return {
    shape,
    data: Float64Array.from({ length: count(shape) }, (_, i) => {
      const row = i >> 1, b = Math.floor(row / time), at = row % time + keys - time;
      if (i % 2 === 0) return Math.max(starts?.[b] ?? 0, window ? at - window + 1 : 0, run(b, at, -1));
      return Math.min(lengths?.[b] ?? keys, causal || window ? at + 1 : keys, run(b, at, 1));
    }),
  };
}

function running([x]: readonly Values[], { axis, reverse }: Attrs, shape: readonly number[]): Values {
  const inner = count(shape.slice(axis + 1)), length = shape[axis], data = x.data.slice();
  for (let i = 0; i < data.length; i++) {
    const at = reverse ? data.length - 1 - i : i, place = Math.floor(at / inner) % length;
    if (place !== (reverse ? length - 1 : 0)) data[at] += data[at + (reverse ? inner : -inner)];
  }
  return { shape, data };
}

const rowsOf = ([table, ids]: readonly Values[], _: unknown, shape: readonly number[]): Values => {
  const width = table.shape[1], data = new Float64Array(count(shape));
  ids.data.forEach((id, i) => data.set(table.data.subarray(id * width, (id + 1) * width), i * width));
  return { shape, data };
};

const sumsOfRows = ([gradient, , , ids]: readonly Values[], _: unknown, shape: readonly number[]): Values => {
  const width = shape[1], data = new Float64Array(count(shape));
  ids.data.forEach((id, i) => {
    for (let c = 0; c < width && id >= 0; c++) data[id * width + c] += gradient.data[i * width + c];
  });
  return { shape, data };
};

/** Rows whose label is not ignored; the rest are zeros. The order of rows is not changed here. */
function labelledRows([x, labels]: readonly Values[], { start }: Attrs, shape: readonly number[]): Values {
  const [rows, width] = shape, data = x.data.slice(start * width, (start + rows) * width);
  for (let r = 0; r < rows; r++) if (labels.data[start + r] < 0) data.fill(0, r * width, (r + 1) * width);
  return { shape, data };
}

/** How many of a list come before a number. */
const below = (list: Float64Array, end: number): number => list.reduce((n, x) => n + (x < end ? 1 : 0), 0);

/** The pair of each row: sorted by expert, stably. */
const sortedPairs = ({ data }: Values): number[] =>
  [...data.keys()].toSorted((a, b) => data[a] - data[b] || a - b);

/** The first row of each expert, and the end. */
const groupsOf = ({ data }: Values, experts: number): Values => ({
  shape: [experts + 1],
  data: Float64Array.from({ length: experts + 1 }, (_, e) => below(data, e)),
});

function largest([x]: readonly Values[], { axis, count: k }: Attrs, wanted: "values" | "indices"): Values {
  const length = x.shape[axis], rows = x.data.length / length, data = new Float64Array(rows * k);
  if (axis !== x.shape.length - 1) {
    throw new TypeError(`Cannot evaluate "topK" of axis ${axis}: not the last`);
  }
  for (let r = 0; r < rows; r++) {
    const own = x.data.subarray(r * length, (r + 1) * length);
    const best = [...own.keys()].toSorted((a, b) => own[b] - own[a] || a - b).slice(0, k);
    data.set(wanted === "values" ? best.map((i) => own[i]) : best, r * k);
  }
  return { shape: x.shape.with(axis, k), data };
}

function pairRows([x, order]: readonly Values[], { each }: Attrs, shape: readonly number[]): Values {
  const width = shape[1], data = new Float64Array(count(shape));
  order.data.forEach((pair, row) => {
    const token = Math.floor(pair / each);
    data.set(x.data.subarray(token * width, (token + 1) * width), row * width);
  });
  return { shape, data };
}

function tokenSums([y, places]: readonly Values[], { each }: Attrs, shape: readonly number[]): Values {
  const width = shape[1], data = new Float64Array(count(shape));
  places.data.forEach((row, pair) => {
    for (let c = 0; c < width; c++) data[Math.floor(pair / each) * width + c] += y.data[row * width + c];
  });
  return { shape, data };
}

/** Computed expert by expert, as if each were the only one. */
function groupedProduct(
  [x, w, , groups]: readonly Values[],
  { transposeB }: Attrs,
  shape: readonly number[],
): Values {
  const k = x.shape[1], [experts, ...matrix] = w.shape, data = new Float64Array(count(shape));
  for (let e = 0; e < experts; e++) {
    const [from, to] = groups.data.slice(e, e + 2), size = count(matrix);
    const rows = { shape: [to - from, k], data: x.data.slice(from * k, to * k) };
    const own = { shape: matrix, data: w.data.slice(e * size, (e + 1) * size) };
    data.set(product([rows, own], { transposeB }, [to - from, shape[1]]).data, from * shape[1]);
  }
  return { shape, data };
}

function groupedGrad([a, b, , groups]: readonly Values[], _: unknown, shape: readonly number[]): Values {
  const [experts, n, k] = shape, data = new Float64Array(count(shape));
  for (let e = 0; e < experts; e++) {
    const [from, to] = groups.data.slice(e, e + 2);
    const rows = (x: Values, width: number): Values => ({
      shape: [to - from, width],
      data: x.data.slice(from * width, to * width),
    });
    data.set(product([rows(a, n), rows(b, k)], { transposeA: true }, [n, k]).data, e * n * k);
  }
  return { shape, data };
}

/** Ops that have no definition. */
const OPS: Readonly<Record<string, Rule>> = {
  host: (_, { data }, shape) => ({ shape, data: Float64Array.from(data as Float32Array) }),
  fill: (_, { value }, shape) => ({ shape, data: new Float64Array(count(shape)).fill(value) }),
  reshape: ([{ data }], _, shape) => ({ shape, data }),
  broadcast: ([x], _, shape) => spread(x, shape),
  permute: ([x], { axes }, shape) => taken(x, { shape, steps: axes.map((a: number) => stepsOf(x.shape)[a]) }),
  slice([x], { starts }, shape) {
    const steps = stepsOf(x.shape);
    return taken(x, { shape, steps, first: steps.reduce((n, step, d) => n + step * starts[d], 0) });
  },
  pad: ([x], { before }, shape) =>
    put(shape, [{ x, first: shape.reduce((n, _, d) => n + before[d] * count(shape.slice(d + 1)), 0) }]),
  concat(all, { axis }, shape) {
    const inner = count(shape.slice(axis + 1));
    return put(
      shape,
      all.map((x, i) => ({
        x,
        first: inner * all.slice(0, i).reduce((n, { shape }) => n + shape[axis], 0),
      })),
    );
  },
  matmul: product,
  reduce: reduced,
  sumEach: (all, _, shape) => ({
    shape,
    data: Float64Array.from({ length: shape[0] }, (_, i) => all[i]?.data.reduce((a, b) => a + b, 0) ?? 0),
  }),
  cumsum: running,
  attentionRanges: ranges,
  embedding: rowsOf,
  embeddingOrder: ([ids]) => ids,
  embeddingGrad: sumsOfRows,
  nextLabels: ([x], _, shape) => ({
    shape,
    data: x.data.map((_, i) => i % shape[1] === shape[1] - 1 ? -100 : x.data[i + 1]),
  }),
  compactOrder: ([labels]) => labels,
  gatherRows: labelledRows,
  scatterRows: ([x]) => x,
  topK: (inputs, attrs) => largest(inputs, attrs, "values"),
  // The experts of pairs stand for their counts and places.
  expertCounts: ([chosen]) => chosen,
  expertStarts: ([chosen]) => chosen,
  expertPlaces: ([chosen], _, shape) => ({ shape, data: Float64Array.from(sortedPairs(chosen)) }),
  takeRows: pairRows,
  sumRows: tokenSums,
  groupedMatmul: groupedProduct,
  groupedMatmulGrad: groupedGrad,
};

/** Further outputs of ops that have no definition. */
const FURTHER: Readonly<Record<string, (inputs: readonly Values[], attrs: Attrs) => readonly Values[]>> = {
  embeddingOrder: ([ids]) => [ids],
  topK: (inputs, attrs) => [largest(inputs, attrs, "indices")],
  expertStarts: ([chosen], { experts }) => [groupsOf(chosen, experts), chosen],
  expertPlaces([chosen]) {
    const rows = new Float64Array(chosen.data.length);
    sortedPairs(chosen).forEach((pair, row) => rows[pair] = row);
    return [{ shape: chosen.shape, data: rows }];
  },
  compactOrder: ([{ data }]) => [{ shape: [1], data: Float64Array.of(data.filter((x) => x >= 0).length) }],
  gatherRows([, labels], { start, count: rows }) {
    const own = labels.data.slice(start, start + rows);
    return [{ shape: [rows], data: own }, { shape: [1], data: Float64Array.of(rows) }];
  },
};

/**
 * Evaluates graphs.
 *
 * @param roots What to evaluate
 * @param leaves Values of the leaves
 * @returns The value of each root
 * @throws {TypeError} When an op has no definition and is not known here
 */
export function evaluateFused(roots: readonly Tensor[], leaves: ReadonlyMap<Tensor, Values>): Values[] {
  return valuesOf(roots, new Map(leaves));
}

function valuesOf(roots: readonly Tensor[], known: Map<Tensor, Values>): Values[] {
  const stack = [...roots];
  while (stack.length > 0) {
    const node = stack.at(-1)!, { op, attrs } = node;
    const from = op.name === "pick" ? node.inputs[0] : node;
    const open = known.has(node) ? [] : from.inputs.filter((input) => !known.has(input));
    if (open.length > 0) {
      stack.push(...open);
      continue;
    }
    stack.pop();
    if (known.has(node)) continue;
    const index = from === node ? 0 : (attrs as { index: number }).index;
    known.set(node, outputOf(from, { index, known }));
  }
  return roots.map((root) => known.get(root)!);
}

function outputOf(
  { op, attrs, inputs, shape }: Tensor,
  { index, known }: { readonly index: number; readonly known: Map<Tensor, Values> },
): Values {
  const values = inputs.map((input) => known.get(input)!);
  if (index > 0 && FURTHER[op.name] !== undefined) return FURTHER[op.name](values, attrs)[index - 1];
  if (OPS[op.name] !== undefined) return OPS[op.name](values, attrs, shape);
  if (ELEMENT[op.name] !== undefined) return elementwise(ELEMENT[op.name], values, shape);
  if (op.definition === undefined) throw new TypeError(`Cannot evaluate "${op.name}": not known`);
  return valuesOf([op.definition(inputs, attrs)[index]], known)[0];
}
