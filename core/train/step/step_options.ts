/**
 * What the graphs of a step and of its parts are made of.
 *
 * @module
 */

import type { Optimizer } from "../../optim/optimizer.ts";
import type { Precision } from "../../plan/types.ts";
import type { SignalDefinition } from "../../policy.ts";
import type { Tensor } from "../../tensor.ts";
import type { Leaves, Path } from "../../tree.ts";
import type { IsMeasured } from "../freeze/signals.ts";

/** What `traceStep` and `tracePart` need to know. */
export interface StepOptions {
  readonly loss: Tensor;
  /** Metrics of the loss, scalars; none when absent. */
  readonly metrics?: readonly Tensor[];
  /** Parameters that are trained, by path. */
  readonly active: Leaves;
  /** Frozen parameters whose gradients are measured; none when absent. */
  readonly probed?: Leaves;
  readonly optimizer: Optimizer;
  /** Paths of all parameters that may be active, in order; those of `active` when absent. */
  readonly trainable?: readonly Path[];
  readonly signals: readonly SignalDefinition[];
  /** Which of them are measured of which parameters; all of all when absent. */
  readonly isMeasured?: IsMeasured;
  /** Output of each component, where it is measured; none when absent. */
  readonly outputs?: ReadonlyMap<Path, Tensor>;
  /** Shape of the ring buffer: rows, columns. */
  readonly ring: readonly [number, number];
  /** Groups of the thawed parameters; none when absent. */
  readonly groups?: ReadonlyMap<Path, number>;
  /** Factor of the updates of thawed parameters, by updates since the thaw; none when absent or null. */
  readonly warmup?: Tensor | null;
  /** How values are stored. With `"f16"` the loss is scaled, and a step whose gradients overflow changes nothing. */
  readonly precision?: Precision;
  /** Whether a step whose loss or gradients are not finite is skipped; false when absent. */
  readonly skips?: boolean;
  /** Whether loss and gradients are sums that parts of the step have made; false when absent. */
  readonly accumulated?: boolean;
  /** Whether these sums are weighted by labels, of which `ALL_WEIGHT` is the sum; by shares, which add up to 1, when absent. */
  readonly shared?: boolean;
}
