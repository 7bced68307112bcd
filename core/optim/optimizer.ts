/**
 * The optimizer contract, and how optimizers are chained.
 *
 * An optimizer of one's own is a record: it declares what it keeps for each parameter, and builds the graph of a step.
 *
 * @example Adagrad
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { add, divide, type Moment, multiply, openGpu, type Optimizer, read, sqrt, tensor } from "@firn/train";
 * import { initMoments, momentPath } from "@firn/train/optim";
 *
 * function adagrad(learningRate: number): Optimizer {
 *   const squares: Moment = { name: "squares", meaning: "other" };
 *   return {
 *     name: `adagrad(${learningRate})`,
 *     learningRate: () => learningRate,
 *     moments: [squares],
 *     init: (params) => initMoments([squares], params),
 *     next(state, grads) {
 *       const next = new Map([...grads].map(([path, g]) => {
 *         const name = momentPath(squares, path);
 *         return [name, add(state.get(name)!, multiply(g, g))];
 *       }));
 *       const updates = new Map([...grads].map(([path, g]) => {
 *         const root = sqrt(next.get(momentPath(squares, path))!);
 *         return [path, divide(multiply(g, -learningRate), add(root, 1e-10))];
 *       }));
 *       return { updates, state: next };
 *     },
 *   };
 * }
 *
 * await using gpu = await openGpu();
 * const params = new Map([["w", tensor([1])]]), grads = new Map([["w", tensor([5])]]);
 * const optimizer = adagrad(0.1), { updates } = optimizer.next(optimizer.init(params), grads, params);
 * assertAlmostEquals((await read(gpu, updates.get("w")!))[0], -0.1, 1e-6);
 * ```
 *
 * @module
 */

import { InputError } from "../errors.ts";
import { multiply } from "../ops/arithmetic.ts";
import { fill, tensor } from "../sources.ts";
import { sizeOf } from "../spec.ts";
import type { Tensor } from "../tensor.ts";
import type { Leaves, Path } from "../tree.ts";
import type { Schedule } from "./schedules.ts";

/**
 * What a moment holds, by which signals find it:
 *
 * - `firstMoment`: a running mean of the gradients, `m = b m + (1 - b) g`
 * - `secondMoment`: a running mean of the squared gradients, `v = b v + (1 - b) g^2`
 * - `momentum`: a running sum of the gradients, `v = b v + g`
 * - `other`: anything else
 */
export type MomentMeaning = "firstMoment" | "secondMoment" | "momentum" | "other";

/** A tensor of optimizer state that belongs to one parameter. */
export interface Moment {
  /** First part of its path: the moment of the parameter `p` has the path `<name>.<p>`. */
  readonly name: string;
  /** What the moment measures. */
  readonly meaning: MomentMeaning;
  /**
   * Its shape, given the shape and the path of the parameter; null where that parameter has no such moment. The shape of the
   * parameter when absent.
   */
  readonly shape?: (parameter: readonly number[], path: Path) => readonly number[] | null;
  /**
   * Whether every parameter has it in its own shape, in the state or among the `readings` of a step, so that signals can be
   * measured of it; that is so where `shape` is absent.
   */
  readonly complete?: boolean;
  /** Element type; f32 when absent, and u32 for packed numbers. */
  readonly dtype?: "f32" | "u32";
  /**
   * Whether it is a distance from the parameter to another point, such as an average of weights: `point = parameter + moment`.
   * When training scales an update, as after a thaw, the point stays; false when absent.
   */
  readonly offset?: boolean;
}

/** One step of an optimizer. */
export interface OptimizerStep {
  /** What is added to each parameter. */
  readonly updates: Leaves;
  /** The next state, with the same paths. */
  readonly state: Leaves;
  /**
   * Moments that are kept in another form, f32 by their path, such as those of 8-bit states. Nothing computes them unless a
   * signal reads them. None when absent.
   */
  readonly readings?: Leaves;
  /** What gradients were multiplied by to clip them, f32 scalar; of an optimizer that `clips`. */
  readonly clip?: Tensor;
}

/**
 * A gradient transformation.
 *
 * State has two kinds of tensors. A moment belongs to one parameter: it has the path `<name>.<parameter>`, and is freed
 * when the parameter freezes. Shared state belongs to all parameters: it stays, so its shape may depend on `trainable`
 * but not on which parameters are frozen.
 *
 * A frozen parameter is absent from state, gradients and parameters: to skip an update is not to update with a zero
 * gradient.
 */
export interface Optimizer {
  /** The call that makes it, with all settings: two optimizers with one name compute the same. */
  readonly name: string;
  /** Learning rate by 1-based step; absent when the optimizer has none. */
  readonly learningRate?: Schedule;
  /** State that `init` makes for each parameter. */
  readonly moments: readonly Moment[];
  /** Whether its steps tell by what factor they clip all gradients, which looks tell then; false when absent. */
  readonly clips?: boolean;
  /**
   * Makes the state, filled with zeros.
   *
   * @param params Active parameters
   * @param trainable Paths of all parameters that may become active, in order; the paths of `params` when absent
   */
  init(params: Leaves, trainable?: readonly Path[]): Leaves;
  /**
   * Builds the graph of one step.
   *
   * @param state State from `init`, or from the step before
   * @param grads Gradients of the active parameters
   * @param params Values of the active parameters
   * @param trainable Paths of all parameters that may become active, in order; the paths of `grads` when absent
   */
  next(state: Leaves, grads: Leaves, params: Leaves, trainable?: readonly Path[]): OptimizerStep;
  /**
   * The weights to evaluate and to keep, where they are not those that steps update: averages of them.
   *
   * @param state State of the active parameters
   * @param params Values of the active parameters
   * @returns Weights by path; a parameter that is absent is kept as it is
   */
  evaluated?(state: Leaves, params: Leaves): Leaves;
}

/**
 * The path of a moment in the state of an optimizer.
 *
 * @param moment The moment
 * @param parameter Path of the parameter
 * @returns `<name>.<parameter>`
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { sgd } from "@firn/train";
 * import { momentPath } from "@firn/train/optim";
 *
 * const [velocity] = sgd({ learningRate: 0.1, momentum: 0.9 }).moments;
 * assertEquals(momentPath(velocity, "layer.weight"), "velocity.layer.weight");
 * ```
 */
export function momentPath({ name }: Moment, parameter: Path): Path {
  return `${name}.${parameter}`;
}

/**
 * Makes moments of zeros, parameter by parameter: the `init` of an optimizer without shared state.
 *
 * @param moments What each parameter gets
 * @param params The parameters
 * @returns Moments by path
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tensor } from "@firn/train";
 * import { initMoments } from "@firn/train/optim";
 *
 * const params = new Map([["w", tensor([1, 2])]]);
 * const state = initMoments([{ name: "m", meaning: "firstMoment" }], params);
 * assertEquals([...state].map(([path, { shape }]) => [path, shape]), [["m.w", [2]]]);
 * ```
 */
export function initMoments(moments: readonly Moment[], params: Leaves): Map<Path, Tensor> {
  const state = new Map<Path, Tensor>();
  for (const [path, { shape }] of params) {
    for (const moment of moments) {
      const own = moment.shape === undefined ? shape : moment.shape(shape, path);
      if (own === null) continue;
      state.set(momentPath(moment, path), moment.dtype === "u32" ? noWords(own) : fill(0, own));
    }
  }
  return state;
}

/** Words of zeros. Training makes them on the device from the shape alone. */
function noWords(shape: readonly number[]): Tensor {
  return tensor(new Uint32Array(sizeOf(shape)), shape);
}

/**
 * Chains transformations: the updates of one are the gradients of the next.
 *
 * @param parts Optimizers, first to last
 * @returns One optimizer; its `init` throws an `InputError` when two parts keep state under one path
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { adamW, chain, clipByGlobalNorm } from "@firn/train";
 *
 * const optimizer = chain(clipByGlobalNorm(1), adamW({ learningRate: 0.001 }));
 * assertEquals(optimizer.name, "clipByGlobalNorm(1) > adamW(0.001, weightDecay 0.01)");
 * ```
 */
export function chain(...parts: readonly Optimizer[]): Optimizer {
  return {
    name: parts.map((p) => p.name).join(" > "),
    learningRate: parts.findLast((p) => p.learningRate !== undefined)?.learningRate,
    moments: parts.flatMap((p) => p.moments),
    ...parts.some((p) => p.clips) && { clips: true },
    init(params, trainable) {
      const state = new Map<Path, Tensor>();
      for (const part of parts) {
        for (const [path, value] of part.init(params, trainable)) {
          if (state.has(path)) {
            throw new InputError(`Cannot chain "${part.name}" as another part keeps "${path}" too`);
          }
          state.set(path, value);
        }
      }
      return state;
    },
    next(state, grads, params, trainable) {
      let updates = grads;
      const all = new Map<Path, Tensor>(), readings = new Map<Path, Tensor>();
      let clip: Tensor | undefined;
      for (const part of parts) {
        const step = part.next(state, updates, params, trainable);
        updates = step.updates;
        if (step.clip !== undefined) clip = clip === undefined ? step.clip : multiply(clip, step.clip);
        for (const [path, value] of step.state) all.set(path, value);
        for (const [path, value] of step.readings ?? []) readings.set(path, value);
      }
      return { updates, state: all, readings, ...clip && { clip } };
    },
    // The last part that has weights of its own decides: an average behind a schedule-free method is its average.
    evaluated: parts.findLast((p) => p.evaluated !== undefined)?.evaluated,
  };
}
