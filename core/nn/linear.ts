/**
 * The linear layer, with the pair that an adapter may add to it.
 *
 * @module
 */

import { add } from "../ops/arithmetic.ts";
import { matmul } from "../ops/matmul.ts";
import { reshape } from "../ops/movement.ts";
import { dropout } from "../ops/random.ts";
import type { Tensor } from "../tensor.ts";
import { loraSettings, withPair } from "./lora.ts";
import { type Layout, normal, optional, type ParamSpec, zeros } from "./params.ts";

/** A linear layer, named as in PyTorch and PEFT. */
export interface Linear<T> {
  /** f32 or stored in fewer bytes, [out, in], or [in, out] in the layout of that name. */
  readonly weight: T;
  /** f32 [out]. */
  readonly bias?: T;
  /** f32 [r, in]; an adapter adds it. */
  readonly lora_A?: { readonly weight: T };
  /** f32 [out, r], and f32 [out] where the adapter has such biases; an adapter adds it. */
  readonly lora_B?: { readonly weight: T; readonly bias?: T };
  /** f32 [out]; an adapter with DoRA adds it. */
  readonly lora_magnitude_vector?: T;
}

/** Declaration of a linear layer. */
export type LinearSpec = Linear<ParamSpec>;

/** Parameters of a linear layer. */
export type LinearParams = Linear<Tensor>;

/** The factor of LoRA pairs that are no adapter's. */
export interface LoraOptions {
  /** alpha / r of pairs whose layer does not say it, as those that were put into a tree by hand; 1 when absent. */
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
 * `x W^T + b`, plus `scale (x A^T) B^T` where the layer has a LoRA pair.
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
 * import { openGpu, read, tensor } from "@firn/train";
 * import { linear } from "@firn/train/nn";
 *
 * await using gpu = await openGpu();
 * const y = linear(tensor([1, 2], [1, 2]), { weight: tensor([3, 4], [1, 2]), bias: tensor([5]) });
 * assertEquals([...await read(gpu, y)], [16]);
 * ```
 */
export function linear(x: Tensor, params: LinearParams, options: LinearOptions = {}): Tensor {
  const { weight, bias } = params, outFirst = options.layout !== "inOut", width = x.shape.at(-1)!;
  const rows = reshape(x, [x.shape.reduce((n, d) => n * d, 1) / width, width]);
  let y = adapted(rows, params, options);
  if (bias !== undefined) y = add(y, bias);
  return reshape(y, [...x.shape.slice(0, -1), weight.shape[outFirst ? 0 : 1]]);
}

/** The products with the weight and with its pair, without the bias: f32 [N, in] to [N, out]. */
function adapted(
  rows: Tensor,
  layer: LinearParams,
  { layout = "outIn", loraScale = 1 }: LinearOptions,
): Tensor {
  const { weight, lora_A, lora_B, lora_magnitude_vector: magnitude } = layer;
  const base = (x: Tensor): Tensor => matmul(x, weight, { transposeB: layout === "outIn" }), y = base(rows);
  if (lora_A === undefined || lora_B === undefined) return y;
  const { scale, dropout: drop } = loraSettings(layer) ?? { scale: loraScale };
  const input = drop === undefined ? rows : dropout(rows, drop), a = lora_A.weight;
  const dropped = drop === undefined || magnitude === undefined ? undefined : base(input);
  const low = matmul(input, a, { transposeB: true }), b = { b: lora_B.weight, bias: lora_B.bias };
  return withPair({ a, ...b, magnitude }, { y, low, weight, layout, scale, dropped });
}
