/**
 * Muon.
 *
 * @module
 */

import { checkFlag, checkOptions, checkRange, refuse } from "../arguments.ts";
import { add, divide, multiply, negate } from "../ops/arithmetic.ts";
import { sum } from "../ops/broadcast.ts";
import { maximum } from "../ops/comparison.ts";
import { sqrt } from "../ops/functions.ts";
import { matmul } from "../ops/matmul.ts";
import { stepScalar } from "../sources.ts";
import type { Tensor } from "../tensor.ts";
import type { Leaves, Path } from "../tree.ts";
import { ADAM_MOMENTS } from "./adam_step.ts";
import { adamW, type AdamWOptions } from "./adamw.ts";
import { globs, type PathPattern, TABLES } from "./glob.ts";
import { initMoments, type Moment, type Optimizer } from "./optimizer.ts";
import { printRate, type Schedule, scheduleOf } from "./schedules.ts";

/** Options of {@link muon}; decay and momentum are those of `torch.optim.Muon`. */
export interface MuonOptions {
  /** Rate, or rate by step. */
  readonly learningRate: number | Schedule;
  /** Decay of the moment; 0.95 when absent. */
  readonly momentum?: number;
  /** Whether a step looks ahead along the moment; true when absent. */
  readonly nesterov?: boolean;
  /** Iterations of Newton and Schulz; 5 when absent. */
  readonly iterations?: number;
  /** Decoupled weight decay of the matrices, times the learning rate; 0.1 when absent. */
  readonly weightDecay?: number;
  /**
   * Length of an update; `matchAdamW` when absent.
   *
   * - `matchAdamW`: 0.2 times the root of the longer side, so that one rate serves matrices and all others
   * - `original`: the root of rows over columns, at least 1; rates are about 0.02, far above those of AdamW
   */
  readonly scale?: "matchAdamW" | "original";
  /** Parameters that AdamW updates though they are matrices: tables of embeddings and heads when absent. */
  readonly adamWFor?: PathPattern;
  /** Options of AdamW for all others; those rates, and no weight decay, when absent. */
  readonly adamW?: Partial<AdamWOptions>;
}

/** Tables and heads, as families of models name them. */
const TABLES_AND_HEADS: PathPattern = [...TABLES, "*lm_head*", "classifier.*", "score.*"];
/** Coefficients of the quintic that Keller Jordan chose: its slope at zero is the steepest. */
const [A, B, C] = [3.4445, -4.775, 2.0315];
/** Added to no norm: a lower bound of it. */
const LEAST_NORM = 1e-7;

/**
 * Muon: momentum of a matrix with all its singular values made about 1, by some matrix products. Vectors, tables of embeddings
 * and heads are updated by {@link adamW}.
 *
 * Source: Jordan et al., "Muon", 2024, https://kellerjordan.github.io/posts/muon; the scale `matchAdamW` is that of Liu et al.,
 * "Muon is Scalable for LLM Training", arXiv 2502.16982.
 *
 * @param options Learning rate and hyperparameters
 * @returns The optimizer; its moments are `m.<path>`, and `v.<path>` of what AdamW updates
 * @throws {InputError} When a number is out of its range
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { muon } from "@firn/train/optim";
 *
 * await using gpu = await openGpu();
 * const params = new Map([["w", tensor([1, 0, 0, 1], [2, 2])]]);
 * const grads = new Map([["w", tensor([5, 0, 0, 5], [2, 2])]]);
 * const optimizer = muon({ learningRate: 0.1, weightDecay: 0, scale: "original" });
 * const { updates } = optimizer.next(optimizer.init(params), grads, params);
 * // A direction of length about 1, whatever the length of the gradient.
 * assertAlmostEquals((await read(gpu, updates.get("w")!))[0], -0.1, 0.05);
 * ```
 */
export function muon(options: MuonOptions): Optimizer {
  checkOptions("muon", options);
  const { learningRate, momentum = 0.95, nesterov = true, iterations = 5, weightDecay = 0.1 } = options;
  const { scale = "matchAdamW", adamWFor = TABLES_AND_HEADS } = options,
    rate = scheduleOf("muon", learningRate);
  checkRange("muon", { momentum }, { least: 0, below: 1 });
  checkRange("muon", { weightDecay }, { least: 0 });
  checkRange("muon", { iterations }, { least: 1 });
  if (!Number.isInteger(iterations)) refuse("muon", '"iterations" must be a whole number', iterations);
  checkFlag("muon", "nesterov", nesterov);
  if (scale !== "matchAdamW" && scale !== "original") {
    refuse("muon", '"scale" must be "matchAdamW" or "original"', scale);
  }
  const rest = adamW({ learningRate, weightDecay: 0, ...options.adamW }), isOther = globs(adamWFor);
  const isMatrix = (shape: readonly number[], path: Path): boolean =>
    (shape.length === 2 || shape.length === 3) && !isOther(path);
  const moments: readonly Moment[] = [
    ADAM_MOMENTS[0],
    { ...ADAM_MOMENTS[1], shape: (shape, path) => isMatrix(shape, path) ? null : shape },
  ];
  const down = stepScalar((step) => -rate(step)), decay = stepScalar((step) => rate(step) * weightDecay);
  const settings = `momentum ${momentum}${nesterov ? "" : ", plain"}, iterations ${iterations}, ` +
    `weightDecay ${weightDecay}, ${scale}${
      adamWFor === TABLES_AND_HEADS ? "" : `, for ${JSON.stringify([adamWFor].flat())}`
    }`;
  return {
    name: `muon(${printRate(learningRate)}, ${settings}, ${rest.name})`,
    learningRate: rate,
    moments,
    init: (params) => initMoments(moments, params),
    next(state, grads, params) {
      const isOwn = (path: Path): boolean => isMatrix(params.get(path)!.shape, path);
      const others: Leaves = new Map([...grads].filter(([path]) => !isOwn(path)));
      const adam = rest.next(state, others, params);
      const updates = new Map<string, Tensor>(), next = new Map(adam.state);
      for (const [path, g] of grads) {
        if (!isOwn(path)) {
          updates.set(path, adam.updates.get(path)!);
          continue;
        }
        const m = lerp(state.get(`m.${path}`)!, g, momentum);
        next.set(`m.${path}`, m);
        const way = multiply(orthogonal(nesterov ? lerp(m, g, momentum) : m, iterations), lengthOf(g, scale));
        const step = multiply(way, down), weight = params.get(path)!;
        updates.set(path, weightDecay === 0 ? step : add(step, negate(multiply(weight, decay))));
      }
      return { updates, state: next };
    },
  };
}

/** A share of one tensor, and the rest of another. */
function lerp(a: Tensor, b: Tensor, share: number): Tensor {
  return add(multiply(a, share), multiply(b, 1 - share));
}

/** The factor of an update of a matrix, or of a stack of them. */
function lengthOf({ shape }: Tensor, scale: "matchAdamW" | "original"): number {
  const [rows, columns] = shape.slice(-2);
  return scale === "original"
    ? Math.sqrt(Math.max(1, rows / columns))
    : 0.2 * Math.sqrt(Math.max(rows, columns));
}

/** A matrix, or each of a stack, with its singular values near 1: an odd polynomial of it, some times. */
function orthogonal(matrix: Tensor, iterations: number): Tensor {
  const [rows, columns] = matrix.shape.slice(-2), tall = rows > columns;
  const norm = sqrt(sum(multiply(matrix, matrix), [-2, -1], { keepDims: true }));
  let x = divide(matrix, maximum(norm, LEAST_NORM));
  for (let i = 0; i < iterations; i++) {
    // The products of the shorter side.
    const gram = matmul(x, x, tall ? { transposeA: true } : { transposeB: true });
    const polynomial = add(multiply(gram, B), multiply(matmul(gram, gram), C));
    x = add(multiply(x, A), tall ? matmul(x, polynomial) : matmul(polynomial, x));
  }
  return x;
}
