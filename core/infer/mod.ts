/**
 * What a trained model is used for: text, probabilities of texts, functions that are recorded once.
 *
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu } from "@firn/train";
 * import { newModel } from "@firn/train/hub";
 * import { generate } from "@firn/train/infer";
 *
 * await using gpu = await openGpu();
 * const source = {
 *   model_type: "llama",
 *   vocab_size: 16,
 *   hidden_size: 8,
 *   intermediate_size: 16,
 *   num_hidden_layers: 1,
 *   num_attention_heads: 2,
 * };
 * const model = await newModel(gpu, { source, seed: 1 });
 * const ids = await Array.fromAsync(generate(gpu, model, { prompt: [1, 2], maxTokens: 3, temperature: 0 }));
 * assertEquals(ids.length, 3);
 * ```
 *
 * @module
 */

export { compile, type Compiled, type CompileOptions } from "./compile.ts";
export { type AskedText, logProbabilities, type LogProbabilitiesOptions } from "./log_probabilities.ts";
export { generate, type GenerateOptions } from "./generate.ts";
export { generateText, type GenerateTextOptions } from "./generate_text.ts";
export { type IdDecoder, textDecoder, type TokenText } from "./text_decoder.ts";
export { defineGeneration } from "./generation.ts";
export { type ImagePrompts, type PlacedImages, placeImages } from "./place_images.ts";
export type {
  Generation,
  GenerationOptions,
  GenerationState,
  PromptOptions,
  Sequence,
} from "./generation_types.ts";
export type { Processor, ProcessorContext } from "./sampler.ts";
export type { Sampling } from "./sampling.ts";
export type { LikelyToken, ToldToken } from "./told.ts";
