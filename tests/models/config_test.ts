import { assertEquals, assertThrows } from "@std/assert";
import { families, type LlamaConfig } from "@firn/train/models";
import { describeModel } from "../../core/models/model.ts";
import { llamaSource } from "../train/tiny.ts";

const FILE = "folder/config.json";
const GOOD = llamaSource({ layers: 2, tied: false });
const STRETCHED = { rope_type: "llama3", factor: 8, low_freq_factor: 1, high_freq_factor: 4 };

function describe(source: Readonly<Record<string, unknown>>): LlamaConfig {
  return describeModel(source, { families, file: FILE }).config as LlamaConfig;
}

Deno.test("describeModel takes what transformers leaves out from its defaults", () => {
  const config = describe(GOOD);
  assertEquals([config.headDim, config.eps, config.ropeTheta, config.maxLength], [8, 1e-6, 10000, 16]);
  const { num_key_value_heads: _, max_position_embeddings: __, ...less } = GOOD;
  assertEquals([describe(less).kvHeads, describe(less).maxLength], [4, 2048]);
});

Deno.test("describeModel reads the rotary base where either version of transformers writes it", () => {
  assertEquals(describe({ ...GOOD, rope_theta: 5e5 }).ropeTheta, 5e5);
  assertEquals(
    describe({ ...GOOD, rope_parameters: { rope_type: "default", rope_theta: 5e5 } }).ropeTheta,
    5e5,
  );
});

/** Value of a key that replaces the good one, and how the error goes on after naming key and file. */
const BAD: readonly (readonly [string, unknown, string])[] = [
  ["model_type", "gpt9", 'it must be one of llama: "gpt9"'],
  ["model_type", undefined, "it must be a string: it is missing"],
  ["model_type", "toString", 'it must be one of llama: "toString"'],
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
  ["hidden_act", "gelu", 'it must be "silu": "gelu"'],
  ["tie_word_embeddings", "yes", 'it must be true or false: "yes"'],
  ["attention_bias", 1, "it must be true or false: 1"],
  ["rope_scaling", "yarn", 'it must be a record: "yarn"'],
  ["rope_parameters", [1], "it must be a record: [1]"],
];

for (const [key, value, rest] of BAD) {
  Deno.test(`describeModel refuses ${key} ${JSON.stringify(value) ?? "that is missing"}`, () => {
    // Heads that do not divide the width show as the head size that follows from them.
    const named = key === "num_attention_heads" ? "head_dim" : key;
    const message = `Cannot read "${named}" of "${FILE}" as ${rest}`;
    assertEquals(assertThrows(() => describe({ ...GOOD, [key]: value }), TypeError).message, message);
  });
}

for (
  const [place, rope, key, rest] of [
    ["rope_scaling", { rope_type: "yarn" }, "rope_type", 'it must be "default" or "llama3": "yarn"'],
    [
      "rope_scaling",
      { type: "linear", factor: 2 },
      "rope_type",
      'it must be "default" or "llama3": "linear"',
    ],
    [
      "rope_scaling",
      STRETCHED,
      "original_max_position_embeddings",
      "it must be a positive number: it is missing",
    ],
    ["rope_parameters", { ...STRETCHED, factor: "8" }, "factor", 'it must be a positive number: "8"'],
    ["rope_parameters", { rope_theta: "1e6" }, "rope_theta", 'it must be a positive number: "1e6"'],
  ] as const
) {
  Deno.test(`describeModel refuses ${place} ${JSON.stringify(rope)}`, () => {
    const message = `Cannot read "${place}.${key}" of "${FILE}" as ${rest}`;
    assertEquals(assertThrows(() => describe({ ...GOOD, [place]: rope }), TypeError).message, message);
  });
}
