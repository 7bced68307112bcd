/**
 * What model families are made of: declarations of parameters, and the blocks that use them.
 *
 * Each block has a function that declares its parameters and one that computes:
 *
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { gatedMlpParams, type GatedMlpSpec, listParams, normParams, type NormSpec, type ParamsOf } from "@firn/train/nn";
 *
 * const spec = (size: number) => ({
 *   norm: normParams(size) as NormSpec,
 *   mlp: gatedMlpParams({ hiddenSize: size, intermediateSize: 4 * size }) as GatedMlpSpec,
 * });
 * type Params = ParamsOf<typeof spec>; // { norm: { weight: Tensor, ... }, mlp: ... }
 * const name: keyof Params = "mlp";
 * assertEquals(listParams(spec(8)).get(`${name}.up_proj.weight`)!.shape, [32, 8]);
 * ```
 *
 * @module
 */

export * from "./attention.ts";
export { type Dropouts, dropouts } from "./dropout.ts";
export * from "./embedding.ts";
export * from "./linear.ts";
export type { LoraDropout, LoraSettings } from "./lora.ts";
export * from "./mixture.ts";
export * from "./mlp.ts";
export * from "./norm.ts";
export * from "./padding.ts";
export * from "./params.ts";
export * from "./patches.ts";
export * from "./rope.ts";
export * from "./segments.ts";
export type {
  DynamicScaling,
  LinearScaling,
  Llama3Scaling,
  LongRopeScaling,
  RopeScaling,
  YarnScaling,
} from "./rope_scaling.ts";
