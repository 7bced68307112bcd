/**
 * The contract between training and freeze policies: readings in, names of frozen components out.
 *
 * @module
 */

import type { Tensor } from "./tensor.ts";
import type { Path } from "./tree.ts";

/** Anything that survives `JSON.parse(JSON.stringify(value))`; policy state is saved with every checkpoint. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/**
 * A number for each component and step, measured on the GPU by the kernel that updates the weights.
 *
 * - `gradNorm`: `sum |g_t|`
 * - `gradSquare`: `sum g_t^2`
 * - `gradDelta`: `sum |g_t - g_{t-1}|`, needs the previous gradient (4 bytes an element)
 * - `gradDot`: the cosine of `g_t` and `g_{t-1}`, 1 for one direction and 0 for unrelated ones; needs the previous gradient
 * - `weightDelta`: `sum |W_t - W_{t-1}|`
 * - `weightNorm`: `sqrt(sum W_{t-1}^2)`, of the weights that the gradient is taken at
 * - `updateNorm`: `sqrt(sum (W_t - W_{t-1})^2)`
 * - `benefit`: `sum |g_t (W_t - W_{t-1})|`, the first-order change of the loss by the step, element by element
 * - `firstMoment`, `secondMoment`: `sum m_t^2` and `sum v_t` of Adam's moments, before bias correction; where the optimizer
 *   keeps none, training does. Their ratio tells signal from noise.
 * - `activationNorm`: `sqrt(sum y^2)` over the output of the component for all samples of the step; of accumulated batches, for
 *   those with labels. It costs launches that read the outputs once more
 *
 * `g` is the gradient before clipping. Nothing is normalised by size.
 */
export type Signal =
  | "gradNorm"
  | "gradSquare"
  | "gradDelta"
  | "gradDot"
  | "weightDelta"
  | "weightNorm"
  | "updateNorm"
  | "benefit"
  | "firstMoment"
  | "secondMoment"
  | "activationNorm";

/** All built-in signals. */
export const SIGNALS: readonly Signal[] = [
  "gradNorm",
  "gradSquare",
  "gradDelta",
  "gradDot",
  "weightDelta",
  "weightNorm",
  "updateNorm",
  "benefit",
  "firstMoment",
  "secondMoment",
  "activationNorm",
];

/** What a policy measures: a built-in signal by its name, or one of its own, which `defineSignal` makes. */
export type AnySignal = Signal | SignalDefinition;

/** What a signal may be made of: values of one parameter in one step, f32 of its shape. */
export interface Measurable {
  /** Dotted name of the parameter. */
  readonly path: Path;
  /** Its values before the step. */
  readonly weight: Tensor;
  /** Its gradient before clipping. */
  readonly gradient: Tensor;
  /** What the step adds to it. */
  readonly update: Tensor;
  /** Its gradient in the step before, NaN in the first one. */
  readonly previousGradient: Tensor;
  /** Its moments after the step, by what the signal says that it needs. */
  readonly moments: { readonly [need: string]: Tensor };
}

/** A signal as steps measure it: numbers that are summed up on the GPU, and what the host makes of them. */
export interface SignalDefinition {
  /** Its name in `read`, in looks and in logs. */
  readonly name: string;
  /**
   * What it needs besides weight, gradient and update: `previousGradient`, and moments of the optimizer by their meaning
   * (`firstMoment`) or their name.
   */
  readonly needs: readonly string[];
  /** Whether training stops where it is not finite; false when absent. */
  readonly finite?: boolean;
  /** What is summed up for a parameter; null for nothing. */
  terms(of: Measurable): SignalTerms | null;
}

/** What a signal sums up for a parameter. */
export interface SignalTerms {
  /** Tensors, each of which is summed to a number. */
  readonly sums: readonly Tensor[];
  /** How each number goes together with those of other parameters of the component; null where it must be the only one. */
  readonly joins: readonly ("sum" | "max" | null)[];
  /** The reading of a component, from its numbers and the elements of its parameters. */
  readonly value: (numbers: readonly number[], size: number) => number;
  /** Equal for parameters whose numbers go together. */
  readonly form: string;
}

/** The name of a signal. */
export function signalName(signal: AnySignal): string {
  return typeof signal === "string" ? signal : signal.name;
}

/** A unit that freezes as one: a weight with its bias, the LoRA pair of a projection, a norm, an embedding. */
export interface Component {
  /** Dotted name of the module, `"model.layers.0.self_attn.q_proj"`. */
  readonly path: Path;
  /** Dotted names of its parameters. */
  readonly parameters: readonly Path[];
  /** Index of its layer; null outside the stack of layers. */
  readonly layer: number | null;
  /** What the graph uses it for. */
  readonly kind: "linear" | "embedding" | "norm" | "other";
  /** Elements of all its parameters. */
  readonly size: number;
  /** Its cost in a step, from the graph; absent when there is no graph. */
  readonly cost?: ComponentCost;
}

/**
 * Floating-point operations of a component in one step, and its place in the chain of gradients. A type, as an interface is
 * not assignable to `Json`.
 */
export type ComponentCost = {
  /**
   * Of its products in the forward pass, and for the topmost component of the gradients between it and the loss. Always
   * spent.
   */
  readonly forward: number;
  /**
   * Of the gradients by its inputs, and of those through ops without a component, such as attention, down to the components
   * below. Spent when a component of smaller `depth` is active.
   */
  readonly dX: number;
  /** Of the gradients by its own parameters. Spent when it is active. */
  readonly dW: number;
  /**
   * Number of components on the longest path from the input to it: query, key and value of a layer share a depth.
   */
  readonly depth: number;
};

/**
 * What is known of a run before its first step. JSON: a log keeps it. Training tells all of it; a policy that is asked elsewhere,
 * as in a test, may be told the number of steps alone.
 */
export type RunInfo = {
  /** Planned steps, T. */
  readonly steps: number;
  /** Steps between looks. */
  readonly lookEvery?: number;
  /** Samples of the first step: rows of its batches, of all ranks together. */
  readonly batchSize?: number;
  /**
   * Labels of the first step that its loss is the mean of: tokens of text, classes of images. Of all ranks together; absent when
   * the loss counts none.
   */
  readonly tokens?: number;
  /** What updates the weights: its name, with all settings, and the state that it keeps for each parameter. */
  readonly optimizer?: {
    readonly name: string;
    readonly moments: readonly { readonly name: string; readonly meaning: string }[];
  };
};

/** The readings since the last look, one entry per step, oldest first. */
export interface Look {
  /** 1-based numbers of the steps that `loss`, `learningRate` and `readings` cover. */
  readonly steps: readonly number[];
  /** Loss of each step; NaN when its batch has no labels. */
  readonly loss: readonly number[];
  /** Metrics of the loss by name, of each step as `loss`; absent where the loss has none. */
  readonly metrics?: { readonly [name: string]: readonly number[] };
  /** Learning rate of each step; NaN when the optimizer has none. */
  readonly learningRate: readonly number[];
  /** What clipping multiplied all gradients by in each step, 1 for nothing; absent when the optimizer does not clip. */
  readonly clip?: readonly number[];
  /** `readings[name of a signal][component path][i]` belongs to `steps[i]`; NaN for what was not measured. */
  readonly readings: { readonly [signal: string]: { readonly [path: Path]: readonly number[] } };
  /**
   * The steps that changed nothing, as gradients overflowed in f16 or the batch has no labels; their readings are NaN. Absent
   * when everything is stored as f32 and all batches have labels.
   */
  readonly skipped?: readonly number[];
  /** Validation loss after each step; NaN when none was computed. Absent when training has no validation data. */
  readonly validation?: readonly number[];
  /** Of each component that was frozen and trained in these steps, the step after which it thawed. Absent where none thawed. */
  readonly thawed?: { readonly [path: Path]: number };
  /**
   * Milliseconds a step since the look before, by the clock of this machine, and with them what happened between the steps. Absent
   * at the first look of a process, whose steps are compiled, and on several ranks, which must decide alike. A policy that
   * decides by it decides otherwise when the run is repeated.
   */
  readonly stepMs?: number;
  /**
   * Milliseconds that the last change of the frozen set took: a plan of its own, new shaders, recording. Before any change, what
   * it took to plan the first step. Absent where `stepMs` is.
   */
  readonly changeMs?: number;
}

/** Why a component is frozen. */
export type Reason = {
  /** What was compared, for people: `"gradNorm"`, `"gradNorm/size"`, `"benefit kept"`. */
  readonly signal: string;
  /** Its value at the decision; null when the step alone decides. */
  readonly value: number | null;
  /** What it was compared with, in the same unit; null for nothing. */
  readonly threshold: number | null;
  /** The name of the policy, or of the part of it, that decided. */
  readonly rule: string;
};

/**
 * Decides which components are frozen: a pure reducer over looks that never sees a tensor.
 *
 * @typeParam S Its state, JSON
 */
export interface FreezePolicy<S extends Json = Json> {
  /** Prints as its own composition: the configuration is the log. */
  readonly name: string;
  /** The signals that each step measures; nothing else is measured. */
  readonly signals: readonly AnySignal[];
  /**
   * Paths of the components to measure a signal for; all when absent. Readings of the others are NaN, and cost neither
   * time nor memory. Training asks once, at the first batch of a run or of a resumed one, so the answer may depend only on
   * the components. Each path must be that of a component.
   */
  measured?(signal: AnySignal, components: readonly Component[]): readonly Path[];
  /** The state before the first step. */
  init(components: readonly Component[], run: RunInfo): S;
  /** The state after a look. */
  next(state: S, look: Look): S;
  /**
   * Paths of the components that are frozen now. Training asks after each look; until the first one everything trains. Each
   * path must be that of a component.
   */
  frozen(state: S): readonly Path[];
  /**
   * Paths of all components that will be frozen after the next look, where the policy knows it before: training plans those steps
   * while the device works on the last step before that look, and the device need not wait. Asked once before each look, the first
   * one too, with the state from before it. Null where the policy does not know. A hint: nothing freezes by it.
   */
  coming?(state: S): readonly Path[] | null;
  /**
   * Frozen components that the next steps measure without training them: they get a gradient, and the signals that are made
   * of gradient and weight alone, such as `gradNorm` and `gradSquare`. None when absent. Components that are active are left out.
   */
  probed?(state: S): readonly Path[];
  /**
   * Whether training ends now; never when absent. `frozen` is what training freezes in the end: other policies may reduce
   * this policy's set or add to it.
   */
  stopped?(state: S, frozen: readonly Path[]): boolean;
  /**
   * The step with the best parameters so far: training keeps a copy of them and ends with it. Null, or absent, ends with
   * the last parameters.
   */
  best?(state: S): number | null;
  /** Why a component is frozen; null when it is active, or the policy gives no reason. */
  reason?(state: S, path: Path): Reason | null;
}
