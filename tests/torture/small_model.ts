/**
 * A model of 2,800 parameters with a tokenizer of bytes, made on the spot: what costs time is the start of a process.
 *
 * @module
 */

import { BYTE_CHARACTERS } from "../../core/data/tokenizer/byte_characters.ts";
import { type TensorToStore, writeSafetensors } from "@firn/train/data";
import { type Draw, drawFrom } from "./draw.ts";

const CHANNELS = 8, WIDE = 16, LAYERS = 1;
/** 256 bytes, the end of a text, and two merges: no multiple of 4, in which kernels compute. */
const VOCABULARY = 259;
const END = "<|end|>";

/** `config.json`. */
export const CONFIG: Readonly<Record<string, unknown>> = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  hidden_size: CHANNELS,
  intermediate_size: WIDE,
  num_hidden_layers: LAYERS,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  vocab_size: VOCABULARY,
  max_position_embeddings: 32,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  hidden_act: "silu",
  tie_word_embeddings: true,
  bos_token_id: 256,
  eos_token_id: 256,
  dtype: "float32",
};

/** A text that such a model can learn from. */
export const TEXT: string = "The whale was seen again by the people of the ship, and the ship went after it. "
  .repeat(12);

/** The weights, by their names in the file. */
export function weights(draw: Draw = drawFrom(7, 0)): TensorToStore[] {
  const tensor = (name: string, ...shape: readonly number[]): TensorToStore => {
    const data = new Float32Array(shape.reduce((a, b) => a * b));
    const value = shape.length === 1 ? () => 1 : () => draw(2 ** 16) / 2 ** 17 - 0.25;
    return { name, dtype: "F32", shape, data: data.map(value) };
  };
  const layer = "model.layers.0";
  return [
    tensor("model.embed_tokens.weight", VOCABULARY, CHANNELS),
    tensor(`${layer}.input_layernorm.weight`, CHANNELS),
    tensor(`${layer}.self_attn.q_proj.weight`, CHANNELS, CHANNELS),
    tensor(`${layer}.self_attn.k_proj.weight`, CHANNELS / 2, CHANNELS),
    tensor(`${layer}.self_attn.v_proj.weight`, CHANNELS / 2, CHANNELS),
    tensor(`${layer}.self_attn.o_proj.weight`, CHANNELS, CHANNELS),
    tensor(`${layer}.post_attention_layernorm.weight`, CHANNELS),
    tensor(`${layer}.mlp.gate_proj.weight`, WIDE, CHANNELS),
    tensor(`${layer}.mlp.up_proj.weight`, WIDE, CHANNELS),
    tensor(`${layer}.mlp.down_proj.weight`, CHANNELS, WIDE),
    tensor("model.norm.weight", CHANNELS),
  ];
}

/** `tokenizer.json`: byte-level BPE. */
export function tokenizer(): Record<string, unknown> {
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
  const plain = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  const tokens = [...BYTE_CHARACTERS, END, "Ġt", "he"];
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: [{ id: 256, content: END, ...plain }],
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: [["Ġ", "t"], ["h", "e"]],
    },
  };
}

/** Files of the folder that are text, by name. */
export function textFiles(): ReadonlyMap<string, string> {
  const json = (value: unknown): string => JSON.stringify(value, null, 1) + "\n";
  return new Map([
    ["config.json", json(CONFIG)],
    ["generation_config.json", json({ bos_token_id: 256, eos_token_id: 256, do_sample: true, top_p: 0.9 })],
    ["tokenizer.json", json(tokenizer())],
    ["tokenizer_config.json", json({ bos_token: END, eos_token: END, model_max_length: 32 })],
    ["chat_template.jinja", "{% for message in messages %}{{ message.content }}{% endfor %}\n"],
    ["README.md", "---\nlicense: mit\nlearning_rate: 0.02 # measured\n---\n\n# A small model\n"],
  ]);
}

/** Makes the folder. */
export async function makeModel(folder: string): Promise<void> {
  await Deno.mkdir(folder, { recursive: true });
  for (const [name, text] of textFiles()) await Deno.writeTextFile(`${folder}/${name}`, text);
  await writeSafetensors(`${folder}/model.safetensors`, weights(), { metadata: { format: "pt" } });
}

/** `adapter_config.json`. */
export const ADAPTER_CONFIG: Readonly<Record<string, unknown>> = {
  peft_type: "LORA",
  task_type: "CAUSAL_LM",
  base_model_name_or_path: "small",
  revision: null,
  r: 2,
  lora_alpha: 4,
  lora_dropout: 0,
  bias: "none",
  fan_in_fan_out: false,
  use_rslora: false,
  init_lora_weights: true,
  layers_pattern: "layers",
  layers_to_transform: [0],
  target_modules: ["q_proj", "v_proj"],
  use_dora: true,
  rank_pattern: { "layers\\.\\d+\\.(?:self_attn|mlp)\\.v_proj": 1 },
  alpha_pattern: { "v_proj": 3.5 },
  modules_to_save: ["norm"],
};

/** The tensors of an adapter: pairs of rank 2 and 1 with magnitudes, and copies of norms. */
export function adapterWeights(draw: Draw = drawFrom(8, 0)): TensorToStore[] {
  const tensor = (name: string, ...shape: readonly number[]): TensorToStore => ({
    name: `base_model.model.model.${name}`,
    dtype: "F32",
    shape,
    data: new Float32Array(shape.reduce((a, b) => a * b)).map(() => draw(2 ** 16) / 2 ** 17 - 0.25),
  });
  const layer = "layers.0", [q, v] = ["q_proj", "v_proj"].map((name) => `${layer}.self_attn.${name}.lora_`);
  return [
    tensor(`${q}A.weight`, 2, CHANNELS),
    tensor(`${q}B.weight`, CHANNELS, 2),
    tensor(`${q}magnitude_vector`, CHANNELS),
    tensor(`${v}A.weight`, 1, CHANNELS),
    tensor(`${v}B.weight`, CHANNELS / 2, 1),
    tensor(`${v}magnitude_vector`, CHANNELS / 2),
    tensor(`${layer}.input_layernorm.weight`, CHANNELS),
    tensor(`${layer}.post_attention_layernorm.weight`, CHANNELS),
    tensor("norm.weight", CHANNELS),
  ];
}

/** Makes the folder of an adapter. */
export async function makeAdapter(folder: string): Promise<void> {
  await Deno.mkdir(folder, { recursive: true });
  await Deno.writeTextFile(`${folder}/adapter_config.json`, JSON.stringify(ADAPTER_CONFIG));
  await writeSafetensors(`${folder}/adapter_model.safetensors`, adapterWeights(), {
    metadata: { format: "pt" },
  });
}
