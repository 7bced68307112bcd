/**
 * The contract between training and freeze policies: plain data in, a set of names out.
 *
 * @module
 */

import type { Path } from "./tree.ts";

/** Anything that survives `JSON.parse(JSON.stringify(value))`; policy state is saved with every checkpoint. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/**
 * One number per component per step, measured on the GPU in the update kernel.
 *
 * - `gradNorm`: `sum |g_t|`
 * - `gradSquare`: `sum g_t^2`
 * - `gradDelta`: `sum |g_t - g_{t-1}|`, needs the previous gradient (4 bytes an element)
 * - `weightDelta`: `sum |W_t - W_{t-1}|`
 * - `benefit`: `sum |g_t (W_t - W_{t-1})|`, how much the step lowers the loss to first order, element by element
 * - `firstMoment`, `secondMoment`: `sum m_t^2` and `sum v_t` of Adam's moments, before bias correction; training refuses
 *   an optimizer that keeps none. Their ratio tells the signal in the gradients from their noise.
 *
 * `g` is the gradient before clipping. Not divided by anything.
 */
export type Signal =
  | "gradNorm"
  | "gradSquare"
  | "gradDelta"
  | "weightDelta"
  | "benefit"
  | "firstMoment"
  | "secondMoment";

/** All that a {@link Signal} can be. */
export const SIGNALS: readonly Signal[] = [
  "gradNorm",
  "gradSquare",
  "gradDelta",
  "weightDelta",
  "benefit",
  "firstMoment",
  "secondMoment",
];

/** What a policy freezes as one: a weight with its bias, the LoRA pair of one projection, a norm, an embedding. */
export interface Component {
  /** Dotted name of the module, `"model.layers.0.self_attn.q_proj"`. */
  readonly path: Path;
  /** Dotted names of its parameters. */
  readonly parameters: readonly Path[];
  /** Index of the layer it belongs to, or null outside the stack. */
  readonly layer: number | null;
  /** What the graph uses it for. */
  readonly kind: "linear" | "embedding" | "norm" | "other";
  /** Elements over all its parameters. */
  readonly size: number;
  /** What it costs in a step, by the model of the graph; absent where no graph was seen. */
  readonly cost?: ComponentCost;
}

/**
 * Floating-point operations of a component in one step, and its place in the chain of gradients. A type, as an interface is
 * not assignable to `Json`.
 */
export type ComponentCost = {
  /**
   * Of its products in the forward pass. Spent whatever is frozen; so is the gradient of what lies between the topmost
   * component and the loss, which counts here.
   */
  readonly forward: number;
  /**
   * Of the gradients that flow through it to what lies below: by its products' inputs, and through what has no component,
   * such as the core of attention, between the components below and those of its depth. Spent when one of smaller `depth`
   * is active.
   */
  readonly dX: number;
  /** Of the gradient by its own parameters. Spent when it is active. */
  readonly dW: number;
  /**
   * Components on the longest way from the input to it, itself not counted: query, key and value of one layer share a
   * depth.
   */
  readonly depth: number;
};

/** What is known about a run before it starts. */
export interface RunInfo {
  /** Planned steps, T. */
  readonly steps: number;
}

/** The readings since the last look, one entry a step, oldest first. */
export interface Look {
  /** 1-based numbers of the steps that `loss`, `learningRate` and `readings` cover. */
  readonly steps: readonly number[];
  /** Loss of each step. */
  readonly loss: readonly number[];
  /** Learning rate of each step; NaN when the optimizer has none. */
  readonly learningRate: readonly number[];
  /** `readings[signal][component path][i]` belongs to `steps[i]`; NaN for what was not measured. */
  readonly readings: { readonly [S in Signal]?: { readonly [path: Path]: readonly number[] } };
  /**
   * Those of the steps that changed nothing as gradients overflowed in f16, whose readings are NaN; absent where all is
   * stored as f32.
   */
  readonly skipped?: readonly number[];
  /** Validation loss after each step; NaN where none was computed. Absent when training has no validation data. */
  readonly validation?: readonly number[];
}

/** Why a component is frozen. */
export type Reason = {
  /** What was compared, for people: `"gradNorm"`, `"gradNorm/size"`, `"benefit kept"`. */
  readonly signal: string;
  /** What it was when the decision fell; null where the step alone decides. */
  readonly value: number | null;
  /** What it was compared with, in the same unit; null where nothing was. */
  readonly threshold: number | null;
  /** The rule, as the part of the policy prints that decided. */
  readonly rule: string;
};

/**
 * Decides which components are frozen. A pure reducer over looks; never sees a tensor.
 *
 * @typeParam S Its state, JSON
 */
export interface FreezePolicy<S extends Json = Json> {
  /** Prints as its own composition: the configuration is the log. */
  readonly name: string;
  /** What the step must measure; nothing else is. */
  readonly signals: readonly Signal[];
  /**
   * Paths of the components whose readings of one of its signals the policy wants; of all when absent. The others' are
   * NaN, and cost neither time nor memory. Training asks once, with the first batch of a run or of a resumed one: the
   * answer depends on the components alone. It may name others, which count for nothing.
   */
  measured?(signal: Signal, components: readonly Component[]): readonly Path[];
  /** The state before the first step. */
  init(components: readonly Component[], run: RunInfo): S;
  /** The state after a look. */
  next(state: S, look: Look): S;
  /** Paths of the components that are frozen now. Training asks after each look: until the first one everything trains. */
  frozen(state: S): readonly Path[];
  /**
   * Frozen components that the coming steps measure and do not train: they get a gradient, and the signals that come of
   * it alone, `gradNorm` and `gradSquare`. None when absent.
   */
  probed?(state: S): readonly Path[];
  /**
   * Whether training ends now; never when absent. `frozen` is what training freezes: less than this policy where another
   * one holds it back, more where another one adds to it.
   */
  stopped?(state: S, frozen: readonly Path[]): boolean;
  /**
   * The step whose parameters are the best so far: training keeps a copy of them and ends with it. Null, or absent, to end
   * with the last.
   */
  best?(state: S): number | null;
  /** Why a component is frozen; null when it is not, or the policy cannot say. */
  reason?(state: S, path: Path): Reason | null;
}
