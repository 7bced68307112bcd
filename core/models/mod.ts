/**
 * Model families and tasks.
 *
 * A family is a configuration, a declaration of parameters and a function from input to hidden states. Its heads serve
 * tasks.
 *
 * ## Add a family
 *
 * A family of your own is loaded, trained and saved like those of this package. `loadModel` and `newModel` take a table of
 * families by `model_type`: `{ ...families, bag_of_words: bagOfWords }` adds one to those that are known.
 *
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { classLoss, type Family, mean, openGpu, type TokenInput } from "@firn/train";
 * import { newModel } from "@firn/train/hub";
 * import { embedding, embeddingParams, type EmbeddingSpec, linearParams, type LinearSpec, type ParamsOf } from "@firn/train/nn";
 *
 * interface Config {
 *   readonly size: number;
 *   readonly classes: number;
 * }
 * const words = (c: Config) => ({ words: embeddingParams([100, c.size]) as EmbeddingSpec });
 * const head = (c: Config) => ({ classifier: linearParams([c.classes, c.size]) as LinearSpec });
 *
 * const bagOfWords: Family<Config, ParamsOf<typeof words> & ParamsOf<typeof head>, TokenInput> = {
 *   name: "bag_of_words",
 *   parse: (read) => ({ size: read.count("hidden_size"), classes: read.count("num_labels") }),
 *   params: words,
 *   hidden: (params, { inputIds }) => embedding(inputIds, params.words), // [B, T, C]
 *   heads: {
 *     BagOfWordsForSequenceClassification: {
 *       task: "sequenceClass",
 *       params: head,
 *       features: (hidden) => mean(hidden, 1), // [B, C]
 *       output: (params) => params.classifier,
 *     },
 *   },
 * };
 *
 * await using gpu = await openGpu();
 * const source = { model_type: "bag_of_words", hidden_size: 8, num_labels: 2 };
 * const model = await newModel(gpu, { source, seed: 1, families: { bag_of_words: bagOfWords } });
 * const loss = classLoss(model); // for defineTraining
 * assertEquals([model.architecture, typeof loss], ["BagOfWordsForSequenceClassification", "function"]);
 * ```
 *
 * @module
 */

import { bert } from "./bert.ts";
import { distilBert } from "./distilbert.ts";
import { gemma } from "./gemma.ts";
import { gemma2 } from "./gemma2.ts";
import { gemma3 } from "./gemma3.ts";
import { gpt2 } from "./gpt2.ts";
import { gptNeox } from "./gpt_neox.ts";
import { granite } from "./granite.ts";
import { llama } from "./llama.ts";
import { mistral } from "./mistral.ts";
import type { Families } from "./model.ts";
import { olmo2 } from "./olmo2.ts";
import { olmoe } from "./olmoe.ts";
import { phi3 } from "./phi3.ts";
import { qwen2 } from "./qwen2.ts";
import { qwen3 } from "./qwen3.ts";
import { qwen3Moe } from "./qwen3_moe.ts";
import { roberta } from "./roberta.ts";
import { idefics3, smolVlm } from "./smolvlm.ts";
import { smollm3 } from "./smollm3.ts";
import { vit } from "./vit.ts";

export type { ActivationName } from "./activation.ts";
export type { Adapter, AdapterSettings, ModelAdapter, StoredTensor } from "./adapter.ts";
export { bert, bertClassifier, type BertConfig, bertModel, type BertParams, bertPooler } from "./bert.ts";
export type { ClassConfig, ProblemType } from "./class_head.ts";
export { type ConfigReader, configReader } from "./config_reader.ts";
export type { DecoderConfig } from "./decoder_config.ts";
export type { DropoutDefaults, DropoutSetting } from "./dropout.ts";
export {
  distilBert,
  distilBertClassifier,
  type DistilBertConfig,
  distilBertModel,
  type DistilBertParams,
  distilBertPreClassifier,
} from "./distilbert.ts";
export type { EncoderConfig } from "./encoder_config.ts";
export type { Family, FeatureOptions, Head, HiddenOptions, ImageInput, Task, TokenInput } from "./family.ts";
export { gemma, type GemmaConfig, gemmaLayer, gemmaModel, type GemmaParams } from "./gemma.ts";
export { gemma2, type Gemma2Config, gemma2Layer, gemma2Model, type Gemma2Params } from "./gemma2.ts";
export { gemma3, type Gemma3Config, gemma3Layer, gemma3Model, type Gemma3Params } from "./gemma3.ts";
export { gpt2, type Gpt2Config, gpt2Layer, gpt2Model, type Gpt2Params } from "./gpt2.ts";
export { gptNeox, type GptNeoxConfig, gptNeoxLayer, gptNeoxModel, type GptNeoxParams } from "./gpt_neox.ts";
export { granite, type GraniteConfig } from "./granite.ts";
export { llama, type LlamaConfig, llamaLayer, llamaModel, type LlamaParams } from "./llama.ts";
export { lmHead, type LmHeadParams, type LmHeadSpec, type LmParams } from "./lm_head.ts";
export { countLabels, type Loss, type LossMetrics, type LossMode, type LossOn } from "./loss.ts";
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
export { olmo2, type Olmo2Config, olmo2Layer, olmo2Model, type Olmo2Params } from "./olmo2.ts";
export { olmoe, type OlmoeConfig, olmoeLayer, olmoeModel, type OlmoeParams } from "./olmoe.ts";
export { phi3, type Phi3Config, phi3Layer, phi3Model, type Phi3Params } from "./phi3.ts";
export { qwen2, type Qwen2Config, qwen2Layer, qwen2Model, type Qwen2Params } from "./qwen2.ts";
export { qwen3, type Qwen3Config, qwen3Layer, qwen3Model, type Qwen3Params } from "./qwen3.ts";
export {
  qwen3Moe,
  type Qwen3MoeConfig,
  qwen3MoeLayer,
  qwen3MoeModel,
  type Qwen3MoeParams,
} from "./qwen3_moe.ts";
export type { MixtureConfig } from "./mixture_config.ts";
export { roberta, type RobertaConfig, robertaModel, type RobertaParams } from "./roberta.ts";
export { type SentenceEmbeddingOptions, sentenceEmbeddings } from "./sentence_embeddings.ts";
export { smollm3, type Smollm3Config } from "./smollm3.ts";
export {
  type ClassBatch,
  classLoss,
  features,
  type ImageBatch,
  logits,
  nextTokenLoss,
  type TokenBatch,
} from "./tasks.ts";
export type { Regularization } from "./regularize.ts";
export {
  idefics3,
  type ImageTextInput,
  smolVlm,
  type SmolVlmConfig,
  smolVlmModel,
  type SmolVlmParams,
} from "./smolvlm.ts";
export type { ImageConfig } from "./image_config.ts";
export type { SiglipConfig } from "./siglip.ts";
export { adapterOf, withAdapter, withoutAdapter } from "./with_adapter.ts";
export { vit, vitClassifier, type VitConfig, vitLayer, vitModel, type VitParams } from "./vit.ts";

/** Families by `model_type`. A new one adds a file and a row. */
export const families: Families = {
  llama,
  mistral,
  qwen2,
  qwen3,
  qwen3_moe: qwen3Moe,
  phi3,
  gemma,
  gemma2,
  gemma3_text: gemma3,
  smollm3,
  olmo2,
  olmoe,
  granite,
  gpt2,
  gpt_neox: gptNeox,
  bert,
  distilbert: distilBert,
  roberta,
  vit,
  idefics3,
  smolvlm: smolVlm,
};
