import type { AnySignal, Component, FreezePolicy } from "../core/policy.ts";
import { after } from "./after.ts";
import { autoTau } from "./auto_tau.ts";
import { below, type Normalise } from "./below.ts";
import { patience } from "./patience.ts";
import { only } from "./select.ts";
import type { Selector } from "./selector.ts";
import { sticky } from "./sticky.ts";
import type { Threshold } from "./threshold.ts";
import { untilFrozen } from "./until_frozen.ts";

/** Options of {@link gradES}. */
export interface GradESOptions {
  /**
   * Threshold, above 0; one for all components, or one for each kind, as published for vision-language models:
   * `{ "vision.*": 3.3, "*": 33 }`. It depends on model, batch, task and metric. When absent, {@link autoTau} finds it in the
   * readings of the grace period.
   */
  readonly tau?: Threshold;
  /** Share of the planned steps in which nothing freezes; 0.5 when absent. */
  readonly alpha?: number;
  /**
   * The signal; `gradNorm` when absent. The paper defines `gradDelta` in equation 1 and `gradNorm` in section 3.1; its
   * published thresholds were found with `weightDelta`.
   */
  readonly metric?: AnySignal;
  /** Consecutive steps below the threshold; 1 when absent, as published. */
  readonly patience?: number;
  /** What readings are divided by; `none` when absent, as published. */
  readonly normalise?: Normalise;
  /** Which components to measure and freeze; {@link layerLinears} when absent, as published. */
  readonly components?: Selector;
  /**
   * Whether training ends when all of these components are frozen; true when absent, as published. False trains the
   * others, such as embeddings and norms, to the planned end.
   */
  readonly stop?: boolean;
}

/**
 * GradES: freezes each matrix of each layer for good once its gradient is small, and ends training when all are frozen.
 *
 * When: a plain run, with a published threshold or one that the run finds by itself. What is not a matrix of a layer
 * (embedding, norms, head) trains until the end. Cost: one sum per matrix and step; with the metric `gradDelta` a copy of the
 * gradients.
 *
 * It is the composition `only(layerLinears, untilFrozen(sticky(after(alpha, patience(k, below(metric, tau))))))`; its
 * name spells that out, and every part can be exchanged. Without a threshold {@link autoTau} takes the place of `after` and
 * `below`.
 *
 * Source: "GradES: Significantly Faster Training in Transformers with Gradient-Based Early Stopping",
 * arXiv 2509.01842, algorithm 1.
 *
 * @param options Threshold, grace period, metric, end
 * @returns The policy
 * @throws {InputError} When an option is out of its range
 *
 * @example Without a threshold
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { gradES } from "@firn/train/policies";
 *
 * assertEquals(
 *   gradES().name,
 *   "only(layerLinears, untilFrozen(sticky(autoTau(gradNorm, alpha 0.5, quantile 0.5, window 0.05))))",
 * );
 * ```
 *
 * @example With a threshold
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { gradES } from "@firn/train/policies";
 *
 * const policy = gradES({ tau: 0.02, patience: 3 });
 * assertEquals(policy.name, "only(layerLinears, untilFrozen(sticky(after(0.5, patience(3, below(gradNorm, 0.02))))))");
 * assertEquals(policy.signals, ["gradNorm"]);
 * ```
 */
export function gradES(options: GradESOptions = {}): FreezePolicy {
  const { tau, alpha = 0.5, metric = "gradNorm", patience: k = 1, normalise } = options;
  const { components = layerLinears, stop = true } = options;
  const patient = (small: FreezePolicy): FreezePolicy => k === 1 ? small : patience(k, small);
  const frozen = sticky(
    tau === undefined
      ? patient(autoTau(metric, { alpha, normalise }))
      : after(alpha, patient(below(metric, tau, { normalise }))),
  );
  return only(components, stop ? untilFrozen(frozen) : frozen);
}

/**
 * Selects the linear maps inside layers, such as the seven matrices of a Llama layer that the GradES paper freezes.
 *
 * @param component The component
 * @returns False for embeddings, norms, and a head outside the layers
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { layerLinears } from "@firn/train/policies";
 *
 * const head = { path: "lm_head", layer: null, parameters: ["lm_head.weight"], kind: "linear", size: 64 } as const;
 * assertEquals(layerLinears(head), false);
 * assertEquals(layerLinears({ ...head, path: "layers.3.up_proj", layer: 3 }), true);
 * ```
 */
export function layerLinears(component: Component): boolean {
  return component.kind === "linear" && component.layer !== null;
}
