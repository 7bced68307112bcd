/**
 * The graphs of families, checked without a GPU.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { type Tensor, unflatten } from "@firn/train";
import type { LinearParams } from "@firn/train/nn";
import { describeModel, families, hiddenStates, modelParams } from "@firn/train/models";
import { declaredParams } from "../../core/models/model.ts";
import { topological } from "../../core/graph.ts";
import { leaf } from "../../core/sources.ts";
import { llamaSource } from "../train/tiny.ts";

/** Nodes of the hidden states of eight tokens, and the parameters as leaves. */
function graphOf(
  source: Readonly<Record<string, unknown>>,
): { readonly order: Tensor[]; readonly paths: string[] } {
  const model = describeModel(source, { families, file: "config.json" });
  const leaves = new Map(
    [...modelParams(model)].map(([path, { shape }]) => [path, leaf(path, { shape, dtype: "f32" })]),
  );
  const inputIds = leaf("ids", { shape: [1, 8], dtype: "i32" });
  const hidden = hiddenStates({ ...model, params: unflatten(leaves) }, { inputIds });
  return { order: topological([hidden]), paths: [...leaves.keys()] };
}

const nodes = (order: readonly Tensor[], name: string): Tensor[] =>
  order.filter(({ op }) => op.name === name);

const SOURCE = llamaSource({ layers: 4, tied: false });
const UPPER = { use_sliding_window: true, sliding_window: 5, max_window_layers: 2 };

for (
  const [model_type, changes, windows] of [
    ["llama", { sliding_window: 5 }, [null, null, null, null]],
    ["mistral", { sliding_window: 5 }, [5, 5, 5, 5]],
    ["mistral", { sliding_window: null }, [null, null, null, null]],
    ["qwen2", UPPER, [null, null, 5, 5]],
    ["qwen3", UPPER, [null, null, 5, 5]],
  ] as const
) {
  Deno.test(`attention of ${model_type} sees ${windows.join(", ")} positions with ${JSON.stringify(changes)}`, () => {
    const { order } = graphOf({ ...SOURCE, model_type, ...changes });
    const seen = nodes(order, "attention").map(({ attrs }) =>
      attrs as { causal: boolean; window: number | null }
    );
    assertEquals(seen.map(({ window }) => window), [...windows]);
    assertEquals(seen.every(({ causal }) => causal), true);
  });
}

/** Parameters of the first layer, except weights of projections and of the two norms. */
function extras(paths: readonly string[]): string[] {
  const plain = /(_proj|input_layernorm|post_attention_layernorm)\.weight$/;
  return paths.filter((path) => path.startsWith("model.layers.0.") && !plain.test(path))
    .map((path) => path.replace(/^model\.layers\.0\.(self_attn|mlp)\./, "")).toSorted();
}

const ATTENTION = ["k_proj.bias", "o_proj.bias", "q_proj.bias", "v_proj.bias"];
for (
  const [model_type, changes, expected] of [
    ["llama", {}, []],
    ["llama", { attention_bias: true }, ATTENTION],
    ["llama", { mlp_bias: true }, ["down_proj.bias", "gate_proj.bias", "up_proj.bias"]],
    ["mistral", {}, []],
    ["qwen2", {}, ["k_proj.bias", "q_proj.bias", "v_proj.bias"]],
    ["qwen3", {}, ["k_norm.weight", "q_norm.weight"]],
    ["qwen3", { attention_bias: true }, [...ATTENTION, "k_norm.weight", "q_norm.weight"].toSorted()],
  ] as const
) {
  Deno.test(`${model_type} declares and reads ${expected.join(", ") || "no more than weights"} with ${JSON.stringify(changes)}`, () => {
    const { order, paths } = graphOf({ ...SOURCE, model_type, ...changes });
    assertEquals(extras(paths), [...expected]);
    const read = nodes(order, "leaf").map(({ attrs }) => (attrs as { path: string }).path);
    assertEquals(
      paths.filter((path) => !read.includes(path)),
      ["lm_head.weight"],
      "the hidden states read all others",
    );
  });
}

for (const tied of [true, false]) {
  Deno.test(`lmHead gives ${tied ? "the embedding where both are tied" : "lm_head where they are not"}`, () => {
    const model = describeModel(llamaSource({ layers: 1, tied }), { families, file: "config.json" });
    const path = tied ? "model.embed_tokens.weight" : "lm_head.weight";
    const leaves = new Map(
      [...modelParams(model)].map(([path, { shape }]) => [path, leaf(path, { shape, dtype: "f32" })]),
    );
    assertEquals(leaves.has("lm_head.weight"), !tied);
    const output: LinearParams = model.family.heads[model.architecture].output!(unflatten(leaves));
    assertEquals(output.weight, leaves.get(path));
  });
}

Deno.test("a tied head keeps its name in checkpoints", () => {
  const source = {
    model_type: "gpt_neox",
    hidden_size: 8,
    intermediate_size: 16,
    num_hidden_layers: 1,
    num_attention_heads: 1,
    vocab_size: 10,
    tie_word_embeddings: true,
  };
  const { key, tiedTo } = declaredParams(describeModel(source, { families, file: "config.json" }))
    .get("lm_head.weight")!;
  assertEquals([key, tiedTo], ["embed_out.weight", "gpt_neox.embed_in.weight"]);
});
