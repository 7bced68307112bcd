/**
 * Attributes and sizes that attention and its gradients share.
 *
 * @module
 */

import { visiblePairs } from "../../kernels/attention/frame.ts";
import type { StoredSpec } from "../spec.ts";

/** Attributes of attention. Inputs after queries, keys and values are the ranges and then the bias, where there are any. */
export interface AttentionAttrs {
  readonly scale: number;
  readonly causal: boolean;
  readonly window: number | null;
  readonly softCap?: number;
  /** Whether an input says which keys each query sees; `causal` and `window` are then in it. */
  readonly ranges?: true;
  /** Whether the last input is added to the scores. */
  readonly bias?: true;
  /** The share of weights that are dropped, by the draw that is the last input. Not with a bias. */
  readonly dropout?: number;
}

/** Whether gradients read both numbers of a row, and its range, from one tensor. */
export function isJoined({ ranges, bias, dropout }: AttentionAttrs): boolean {
  return ranges === true || bias === true || dropout !== undefined;
}

/** Sizes of queries and keys, as the kernels need them; `inputs` begin with both, and end with a bias if there is one. */
export function attentionSizes(inputs: readonly StoredSpec[], attrs: AttentionAttrs) {
  const [q, k] = inputs, [batch, time, heads, dim] = q.shape;
  const bias = attrs.bias === undefined ? undefined : inputs.at(-1)!.shape;
  return { batch, time, keys: k.shape[1], heads, kvHeads: k.shape[2], dim, ...attrs, bias };
}

/** Number of visible pairs of a query and a key, as if each sequence were one document without padding. */
export function attentionPairs(inputs: readonly StoredSpec[], attrs: AttentionAttrs): number {
  const shape = attentionSizes(inputs, attrs), { keys, causal, window } = shape;
  return visiblePairs({ shape, keys, causal: causal || window !== null, window });
}
