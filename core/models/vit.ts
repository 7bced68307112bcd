/**
 * ViT: an encoder of image patches, pre-norm, with a class token and learned positions.
 *
 * Source: Dosovitskiy et al., "An Image is Worth 16x16 Words", arXiv 2010.11929, section 3.1; names are those of
 * `transformers`.
 *
 * Axes: B batch, N patches, C channels.
 *
 * @module
 */

import { attentionParams, type AttentionSpec, selfAttention } from "../nn/attention.ts";
import { linearParams, type LinearSpec } from "../nn/linear.ts";
import { mlp, mlpParams, type MlpSpec } from "../nn/mlp.ts";
import { layerNorm, normParams, type NormSpec } from "../nn/norm.ts";
import {
  type Layers,
  normal,
  type ParamsOf,
  type ParamSpec,
  repeat,
  spare,
  stored,
  storedAs,
} from "../nn/params.ts";
import { patches, type PatchesSpec, patchParams } from "../nn/patches.ts";
import { add } from "../ops/arithmetic.ts";
import { broadcast } from "../ops/broadcast.ts";
import { concat } from "../ops/movement.ts";
import type { Tensor } from "../tensor.ts";
import { activationOf } from "./activation.ts";
import { type ClassConfig, readClasses } from "./class_head.ts";
import type { ConfigReader } from "./config_reader.ts";
import { dropping } from "../nn/dropout.ts";
import { type EncoderConfig, firstOf, readEncoder } from "./encoder_config.ts";
import type { Family, Head, HiddenOptions, ImageInput } from "./family.ts";
import { checkImages, type ImageConfig, patchCount, readImages } from "./image_config.ts";

/** The values of `config.json` that the model depends on. */
export interface VitConfig extends EncoderConfig, ImageConfig, ClassConfig {
  /** Projections to queries, keys and values have a bias. */
  readonly qkvBias: boolean;
  /** Channels of the pooler, which only files without a head have. */
  readonly poolerSize: number;
}

function parse(read: ConfigReader): VitConfig {
  const config = {
    ...readEncoder(read),
    ...readImages(read, { imageSize: 224, patchSize: 16 }),
    ...readClasses(read),
  };
  return {
    ...config,
    qkvBias: read.boolean("qkv_bias", true),
    poolerSize: read.count("pooler_output_size", config.hiddenSize),
  };
}

/**
 * Declares a block.
 *
 * @internal
 */
export const vitLayer = (c: VitConfig) => ({
  layernorm_before: normParams(c.hiddenSize, { bias: true }) as NormSpec,
  attention: storedAs({
    q_proj: "attention.query",
    k_proj: "attention.key",
    v_proj: "attention.value",
    o_proj: "output.dense",
  }, attentionParams(c, { qkvBias: c.qkvBias, outBias: true })) as AttentionSpec,
  layernorm_after: normParams(c.hiddenSize, { bias: true }) as NormSpec,
  mlp: stored(
    "",
    storedAs({ up_proj: "intermediate.dense", down_proj: "output.dense" }, mlpParams(c, { bias: true })),
  ) as MlpSpec,
});

/**
 * Declares all parameters but the head.
 *
 * @internal
 */
export const vitModel = (c: VitConfig) => ({
  vit: {
    embeddings: {
      cls_token: normal([1, 1, c.hiddenSize]) as ParamSpec,
      position_embeddings: normal([1, 1 + patchCount(c), c.hiddenSize]) as ParamSpec,
      patch_embeddings: {
        projection: patchParams([c.hiddenSize, c.channels, ...c.patchSize]) as PatchesSpec,
      },
    },
    layers: stored("encoder.layer", repeat(c.layers, vitLayer(c))) as Layers<ReturnType<typeof vitLayer>>,
    layernorm: normParams(c.hiddenSize, { bias: true }) as NormSpec,
  },
});

/**
 * Declares the head for classes.
 *
 * @internal
 */
export const vitClassifier = (c: VitConfig) => ({
  classifier: linearParams([c.classes, c.hiddenSize], { bias: true }) as LinearSpec,
});

const pooler = (c: VitConfig) => ({
  pooler: stored(
    "vit.pooler",
    spare({ dense: linearParams([c.poolerSize, c.hiddenSize], { bias: true }) })!,
  ) as {
    dense?: LinearSpec;
  },
});

/** Parameters of the model; paths are those of modules, keys those of checkpoints. */
export type VitParams = ParamsOf<typeof vitModel> & Partial<ParamsOf<typeof vitClassifier>>;

function hidden(
  { vit: { embeddings, layers, layernorm } }: VitParams,
  { pixelValues }: ImageInput,
  { config, loraScale, dropout }: HiddenOptions<VitConfig>,
): Tensor {
  checkImages(config, pixelValues);
  const [batch] = pixelValues.shape, activation = activationOf(config.activation);
  const tokens = patches(pixelValues, embeddings.patch_embeddings.projection); // [B, N, C]
  const first = broadcast(embeddings.cls_token, [batch, 1, config.hiddenSize]);
  const weights = dropout?.weights("attention_probs_dropout_prob");
  const drop = (x: Tensor): Tensor => dropping(dropout)(x, "hidden_dropout_prob");
  let x = drop(add(concat([first, tokens], 1), embeddings.position_embeddings)); // [B, 1 + N, C]
  for (let i = 0; i < config.layers; i++) {
    const { layernorm_before, attention, layernorm_after, mlp: feedForward } = layers[i];
    const seen = layerNorm(x, layernorm_before, config);
    const options = { ...config, causal: false, loraScale, dropout: weights };
    x = add(x, drop(selfAttention(seen, attention, options)));
    x = add(x, drop(mlp(layerNorm(x, layernorm_after, config), feedForward, { activation, loraScale })));
  }
  return layerNorm(x, layernorm, config);
}

const classHead: Head<VitConfig, VitParams, ImageInput> = {
  task: "imageClass",
  params: vitClassifier,
  problem: ({ problem }) => problem,
  features: firstOf,
  output: ({ classifier }) => classifier!,
};

/** The ViT family, `"model_type": "vit"`. */
export const vit: Family<VitConfig, VitParams, ImageInput> = {
  name: "vit",
  title: "ViT",
  parse,
  params: vitModel,
  basePrefix: "vit",
  // Names of modules in newer versions of transformers, which adapters have.
  aliases: [
    [/(^|\.)layers\.(\d+)\./, "$1encoder.layer.$2."],
    [/\.attention\.q_proj\./, ".attention.attention.query."],
    [/\.attention\.k_proj\./, ".attention.attention.key."],
    [/\.attention\.v_proj\./, ".attention.attention.value."],
    [/\.attention\.o_proj\./, ".attention.output.dense."],
    [/\.mlp\.fc1\./, ".intermediate.dense."],
    [/\.mlp\.fc2\./, ".output.dense."],
  ],
  moduleNames: [
    [/\.encoder\.layer\./, ".layers."],
    [/\.attention\.attention\.query$/, ".attention.q_proj"],
    [/\.attention\.attention\.key$/, ".attention.k_proj"],
    [/\.attention\.attention\.value$/, ".attention.v_proj"],
    [/\.attention\.output\.dense$/, ".attention.o_proj"],
    [/\.intermediate\.dense$/, ".mlp.fc1"],
    [/\.output\.dense$/, ".mlp.fc2"],
  ],
  dropouts: { hidden_dropout_prob: 0, attention_probs_dropout_prob: 0 },
  hidden,
  heads: {
    ViTForImageClassification: classHead,
    ViTModel: { task: "features", params: pooler },
  },
};
