/**
 * Random graphs over the public ops: the same ones for the same seeds.
 *
 * @module
 */

import { grad, leaf, stepScalar, type Tensor, tensor } from "@firn/train";
import {
  abs,
  add,
  concat,
  divide,
  exp,
  less,
  matmul,
  max,
  maximum,
  mean,
  minimum,
  multiply,
  negate,
  pad,
  permute,
  reshape,
  sigmoid,
  slice,
  subtract,
  sum,
  sumEach,
  tanh,
  where,
} from "@firn/train/ops";

import { count, random, type Values } from "../reference/values.ts";

/** The softmax of rows out of ops that are fused; `softmax` itself is one kernel. */
function softmax(x: Tensor): Tensor {
  const powers = exp(subtract(x, max(x, -1, { keepDims: true })));
  return divide(powers, sum(powers, -1, { keepDims: true }));
}

/** A graph to plan, and what its leaves hold before. */
export interface RandomGraph {
  /** What kind it is, and its seed. */
  readonly name: string;
  readonly roots: readonly Tensor[];
  /** Root index to the leaf that it overwrites. */
  readonly updates: ReadonlyMap<number, Tensor>;
  /** Values of the leaves by path. */
  readonly leaves: ReadonlyMap<string, Values>;
}

/** A graph under construction. */
interface Builder {
  /** A whole number from `low` to `high`, both included. */
  whole(low: number, high: number): number;
  chance(p: number): boolean;
  pick<T>(all: readonly T[]): T;
  leaf(shape: readonly number[]): Tensor;
  /** Keeps a value: it is a root. */
  keep(x: Tensor): Tensor;
  /** Overwrites a leaf with a value of its shape. */
  update(leaf: Tensor, value: Tensor): void;
  readonly kept: readonly Tensor[];
}

/** Numbers in [0, 1). Source: "mulberry32" by Tommy Ettinger. */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = state + 0x6D2B79F5 >>> 0;
    let t = Math.imul(state ^ state >>> 15, state | 1);
    t ^= t + Math.imul(t ^ t >>> 7, t | 61);
    return ((t ^ t >>> 14) >>> 0) / 2 ** 32;
  };
}

/** Values that stay small, whatever they are made of. */
const UNARY: readonly ((x: Tensor) => Tensor)[] = [
  tanh,
  sigmoid,
  abs,
  negate,
  (x) => multiply(x, 0.7),
  (x) => add(x, 0.1),
  (x) => exp(negate(abs(x))),
  (x) => divide(x, 1.5),
  (x) => multiply(x, stepScalar((step) => 0.9 / step)),
  (x) => multiply(x, stepScalar(() => 0.6)),
];
const BINARY: readonly ((a: Tensor, b: Tensor) => Tensor)[] = [
  (a, b) => multiply(add(a, b), 0.6),
  subtract,
  (a, b) => multiply(tanh(a), b),
  maximum,
  minimum,
  (a, b) => add(multiply(a, 0.9), multiply(b, 0.1)),
];

function fits(a: readonly number[], b: readonly number[]): boolean {
  return a.every((size, i) => {
    const other = b[i + b.length - a.length];
    return other === undefined || size === 1 || other === 1 || size === other;
  });
}

/** One more value made of some that are there. */
function grow(b: Builder, pool: readonly Tensor[]): Tensor {
  const x = b.pick(pool), rank = x.shape.length;
  switch (b.whole(0, 11)) {
    case 0:
      return rank > 0 ? sum(x, b.whole(0, rank - 1)) : tanh(x);
    case 1:
      return rank > 0 ? b.pick([mean, max])(x, -1) : abs(x);
    case 2:
      return b.chance(0.5) ? multiply(sum(x), 0.1) : sumEach([x, b.pick(pool), b.pick(pool)]);
    case 3:
      return rank === 2 && count(x.shape) < 200
        ? tanh(
          matmul(x, b.pick([x, ...pool.filter((y) => `${y.shape}` === `${x.shape}`)]), { transposeB: true }),
        )
        : sigmoid(x);
    case 4:
      return rank === 2 ? b.pick([(y: Tensor) => permute(y, [1, 0]), softmax])(x) : negate(x);
    case 5: {
      const axis = b.whole(0, rank - 1);
      if (rank === 0 || count(x.shape) > 200) return abs(x);
      return concat(Array.from({ length: b.whole(2, 9) }, (_, i) => i % 2 === 0 ? x : tanh(x)), axis);
    }
    case 6: {
      if (rank === 0) return negate(x);
      const starts = x.shape.map((d) => d > 1 ? b.whole(0, 1) : 0);
      return slice(x, { starts, sizes: x.shape.map((d, i) => d - starts[i]) });
    }
    case 7:
      if (rank === 0 || count(x.shape) > 200) return tanh(x);
      return b.chance(0.5)
        ? pad(x, { before: x.shape.map(() => 1), after: x.shape.map(() => b.whole(0, 1)) })
        : tanh(reshape(x, [count(x.shape)]));
    case 8:
    case 9:
      return b.pick(UNARY)(x);
    default: {
      const other = b.pick([x, ...pool.filter((y) => fits(y.shape, x.shape))]);
      return b.chance(0.1) ? where(less(b.pick([x, other]), 0.05), x, other) : b.pick(BINARY)(x, other);
    }
  }
}

/** What kinds of graphs there are. */
const KINDS: Readonly<Record<string, (b: Builder) => void>> = {
  /** Ops of all kinds on what is there; some values are kept. */
  mixture(b) {
    const pool = sources(b), share = b.pick([0.1, 0.5, 1]);
    for (let i = b.whole(5, 40); i > 0; i--) {
      const x = grow(b, pool);
      pool.push(x);
      if (b.chance(share)) b.keep(x);
    }
    b.keep(pool.at(-1)!);
  },
  /** An exponential moving average of which every step is kept. */
  average(b) {
    const shape = b.pick([[8], [2, 5], [1], []]), decay = b.pick([0.9, b.leaf([])]);
    let state = b.leaf(shape);
    for (let i = b.whole(4, 40); i > 0; i--) {
      const fresh = b.leaf(shape);
      state = b.keep(add(multiply(state, decay), multiply(fresh, subtract(1, decay))));
    }
    sideEffects(b);
  },
  /** A cumulative sum of slices of one value. */
  cumulative(b) {
    const length = b.whole(4, 40), x = b.leaf([length, 3]);
    const row = (i: number): Tensor => slice(x, { starts: [i, 0], sizes: [1, 3] });
    let total = row(0);
    for (let i = 1; i < length; i++) total = b.keep(add(total, row(i)));
    if (b.chance(0.5)) b.keep(concat([row(0), ...b.kept], 0));
    sideEffects(b);
  },
  /** A recurrent network with weights along the diagonal. */
  recurrent(b) {
    const [w, u, bias] = [b.leaf([4]), b.leaf([4]), b.leaf([4])], hidden: Tensor[] = [];
    let h = b.leaf(b.pick([[4], [2, 4]]));
    for (let i = b.whole(4, 40); i > 0; i--) {
      h = tanh(add(add(multiply(w, h), multiply(u, b.leaf([4]))), bias));
      hidden.push(b.chance(0.9) ? b.keep(h) : h);
    }
    if (b.chance(0.5)) grad(sum(multiply(h, h)), [w, u, bias]).forEach(b.keep);
    sideEffects(b);
  },
  /** Many functions of one value, kept or summed up. */
  wide(b) {
    const shape = b.pick([[6], [3, 4], []]), x = b.leaf(shape), y = exp(negate(abs(x)));
    const all = Array.from({ length: b.whole(3, 60) }, (_, i) => {
      const other = b.chance(0.3) ? b.leaf(shape) : y;
      return multiply(tanh(multiply(b.pick([x, y, other]), 1 + i / 64)), b.pick([0.5, other]));
    });
    const kept = b.pick([0, 0.3, 1]);
    for (const z of all) if (b.chance(kept)) b.keep(z);
    if (b.chance(0.7)) b.keep(sumEach(all));
    if (b.chance(0.5)) {
      b.keep(sum(all.reduce((p, q) => add(p, q)), b.chance(0.5) ? undefined : shape.map((_, d) => d)));
    }
    b.keep(y);
    sideEffects(b);
  },
  /** An optimizer's step on several parameters, with readings. */
  optimizer(b) {
    const rate = stepScalar(() => 0.1), readings: Tensor[] = [], squares: Tensor[] = [];
    const parameters = Array.from({ length: b.whole(1, 8) }, () => {
      const shape = b.pick([[4], [3, 4], [8]]);
      return Array.from({ length: 5 }, () => b.leaf(shape));
    });
    for (const [, gradient] of parameters) squares.push(multiply(gradient, gradient));
    const norm = sumEach(squares), scale = divide(1, add(1, sum(norm)));
    for (const [w, g, m, v, previous] of parameters) {
      const clipped = b.chance(0.8) ? multiply(g, scale) : g;
      const first = add(multiply(m, 0.9), multiply(clipped, 0.1));
      const second = add(multiply(v, 0.99), multiply(multiply(clipped, clipped), 0.01));
      const moved = subtract(w, multiply(divide(first, add(abs(second), 1)), rate));
      readings.push(abs(clipped), abs(subtract(clipped, previous)), multiply(moved, moved));
      b.update(m, first);
      b.update(v, second);
      b.update(w, moved);
      if (b.chance(0.8)) b.update(previous, clipped);
      if (b.chance(0.3)) b.keep(first);
    }
    b.keep(sumEach(readings.filter(() => b.chance(0.8)).concat(norm)));
  },
  /** Gradients of a mixture. */
  gradients(b) {
    const pool = sources(b), wanted = pool.filter(({ op }) => op.name === "leaf");
    for (let i = b.whole(5, 25); i > 0; i--) pool.push(grow(b, pool));
    const used = pool.slice(-6);
    const loss = used.map((x) => mean(multiply(x, x))).reduce((p, q) => add(p, q));
    for (const g of grad(b.keep(loss), wanted)) b.keep(g);
    for (const x of used) if (b.chance(0.3)) b.keep(x);
  },
  /** Expressions of many leaves, in memory or reduced. */
  many(b) {
    const shape = b.pick([[4, 3], [5], [2, 2, 3]]);
    const leaves = Array.from(
      { length: b.whole(6, 70) },
      () => b.leaf(b.chance(0.8) ? shape : shape.slice(-1)),
    );
    const [first, second] = [0.3, 0.7].map((f) =>
      leaves.map((x, i) => multiply(x, f + i / 100)).reduce((p, q) =>
        b.chance(0.1) ? tanh(add(p, q)) : add(p, q)
      )
    );
    const both = multiply(tanh(first), tanh(second));
    const results = [both, first, sum(both, 0), sum(first), max(second, -1), softmax(both)];
    for (const result of results) if (b.chance(0.5)) b.keep(result);
    b.keep(b.pick(results));
    sideEffects(b);
  },
  /** Layers of values, each of two of the layer before. */
  crossing(b) {
    const width = b.whole(2, 8), share = b.pick([0.3, 1]);
    let layer = Array.from({ length: width }, () => b.leaf([4]));
    for (let i = b.whole(2, 7); i > 0; i--) {
      layer = layer.map((x) => b.pick(BINARY)(x, b.pick(layer)));
      for (const x of layer) if (b.chance(share)) b.keep(x);
    }
    b.keep(sumEach(layer));
    if (b.chance(0.5)) b.keep(matmul(reshape(layer[0], [2, 2]), reshape(layer[1], [2, 2])));
    sideEffects(b);
  },
  /** Leaves that are overwritten by what others hold. */
  histories(b) {
    const leaves = Array.from({ length: b.whole(2, 9) }, () => b.leaf([2, 4]));
    leaves.forEach((x, i) => {
      const next = leaves[(i + 1) % leaves.length], other = b.pick(leaves);
      const value = b.pick([
        () => next,
        () => add(x, multiply(next, 0.5)),
        () => multiply(add(x, other), 0.5),
        () => multiply(x, sum(other)),
        () => tanh(matmul(matmul(x, other, { transposeB: true }), next)),
        () => multiply(x, 0.5),
      ])();
      if (b.chance(0.8)) b.update(x, value);
      if (b.chance(0.2)) b.keep(value);
      if (b.chance(0.3)) b.keep(sum(value, 0));
    });
    b.keep(sumEach(leaves));
  },
  /** Products that share operands, with elementwise ends of many inputs and results. */
  products(b) {
    const x = b.leaf([4, 32]), weights = Array.from({ length: b.whole(1, 7) }, () => b.leaf([32, 4]));
    const outputs = weights.map((w) => matmul(x, w));
    const ends = outputs.map((y) => {
      let z = y;
      for (let i = b.whole(0, 12); i > 0; i--) {
        z = b.pick(BINARY)(z, b.chance(0.3) ? b.pick(outputs) : b.leaf(b.pick([[4], [4, 4], [4, 1]])));
        if (b.chance(0.5)) b.keep(z);
      }
      return z;
    });
    const end = b.keep(ends.reduce((p, q) => add(p, q)));
    if (b.chance(0.6)) grad(mean(multiply(end, end)), [x, ...weights]).forEach((g) => b.keep(g));
    sideEffects(b);
  },
};

function sources(b: Builder): Tensor[] {
  const [rows, columns] = [b.pick([2, 3, 4]), b.pick([3, 4, 8])];
  const shapes = [[rows, columns], [columns], [rows, 1], [], [1, columns], [2, rows, columns]];
  return [
    b.leaf([rows, columns]),
    ...Array.from({ length: b.whole(1, 6) }, () => b.leaf(b.pick(shapes))),
    tensor(Float32Array.from({ length: columns }, (_, i) => Math.sin(i)), [columns]),
  ];
}

/** Sometimes what is kept is read on, and leaves are overwritten. */
function sideEffects(b: Builder): void {
  const pool = [...b.kept];
  if (pool.length === 0) return;
  for (let i = b.whole(0, 4); i > 0; i--) pool.push(b.keep(grow(b, pool)));
  for (let i = b.whole(0, 2); i > 0; i--) {
    const x = b.pick(pool);
    b.update(b.leaf(x.shape), b.chance(0.5) ? x : multiply(x, 0.5));
  }
  for (let i = b.whole(0, 1); i > 0; i--) b.keep(sumEach(pool.slice(-b.whole(1, 9))));
}

/** Names of the kinds. */
export const KIND_NAMES: readonly string[] = Object.keys(KINDS);

/**
 * Makes a graph.
 *
 * @param seed Which; the kinds take turns
 * @returns The graph
 */
export function randomGraph(seed: number): RandomGraph {
  const next = generator(seed), kind = KIND_NAMES[seed % KIND_NAMES.length];
  const roots: Tensor[] = [], kept: Tensor[] = [], updates = new Map<number, Tensor>();
  const leaves = new Map<string, Values>(), overwritten = new Set<Tensor>();
  const builder: Builder = {
    kept,
    whole: (low, high) => low + Math.floor(next() * (high - low + 1)),
    chance: (p) => next() < p,
    pick: (all) => all[Math.floor(next() * all.length)],
    leaf(shape) {
      const path = `x${leaves.size}`;
      leaves.set(path, random(shape, { seed: 1000 * seed + leaves.size }));
      return leaf(path, { shape, dtype: "f32" });
    },
    keep(x) {
      roots.push(x);
      kept.push(x);
      return x;
    },
    update(leaf, value) {
      if (overwritten.has(leaf)) return;
      overwritten.add(leaf);
      updates.set(roots.push(value) - 1, leaf);
    },
  };
  KINDS[kind](builder);
  return { name: `${kind} ${seed}`, roots, updates, leaves };
}
