import { InputError } from "@firn/train";
import { assertEquals, assertThrows } from "@std/assert";
import { describeModel, families, type LlamaConfig } from "@firn/train/models";
import type { Llama3Scaling } from "@firn/train/nn";
import { llamaSource } from "../train/tiny.ts";

const FILE = "folder/config.json";
const GOOD = llamaSource({ layers: 2, tied: false });
const ROPE_KEYS =
  "rope_type, type, rope_theta, partial_rotary_factor, original_max_position_embeddings, factor, " +
  "low_freq_factor, high_freq_factor";
const ROPE_KINDS = 'it must be one of "default", "linear", "dynamic", "llama3", "yarn", "longrope"';
const YARN = { rope_type: "yarn", factor: 4, original_max_position_embeddings: 4 };
const STRETCHED = { rope_type: "llama3", factor: 8, low_freq_factor: 1, high_freq_factor: 4 };

function describe(source: Readonly<Record<string, unknown>>): LlamaConfig {
  return describeModel(source, { families, file: FILE }).config as LlamaConfig;
}

Deno.test("describeModel takes what transformers leaves out from its defaults", () => {
  const config = describe(GOOD);
  assertEquals([config.headDim, config.eps, config.rope.theta, config.maxLength], [8, 1e-6, 10000, 16]);
  const { num_key_value_heads: _, max_position_embeddings: __, ...less } = GOOD;
  assertEquals([describe(less).kvHeads, describe(less).maxLength], [4, 2048]);
});

Deno.test("describeModel reads the rotary base where either version of transformers writes it", () => {
  assertEquals(describe({ ...GOOD, rope_theta: 5e5 }).rope.theta, 5e5);
  assertEquals(
    describe({ ...GOOD, rope_parameters: { rope_type: "default", rope_theta: 5e5 } }).rope.theta,
    5e5,
  );
});

Deno.test("describeModel finds the pretraining length of llama3 where transformers 5 does", () => {
  const length = (source: Source): unknown =>
    (describe({ ...GOOD, rope_scaling: STRETCHED, ...source }).rope.scaling as Llama3Scaling).originalLength;
  assertEquals(length({}), GOOD.max_position_embeddings);
  const within = { rope_scaling: { ...STRETCHED, original_max_position_embeddings: 12 } };
  assertEquals(length(within), 12);
  assertEquals(length({ ...within, original_max_position_embeddings: 8 }), 8);
});

Deno.test("describeModel takes as many key heads as query heads where num_key_value_heads is null", () => {
  assertEquals(describe({ ...GOOD, model_type: "mistral", num_key_value_heads: null }).kvHeads, 4);
});

const PAGE = 'the doc of "@firn/train/models" shows how to add a family';
const NAMES = Object.keys(families).join(", ");

/** A key, a bad value, and the end of the error, after the names of key and file. */
const BAD: readonly (readonly [string, unknown, string])[] = [
  ["model_type", "gpt9", `it must be one of ${NAMES}: "gpt9"; ${PAGE}`],
  ["model_type", undefined, "it must be a string: it is missing"],
  ["model_type", "toString", `it must be one of ${NAMES}: "toString"; ${PAGE}`],
  ["hidden_size", undefined, "it must be a whole number above 0: it is missing"],
  ["hidden_size", "32", 'it must be a whole number above 0: "32"'],
  ["hidden_size", -32, "it must be a whole number above 0: -32"],
  ["num_hidden_layers", 1.5, "it must be a whole number above 0: 1.5"],
  ["vocab_size", 0, "it must be a whole number above 0: 0"],
  ["intermediate_size", [64], "it must be a whole number above 0: [64]"],
  ["num_attention_heads", 5, "it must be a whole number above 0: 6.4"],
  ["head_dim", 7, "rotary positions need an even number: 7"],
  ["num_key_value_heads", 3, "it must divide num_attention_heads 4: 3"],
  ["rms_norm_eps", 0, "it must be a positive number: 0"],
  ["rope_theta", "10000", 'it must be a positive number: "10000"'],
  [
    "hidden_act",
    "prelu",
    "it must be one of silu, swish, relu, relu2, relu6, leaky_relu, gelu, gelu_python, gelu_10, gelu_fast, gelu_new, " +
    'gelu_accurate, gelu_pytorch_tanh, gelu_python_tanh, quick_gelu, mish, hardswish, sigmoid, tanh, linear: "prelu"',
  ],
  ["tie_word_embeddings", "yes", 'it must be true or false: "yes"'],
  ["attention_bias", 1, "it must be true or false: 1"],
  ["rope_scaling", "yarn", 'it must be a record: "yarn"'],
  ["rope_parameters", [1], "it must be a record: [1]"],
  ["attention_dropout", 1, "it must be at least 0 and below 1: 1"],
  ["partial_rotary_factor", 0.5, "it must be 1: 0.5"],
  [
    "architectures",
    ["LlamaForMaskedLM"],
    'it must have one of LlamaForCausalLM, LlamaForSequenceClassification, LlamaModel: ["LlamaForMaskedLM"]',
  ],
  ["architectures", "LlamaForCausalLM", 'it must be a list of strings: "LlamaForCausalLM"'],
];

for (const [key, value, rest] of BAD) {
  Deno.test(`describeModel refuses ${key} ${JSON.stringify(value) ?? "that is missing"}`, () => {
    // The head size is the width divided by the number of heads, so the error names the head size.
    const named = key === "num_attention_heads" ? "head_dim" : key;
    const message = `Cannot read "${named}" of "${FILE}" as ${rest}`;
    assertEquals(assertThrows(() => describe({ ...GOOD, [key]: value }), InputError).message, message);
  });
}

for (
  const [place, rope, key, rest] of [
    ["rope_scaling", { rope_type: "axial" }, "rope_type", `${ROPE_KINDS}: "axial"`],
    ["rope_scaling", { type: 2 }, "rope_type", `${ROPE_KINDS}: 2`],
    ["rope_scaling", { type: "linear" }, "factor", "it must be a positive number: it is missing"],
    ["rope_scaling", { type: "dynamic", factor: 0.5 }, "factor", "it must be at least 1: 0.5"],
    ["rope_scaling", { ...YARN, beta_fast: 1 }, "beta_fast", "it must be above beta_slow 1: 1"],
    ["rope_scaling", { ...YARN, truncate: 1 }, "truncate", "it must be true or false: 1"],
    [
      "rope_scaling",
      { ...YARN, attention_factor: -1 },
      "attention_factor",
      "it must be a positive number: -1",
    ],
    [
      "rope_scaling",
      { type: "longrope", short_factor: [1, 1, 1, 1], long_factor: [1, 2, 0, 4] },
      "long_factor",
      "it must be a list of 4 positive numbers: [1,2,0,4]",
    ],
    [
      "rope_scaling",
      { type: "linear", factor: 2, beta_fast: 32 },
      "beta_fast",
      "only rope_type, type, rope_theta, partial_rotary_factor, factor, original_max_position_embeddings are supported: 32",
    ],
    ["rope_parameters", { ...STRETCHED, factor: "8" }, "factor", 'it must be a positive number: "8"'],
    [
      "rope_parameters",
      { full_attention: { rope_theta: 1e6 } },
      "full_attention",
      `only ${ROPE_KEYS} are supported: {"rope_theta":1000000}`,
    ],
    [
      "rope_scaling",
      { type: "default", mrope_section: [2] },
      "mrope_section",
      `only ${ROPE_KEYS} are supported: [2]`,
    ],
    ["rope_parameters", { partial_rotary_factor: 0.5 }, "partial_rotary_factor", "it must be 1: 0.5"],
    ["rope_parameters", { rope_theta: "1e6" }, "rope_theta", 'it must be a positive number: "1e6"'],
  ] as const
) {
  Deno.test(`describeModel refuses ${place} ${JSON.stringify(rope)}`, () => {
    const message = `Cannot read "${place}.${key}" of "${FILE}" as ${rest}`;
    assertEquals(assertThrows(() => describe({ ...GOOD, [place]: rope }), InputError).message, message);
  });
}

type Source = Readonly<Record<string, unknown>>;

/** A configuration of any family: 32 channels, 4 heads, 2 key heads, 4 layers. */
function sourceOf(model_type: string, changes: Source = {}): Source {
  return { ...llamaSource({ layers: 4, tied: false }), model_type, ...changes };
}

function windowsOf(source: Source): unknown {
  return (describe(source) as LlamaConfig & { readonly windows: unknown }).windows;
}

Deno.test("describeModel takes the defaults of each family for keys that are absent", () => {
  const seen = ["llama", "mistral", "qwen2", "qwen3"].map((type) => {
    const { num_key_value_heads: _, max_position_embeddings: __, ...less } = sourceOf(type, {
      num_attention_heads: 32,
      hidden_size: 256,
    });
    const { kvHeads, headDim, maxLength } = describe(less);
    return [kvHeads, headDim, maxLength];
  });
  assertEquals(seen, [[32, 8, 2048], [8, 8, 131072], [32, 8, 32768], [32, 128, 32768]]);
});

Deno.test("describeModel slides a window over every layer of Mistral unless sliding_window is null", () => {
  assertEquals(windowsOf(sourceOf("mistral")), [4096, 4096, 4096, 4096]);
  assertEquals(windowsOf(sourceOf("mistral", { sliding_window: 6 })), [6, 6, 6, 6]);
  assertEquals(windowsOf(sourceOf("mistral", { sliding_window: null })), [null, null, null, null]);
});

for (const type of ["qwen2", "qwen3"]) {
  Deno.test(`describeModel slides a window over the upper layers of ${type} where it is in use`, () => {
    const upper = { sliding_window: 8, max_window_layers: 3 };
    assertEquals(windowsOf(sourceOf(type, upper)), [null, null, null, null]);
    const used = { ...upper, use_sliding_window: true };
    assertEquals(windowsOf(sourceOf(type, used)), [null, null, null, 8]);
    assertEquals(windowsOf(sourceOf(type, { ...used, sliding_window: null })), [null, null, null, null]);
    const layer_types = ["sliding_attention", "full_attention", "full_attention", "sliding_attention"];
    assertEquals(windowsOf(sourceOf(type, { ...used, layer_types })), [8, null, null, 8]);
  });
}

Deno.test("describeModel slides a window over all layers from max_window_layers 0 on", () => {
  const used = { use_sliding_window: true, sliding_window: 8, max_window_layers: 0 };
  assertEquals(windowsOf(sourceOf("qwen2", used)), [8, 8, 8, 8]);
});

Deno.test("describeModel reads the id of the padding, from the end where it is negative, and none where no row has it", () => {
  const paddings = [3, -1, 100_000, null].map((pad_token_id) => describe({ ...GOOD, pad_token_id }).padding);
  assertEquals(paddings, [3, GOOD.vocab_size as number - 1, null, null]);
  const { pad_token_id: _, ...none } = sourceOf("olmo2");
  assertEquals(describe(none).padding, 1);
});

const SLIDING = Array(4).fill("sliding_attention");
for (
  const [type, changes, key, rest] of [
    [
      "qwen2",
      { layer_types: SLIDING },
      "layer_types",
      '"sliding_attention" needs a sliding_window that is in use: ',
    ],
    ["mistral", { layer_types: ["chunked"] }, "layer_types", "it must have 4 entries, one for each layer: "],
    [
      "qwen3",
      { layer_types: ["chunked_attention", "full_attention", "full_attention", "full_attention"] },
      "layer_types",
      'entries must be "full_attention" or "sliding_attention": "chunked_attention"',
    ],
    ["mistral", { sliding_window: 0 }, "sliding_window", "it must be a whole number above 0: 0"],
    ["mistral", { attention_bias: true }, "attention_bias", "it must be false: true"],
    ["qwen2", { attention_bias: false }, "attention_bias", "it must be true: false"],
    ["qwen3", { mlp_bias: true }, "mlp_bias", "it must be false: true"],
    [
      "qwen2",
      { rope_scaling: { type: "yarn", factor: 4, original_max_position_embeddings: 4, mscale: -1 } },
      "rope_scaling.mscale",
      "it must be a positive number: -1",
    ],
    ["qwen3", { hidden_dropout: 0.1 }, "hidden_dropout", "it must be 0: 0.1"],
    ["mistral", { hidden_act: "prelu" }, "hidden_act", "it must be one of silu, "],
  ] as const
) {
  Deno.test(`describeModel refuses ${type} with ${JSON.stringify(changes)}`, () => {
    const message = `Cannot read "${key}" of "${FILE}" as ${rest}`;
    assertThrows(() => describe(sourceOf(type, changes)), InputError, message);
  });
}
