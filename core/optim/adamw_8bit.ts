/**
 * AdamW with 8-bit moments.
 *
 * @module
 */

import { adamW8bit as adamW8bitKernel, BLOCK_8BIT, WORDS_8BIT } from "../../kernels/adamw_8bit.ts";
import { checkOptions, checkRange } from "../arguments.ts";
import { multiply, subtract } from "../ops/arithmetic.ts";
import { concat, reshape } from "../ops/movement.ts";
import { stepScalar } from "../sources.ts";
import { sizeOf } from "../spec.ts";
import { apply, type Op, pick, type Tensor } from "../tensor.ts";
import type { Path } from "../tree.ts";
import { ADAM_MOMENTS, adamSteps } from "./adam_step.ts";
import { adamW, type AdamWOptions } from "./adamw.ts";
import { globs, type PathPattern, TABLES } from "./glob.ts";
import { initMoments, type Moment, type Optimizer } from "./optimizer.ts";
import { printRate, scheduleOf } from "./schedules.ts";
import { decaysOf } from "./weight_decay.ts";

/** Options of {@link adamW8bit}. */
export interface AdamW8bitOptions extends AdamWOptions {
  /** Parameters with fewer elements keep f32 moments; 4096 when absent. */
  readonly least?: number;
  /** Parameters that keep f32 moments whatever their size; tables of embeddings when absent, as the paper has it. */
  readonly wideFor?: PathPattern;
}

interface Attrs {
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
}

/**
 * Inputs: gradient, blocks u32 [B, 130], and f32 [2], step size and correction. Outputs: the update without weight decay, the
 * blocks, and both moments before they are packed.
 */
const adamW8bitOp: Op<Attrs> = {
  name: "adamW8bit",
  infer: ([{ shape }, blocks]) => {
    const values = { shape, dtype: "f32" } as const;
    return [values, { shape: blocks.shape, dtype: "u32" }, values, values];
  },
  pullbacks: [null],
  kernel: ({ inputs: [{ shape }], attrs, wanted }) => ({
    kernel: adamW8bitKernel({ ...attrs, items: sizeOf(shape), wanted }),
  }),
};

/**
 * {@link adamW} whose moments take two bytes for a weight instead of eight: each is one of 256 numbers times the scale of its
 * block of 256. A step computes with the unpacked moments in f32. Small parameters and tables of embeddings keep f32 moments.
 *
 * Source: Dettmers et al., "8-bit Optimizers via Block-wise Quantization", arXiv 2110.02861.
 *
 * @param options Learning rate and hyperparameters
 * @returns The optimizer; its moments are `blocks.<path>` u32, and `m.<path>` and `v.<path>` of small parameters
 * @throws {InputError} When a number is out of its range
 *
 * @example
 * ```ts
 * import { assertAlmostEquals, assertEquals } from "@std/assert";
 * import { openGpu, read, sizeOf, tensor } from "@firn/train";
 * import { adamW8bit } from "@firn/train/optim";
 *
 * await using gpu = await openGpu();
 * const of = (value: number) => new Map([["w", tensor(new Float32Array(8192).fill(value))]]);
 * const optimizer = adamW8bit({ learningRate: 0.1, weightDecay: 0 }), state = optimizer.init(of(1));
 * assertEquals([...state].map(([path, { shape }]) => [path, 4 * sizeOf(shape)]), [["blocks.w", 16640]]);
 * const { updates } = optimizer.next(state, of(5), of(1));
 * assertAlmostEquals((await read(gpu, updates.get("w")!))[0], -0.1, 1e-6);
 * ```
 */
export function adamW8bit({ least = 4096, wideFor = TABLES, ...options }: AdamW8bitOptions): Optimizer {
  checkOptions("adamW8bit", options);
  const { learningRate, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weightDecay = 0.01 } = options;
  const rate = scheduleOf("adamW8bit", learningRate), steps = adamSteps("adamW8bit", rate, options);
  checkRange("adamW8bit", { weightDecay, least }, { least: 0 });
  const { decays, printed } = decaysOf("adamW8bit", { ...options, weightDecay });
  const wide = adamW(options), decay = stepScalar((step) => rate(step) * weightDecay);
  const isTable = globs(wideFor);
  const isWide = (shape: readonly number[], path: Path): boolean => sizeOf(shape) < least || isTable(path);
  const moments: readonly Moment[] = [
    ...ADAM_MOMENTS.map((moment) => ({
      ...moment,
      complete: true,
      shape: (shape: readonly number[], path: Path) => isWide(shape, path) ? shape : null,
    })),
    {
      name: "blocks",
      meaning: "other",
      dtype: "u32",
      shape: (shape, path) => isWide(shape, path) ? null : blocksOf(shape),
    },
  ];
  const scalars = concat([steps.stepSize, steps.correction].map((scalar) => reshape(scalar, [1])), 0);
  return {
    name: `adamW8bit(${printRate(learningRate)}${steps.changed}, weightDecay ${weightDecay}${printed}${
      least === 4096 ? "" : `, least ${least}`
    }${wideFor === TABLES ? "" : `, f32 for ${JSON.stringify([wideFor].flat())}`})`,
    learningRate: rate,
    moments,
    init: (params) => initMoments(moments, params),
    next(state, grads, params) {
      const small = wide.next(
        state,
        new Map([...grads].filter(([path, { shape }]) => isWide(shape, path))),
        params,
      );
      const updates = new Map<string, Tensor>(),
        next = new Map(small.state),
        readings = new Map<string, Tensor>();
      for (const [path, g] of grads) {
        const blocks = state.get(`blocks.${path}`);
        if (blocks === undefined) {
          updates.set(path, small.updates.get(path)!);
          continue;
        }
        const step = apply(adamW8bitOp, [g, blocks, scalars], { beta1, beta2, eps });
        updates.set(path, decays(g) ? subtract(step, multiply(params.get(path)!, decay)) : step);
        next.set(`blocks.${path}`, pick(step, 1));
        readings.set(`m.${path}`, pick(step, 2)).set(`v.${path}`, pick(step, 3));
      }
      return { updates, state: next, readings };
    },
  };
}

/** Shape of the blocks of a parameter. */
function blocksOf(shape: readonly number[]): readonly number[] {
  return [Math.ceil(sizeOf(shape) / BLOCK_8BIT), WORDS_8BIT];
}
