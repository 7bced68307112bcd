/**
 * The linear layer: the one place that knows LoRA.
 *
 * @module
 */

import { add, multiply } from "../ops/arithmetic.ts";
import { matmul } from "../ops/matmul.ts";
import { reshape } from "../ops/movement.ts";
import type { Tensor } from "../tensor.ts";
import { type Layout, normal, optional, type ParamSpec, zeros } from "./params.ts";

/** A linear layer, named as in PyTorch and PEFT. */
export interface Linear<T> {
  /** f32 or stored in fewer bytes, [out, in], or [in, out] in the layout of that name. */
  readonly weight: T;
  /** f32 [out]. */
  readonly bias?: T;
  /** f32 [r, in]; an adapter adds it. */
  readonly lora_A?: { readonly weight: T };
  /** f32 [out, r]; an adapter adds it. */
  readonly lora_B?: { readonly weight: T };
}

/** Declaration of a linear layer. */
export type LinearSpec = Linear<ParamSpec>;

/** Parameters of a linear layer. */
export type LinearParams = Linear<Tensor>;

/** The factor of LoRA pairs. */
export interface LoraOptions {
  /** alpha / r; 1 when absent. */
  readonly loraScale?: number;
}

/** Options of {@link linear}. */
export interface LinearOptions extends LoraOptions {
  /** Which axis of the weight comes first: [out, in] when absent, or [in, out] as in GPT-2. */
  readonly layout?: Layout;
}

/**
 * Declares a linear layer.
 *
 * @param sizes Channels of output and input
 * @param options `bias`: whether it adds one, false when absent; `layout`: as in {@link linear}
 * @returns The declaration
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { linearParams } from "@firn/train/nn";
 *
 * assertEquals(linearParams([8, 4], { bias: true }).bias!.shape, [8]);
 * ```
 */
export function linearParams(
  [out, width]: readonly [out: number, width: number],
  { bias = false, layout = "outIn" }: { readonly bias?: boolean; readonly layout?: Layout } = {},
): LinearSpec {
  const weight = layout === "inOut" ? { ...normal([width, out]), layout } : normal([out, width]);
  return { weight, bias: optional(bias, zeros([out])) };
}

/**
 * `x W^T + b`, plus `loraScale (x A^T) B^T` where the layer has a LoRA pair.
 *
 * Source: Hu et al., "LoRA", arXiv 2106.09685, equation 3.
 *
 * @param x f32 [..., in]
 * @param params The layer's parameters
 * @param options The factor of LoRA pairs, and the layout of the weight
 * @returns f32 [..., out]
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { linear, openGpu, read, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * const y = linear(tensor([1, 2], [1, 2]), { weight: tensor([3, 4], [1, 2]), bias: tensor([5]) });
 * assertEquals([...await read(gpu, y)], [16]);
 * ```
 */
export function linear(x: Tensor, params: LinearParams, options: LinearOptions = {}): Tensor {
  const { weight, bias, lora_A, lora_B } = params, outFirst = options.layout !== "inOut";
  const width = x.shape.at(-1)!;
  const rows = reshape(x, [x.shape.reduce((n, d) => n * d, 1) / width, width]);
  let y = matmul(rows, weight, { transposeB: outFirst });
  if (lora_A !== undefined && lora_B !== undefined) {
    const low = matmul(rows, lora_A.weight, { transposeB: true });
    y = add(y, multiply(matmul(low, lora_B.weight, { transposeB: true }), options.loraScale ?? 1));
  }
  if (bias !== undefined) y = add(y, bias);
  return reshape(y, [...x.shape.slice(0, -1), weight.shape[outFirst ? 0 : 1]]);
}
