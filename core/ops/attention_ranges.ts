/**
 * Which keys each query of attention sees: padding, documents, positions and a cache become one range of keys for each query.
 *
 * @module
 */

import { attentionRanges, type Limit } from "../../kernels/attention/visibility.ts";
import { refuse } from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import { hostValues, isHost } from "../sources.ts";
import { sameShape, type Spec } from "../spec.ts";
import { apply, checkTensor, type Op, type Tensor } from "../tensor.ts";

/** What limits the keys that a query sees, beside causality and a window. */
export interface AttentionLimits {
  /**
   * Number of keys of each sequence, i32 or u32 [B]; those after it are padding on the right, which no query sees. All S when
   * absent.
   */
  readonly lengths?: Tensor;
  /** First key of each sequence, i32 or u32 [B]; those before it are padding on the left. 0 when absent. */
  readonly starts?: Tensor;
  /**
   * Documents of a packed row, i32 or u32 [B, S]: a document is a run of equal numbers, and no query sees keys of another
   * one. One document when absent.
   */
  readonly segments?: Tensor;
  /**
   * Positions of the keys, i32 or u32 [B, S], by which causality and the window go; their places when absent. Where they
   * fall, a new document begins.
   */
  readonly positions?: Tensor;
  /**
   * Place of the first query among the keys: a number, or i32 or u32 [B] or [1] if it changes from run to run, as in a cache of
   * keys. `S - T` when absent.
   */
  readonly offset?: number | Tensor;
}

/** Attributes of {@link attentionRangesOp}. */
interface RangesAttrs {
  readonly batch: number;
  readonly time: number;
  readonly keys: number;
  readonly causal: boolean;
  readonly window: number | null;
  readonly offset: number;
  readonly limits: readonly Limit[];
}

/** The inputs in order. */
const LIMITS: readonly Limit[] = ["lengths", "starts", "segments", "positions", "offset"];

/** Output: the first key that each query sees, and the end of those keys, i32 [B, T, 2]. */
const attentionRangesOp: Op<RangesAttrs> = {
  name: "attentionRanges",
  batch: (inputs, { batch }) => ({
    parts: batch,
    inputs: inputs.map(({ shape }) => shape[0] === batch ? "split" : "shared"),
  }),
  infer(inputs, { batch, time, keys, limits }) {
    inputs.forEach((input, i) => checkLimit(limits[i], input, { batch, keys }));
    return [{ shape: [batch, time, 2], dtype: "i32" }];
  },
  pullbacks: ["flat"],
  kernel: ({ inputs, attrs: { limits, ...attrs } }) => ({
    kernel: attentionRanges({
      ...attrs,
      inputs: inputs.map(({ dtype, shape }, i) => ({
        limit: limits[i],
        type: dtype as "i32" | "u32",
        shared: limits[i] === "offset" && shape[0] === 1,
      })),
    }),
  }),
};

function checkLimit(
  limit: Limit,
  { dtype, shape }: Spec,
  { batch, keys }: { readonly batch: number; readonly keys: number },
): void {
  const each = placed(limit);
  const allowed = each ? [[batch, keys]] : limit === "offset" ? [[batch], [1]] : [[batch]];
  if ((dtype === "i32" || dtype === "u32") && allowed.some((one) => sameShape(one, shape))) return;
  const shapes = allowed.map((one) => `[${one}]`).join(" or ");
  const rule = `"${limit}" must be i32 or u32 of shape ${shapes}, ${
    each ? "one for each key" : "one for each sequence"
  }; it is ${dtype}`;
  throw new ShapeError("attention", rule, [shape]);
}

/**
 * Makes the ranges of keys that queries see.
 *
 * @param limits The limits
 * @param attrs Sizes and masks
 * @returns i32 [B, T, 2], or null if causality and window say it all
 * @throws {InputError} When a limit is no tensor of integers, or is out of range
 */
export function rangesOf(
  limits: AttentionLimits,
  attrs: Omit<RangesAttrs, "offset" | "limits">,
): Tensor | null {
  const { time, keys, causal, window } = attrs, { offset: given } = limits;
  const offset = typeof given === "number" ? given : keys - time;
  const inputs = LIMITS.flatMap((limit) => {
    const input = limits[limit];
    if (input === undefined || typeof input === "number") return [];
    checkTensor("attention", input, limit);
    return [{ limit, input }];
  });
  const most = keys - time;
  if (
    given === undefined && inputs.length > 0 && most < 0 &&
    inputs.some(({ limit }) => placed(limit))
  ) {
    refuse("attention", "segments and positions need a key for each query, so S must be at least T", keys);
  }
  if (typeof given === "number" && !(Number.isInteger(given) && given >= 0 && given <= most)) {
    refuse("attention", `"offset" must be a whole number from 0 to S - T, which is ${most}`, given);
  }
  for (const { limit, input } of inputs) {
    const end = limit === "offset" ? most : keys;
    if (!placed(limit)) checkHost(input, { limit, most: end });
  }
  const moved = given !== undefined && given !== most && (causal || window !== null);
  if (inputs.length === 0 && !moved) return null;
  return apply(attentionRangesOp, inputs.map(({ input }) => input), {
    ...attrs,
    offset,
    limits: inputs.map(({ limit }) => limit),
  });
}

/** Whether a limit has a number for each key. */
function placed(limit: Limit): boolean {
  return limit === "segments" || limit === "positions";
}

/** Refuses numbers of a tensor with values that are out of range; others are clamped by the kernel. */
function checkHost(input: Tensor, { limit, most }: { readonly limit: Limit; readonly most: number }): void {
  if (!isHost(input)) return;
  const bad = hostValues(input, limit).find((n) => !(n >= 0 && n <= most));
  if (bad !== undefined) refuse("attention", `"${limit}" must be from 0 to ${most}`, bad);
}
