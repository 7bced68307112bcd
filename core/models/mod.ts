/**
 * Model families and tasks.
 *
 * @module
 */

import { llama } from "./llama.ts";
import { mistral } from "./mistral.ts";
import type { Families } from "./model.ts";
import { qwen2 } from "./qwen2.ts";
import { qwen3 } from "./qwen3.ts";

export { type ConfigReader, configReader } from "./config_reader.ts";
export type { DecoderConfig } from "./decoder_config.ts";
export type { Family, FeatureOptions, Head, HiddenOptions, ImageInput, Task, TokenInput } from "./family.ts";
export { llama, type LlamaConfig, llamaLayer, llamaModel, type LlamaParams } from "./llama.ts";
export { lmHead, type LmHeadParams, type LmHeadSpec, type LmParams } from "./lm_head.ts";
export { mistral, type MistralConfig, mistralLayer, mistralModel, type MistralParams } from "./mistral.ts";
export {
  describeModel,
  type Families,
  headOf,
  hiddenStates,
  type Model,
  type ModelDescription,
  modelParams,
} from "./model.ts";
export { qwen2, type Qwen2Config, qwen2Layer, qwen2Model, type Qwen2Params } from "./qwen2.ts";
export { qwen3, type Qwen3Config, qwen3Layer, qwen3Model, type Qwen3Params } from "./qwen3.ts";
export {
  type ClassBatch,
  classLoss,
  features,
  type ImageBatch,
  logits,
  nextTokenLoss,
  type TokenBatch,
} from "./tasks.ts";

/** Families by `model_type`. A new one adds a file and a row. */
export const families: Families = { llama, mistral, qwen2, qwen3 };
