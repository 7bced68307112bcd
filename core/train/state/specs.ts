/**
 * The tensors of a training state besides the parameters: names, shapes and first values.
 *
 * @module
 */

import { InputError } from "../../errors.ts";
import type { Optimizer } from "../../optim/optimizer.ts";
import type { Precision } from "../../plan/types.ts";
import type { SignalDefinition } from "../../policy.ts";
import { leaf } from "../../sources.ts";
import type { Spec } from "../../spec.ts";
import type { Path } from "../../tree.ts";
import { type IsMeasured, PREVIOUS_GRADIENT } from "../freeze/signals.ts";

/** A tensor of the state. */
export interface StateSpec extends Spec {
  /** What fills it at first; 0 when absent. */
  readonly initial?: number;
  /** The parameter whose values it has at first; none when absent. */
  readonly copyOf?: Path;
}

/** Prefix of the optimizer's state. */
export const OPTIMIZER = "optimizer.";
/** Prefix of the gradients of the step before. */
export const PREVIOUS = "previous.";
/** Prefix of the parameters of the best step. */
export const BEST = "best.";
/** The ring buffer of readings. */
export const RING = "ring";
/** The loss of the last step. */
export const LOSS = "loss";
/** The loss scale. */
export const SCALE = "scaling.scale";
/** Prefix of what exchanges of parameters between ranks keep. */
export const EXCHANGE = "exchange.";
/** Prefix of the parameters after the last exchange. */
export const START: string = `${EXCHANGE}start.`;
/** Prefix of the state of the outer optimizer. */
export const OUTER: string = `${EXCHANGE}outer.`;
/** Prefix of the parameters that a delayed exchange sends. */
export const SENT: string = `${EXCHANGE}sent.`;
/** Prefix of what codes left of values that were sent. */
export const RESIDUAL: string = `${EXCHANGE}residual.`;
/** Prefix of sums of gradients over the parts of a step. They belong to no state. */
export const ACCUMULATED = "accumulated.gradient.";
/** Prefix of sums of metrics over the parts of a step. */
export const ACCUMULATED_METRIC = "accumulated.metric.";
/** Sums of squared outputs of components over the parts of a step. */
export const ACCUMULATED_OUTPUTS = "accumulated.outputs";
/** The sum of losses over the parts of a step. */
export const ACCUMULATED_LOSS = "accumulated.loss";
/** Share of a part in the labels of its step. */
export const PART_WEIGHT = "accumulated.weight";
/** Labels of all ranks, in the unit in which the parts are weighted. */
export const ALL_WEIGHT = "accumulated.all";
/** What random numbers of a part depend on. */
export const PART_DRAW = "accumulated.draw";
/** Steps that the device left out, modulo those between two looks. */
export const JUDGED = "scaling.judged";
/** Steps without overflow since the loss scale changed. */
export const GOOD_STEPS = "scaling.good";

/** Paths that no parameter may have. */
const RESERVED = /^(loss|ring|(accumulated|batch|best|exchange|optimizer|previous|scaling)(\..*)?)$/;
/** The loss scale of the first step. */
const FIRST_SCALE = 2 ** 16;
const SCALAR: Spec = { shape: [], dtype: "f32" };

/** State of loss scaling. */
const SCALING_SPECS: ReadonlyMap<Path, StateSpec> = new Map<Path, StateSpec>([
  [SCALE, { ...SCALAR, initial: FIRST_SCALE }],
  [GOOD_STEPS, SCALAR],
]);

/**
 * Refuses a parameter whose path training needs for its own state.
 *
 * @throws {InputError} When it does
 */
export function checkName(path: Path): void {
  if (!RESERVED.test(path)) return;
  throw new InputError(
    `Cannot train "${path}" as training keeps values of its own under that name: rename it`,
  );
}

/** What the state depends on, besides the active parameters. */
export interface StateOptions {
  readonly optimizer: Optimizer;
  readonly signals: readonly SignalDefinition[];
  /** Which signals of which parameters are measured; all when absent. */
  readonly isMeasured?: IsMeasured;
  /** Paths of all parameters that may be active, in order; those that are when absent. */
  readonly trainable?: readonly Path[];
  /** How values are stored; `"f32"` when absent. */
  readonly precision?: Precision;
}

/**
 * State of the optimizer, previous gradients and loss scaling.
 *
 * @param active Active parameters
 * @param options Optimizer, signals, precision
 * @returns Specs by path
 */
export function stateSpecs(active: ReadonlyMap<Path, Spec>, options: StateOptions): Map<Path, StateSpec> {
  const { optimizer, signals, isMeasured = () => true, trainable, precision } = options;
  const params = new Map([...active].map(([path, spec]) => [path, leaf(path, spec)]));
  const specs = new Map<Path, StateSpec>();
  for (const [path, { shape, dtype }] of optimizer.init(params, trainable)) {
    specs.set(OPTIMIZER + path, { shape, dtype });
  }
  const comparing = signals.filter(({ needs }) => needs.includes(PREVIOUS_GRADIENT));
  for (const [path, { shape, dtype }] of active) {
    // The gradient of a step that never was is absent, never zero.
    const compared = comparing.some(({ name }) => isMeasured(name, path));
    if (compared) specs.set(PREVIOUS + path, { shape, dtype, initial: NaN });
  }
  if (precision === "f16") { for (const [path, spec] of SCALING_SPECS) specs.set(path, spec); }
  return specs;
}

/**
 * The state of a frozen set: {@link stateSpecs}, the ring and the loss.
 *
 * @param active Active parameters
 * @param options Optimizer, signals, precision; `ring`: the shape of the ring; `judges`: whether the device decides which steps are taken
 * @returns Specs by path
 */
export function allStateSpecs(
  active: ReadonlyMap<Path, Spec>,
  options: StateOptions & { readonly ring: readonly number[]; readonly judges: boolean },
): Map<Path, StateSpec> {
  return new Map<Path, StateSpec>([
    ...stateSpecs(active, options),
    ...options.judges ? [[JUDGED, SCALAR] as const] : [],
    [RING, { shape: options.ring, dtype: "f32" }],
    [LOSS, SCALAR],
  ]);
}

/** Whether a tensor of the state holds readings, or what they need. */
export function isReading(path: Path): boolean {
  return path === RING || path.startsWith(PREVIOUS);
}

/**
 * The specs that do not depend on what is measured.
 *
 * @param specs All specs
 * @returns Those without readings
 */
export function withoutReadings<S extends Spec>(specs: ReadonlyMap<Path, S>): Map<Path, S> {
  return new Map([...specs].filter(([path]) => !isReading(path)));
}
