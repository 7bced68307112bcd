/** Checkpoints with other names, without the prefix of their family, or without the head that is asked for. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { DataError, flatten, InputError, type Model, readAll, tensor } from "@firn/train";
import { type FileSystem, memoryFileSystem, openSafetensors, writeSafetensors } from "@firn/train/data";
import { loadModel, newModel, saveModel } from "@firn/train/hub";
import { families, hiddenStates } from "@firn/train/models";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const SIZES = {
  hidden_size: 4,
  intermediate_size: 6,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  vocab_size: 8,
  max_position_embeddings: 8,
};
const BERT = { ...SIZES, model_type: "bert" };
const SOURCES = [
  { ...BERT, architectures: ["BertForTokenClassification"] },
  { ...SIZES, model_type: "roberta", architectures: ["RobertaForSequenceClassification"] },
  {
    model_type: "distilbert",
    dim: 4,
    hidden_dim: 6,
    n_layers: 1,
    n_heads: 2,
    vocab_size: 8,
    architectures: ["DistilBertForSequenceClassification"],
  },
  { ...SIZES, model_type: "vit", image_size: 4, patch_size: 2 },
  // As encoders of sentences that were decoders are saved.
  { ...SIZES, model_type: "llama", tie_word_embeddings: true },
  { ...SIZES, model_type: "qwen3", head_dim: 2, num_key_value_heads: 1 },
  { ...SIZES, model_type: "gpt2", n_embd: 4, n_layer: 1, n_head: 2 },
];
const FILE = "model/model.safetensors";

/** Saves a new model and renames its tensors; a null leaves one out. */
async function folderOf(
  source: Record<string, unknown>,
  rename: (name: string) => string | null = (name) => name,
): Promise<{ fileSystem: FileSystem; model: Model }> {
  const fileSystem = memoryFileSystem(), model = await newModel(gpu, { source, seed: 1 });
  await saveModel(gpu, model, { folder: "model", fileSystem });
  const rows = [];
  {
    await using file = await openSafetensors(FILE, { fileSystem });
    for (const name of file.names) {
      const { shape } = file.specs.get(name)!, renamed = rename(name);
      if (renamed !== null) {
        rows.push({ name: renamed, dtype: "F32" as const, shape, data: await file.readF32(name) });
      }
    }
  }
  await writeSafetensors(FILE, rows, { fileSystem });
  return { fileSystem, model };
}

async function namesOf(path: string, fileSystem: FileSystem): Promise<string[]> {
  await using file = await openSafetensors(path, { fileSystem });
  return file.names.toSorted();
}

const valuesOf = async (model: Model): Promise<Map<string, number[]>> => {
  const leaves = [...flatten(model.params)], values = await readAll(gpu, leaves.map(([, leaf]) => leaf));
  return new Map(leaves.map(([path], i) => [path, [...values[i]]]));
};

for (const source of SOURCES) {
  const prefix = `${families[source.model_type].basePrefix}.`;
  Deno.test(`a checkpoint of ${source.model_type} without the prefix ${prefix} is the same model, and is saved as it was read`, async () => {
    const bare = (name: string): string => name.startsWith(prefix) ? name.slice(prefix.length) : name;
    const { fileSystem, model } = await folderOf(source, bare);
    const loaded = await loadModel(gpu, "model", { fileSystem });
    assertEquals(await valuesOf(loaded), await valuesOf(model));
    await saveModel(gpu, loaded, { folder: "again", fileSystem });
    const names = await namesOf("again/model.safetensors", fileSystem);
    assertEquals(names, await namesOf(FILE, fileSystem));
    assert(names.every((name) => !name.startsWith(prefix)));
  });
}

Deno.test("a model of hidden states alone is saved without the prefix, and read with it too", async () => {
  const source = { ...BERT, architectures: ["BertModel"] };
  const { fileSystem, model } = await folderOf(source, (name) => `bert.${name}`);
  const loaded = await loadModel(gpu, "model", { fileSystem });
  assertEquals(await valuesOf(loaded), await valuesOf(model));
  await saveModel(gpu, { ...loaded, keys: undefined }, { folder: "again", fileSystem });
  assert((await namesOf("again/model.safetensors", fileSystem)).includes("pooler.dense.weight"));
});

Deno.test("every decoder has an architecture of hidden states alone, saved without the prefix", async () => {
  const decoders = Object.values(families).filter(({ heads }) =>
    Object.values(heads)[0].task === "nextToken"
  );
  for (const { name, heads, basePrefix = "" } of decoders) {
    if (name === "idefics3" || name === "smolvlm") continue;
    const base = Object.keys(heads).find((head) => heads[head].task === "features");
    assert(base !== undefined && basePrefix !== "", name);
  }
  const source = {
    ...SIZES,
    model_type: "olmoe",
    num_experts: 2,
    num_experts_per_tok: 1,
    architectures: ["OlmoeModel"],
  };
  const { fileSystem, model } = await folderOf(source), names = await namesOf(FILE, fileSystem);
  assert(names.includes("layers.0.mlp.experts.1.up_proj.weight") && names.includes("embed_tokens.weight"));
  assert(!names.some((name) => name.startsWith("model.") || name.startsWith("lm_head.")));
  assertEquals(await valuesOf(await loadModel(gpu, "model", { fileSystem })), await valuesOf(model));
});

Deno.test("what no hidden state reads may be absent, and what is there is given back", async () => {
  const source = { ...BERT, architectures: ["BertModel"] };
  const without = await folderOf(source, (name) => name.startsWith("pooler.") ? null : name);
  const loaded = await loadModel(gpu, "model", without);
  assertEquals([...flatten(loaded.params).keys()].filter((path) => path.startsWith("pooler.")), []);
  const inputIds = tensor(new Int32Array([1, 2, 3]), [1, 3]);
  const [a, b] = await readAll(
    gpu,
    [loaded, without.model].map((model) => hiddenStates(model, { inputIds })),
  );
  assertEquals(a, b);
});

Deno.test("norms may have their names of old", async () => {
  const old = (name: string): string =>
    name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
  const { fileSystem, model } = await folderOf({ ...BERT, architectures: ["BertModel"] }, old);
  const loaded = await loadModel(gpu, "model", { fileSystem });
  assertEquals(await valuesOf(loaded), await valuesOf(model));
});

Deno.test("modules of ViT may have the names of newer versions of transformers", async () => {
  const renamed = (name: string): string =>
    name.replace("encoder.layer.", "layers.").replace(
      /attention\.attention\.(q|k|v)[a-z]+\./,
      "attention.$1_proj.",
    )
      .replace("attention.output.dense", "attention.o_proj").replace("intermediate.dense", "mlp.fc1")
      .replace("output.dense", "mlp.fc2");
  const { fileSystem, model } = await folderOf(SOURCES[3], renamed);
  assert((await namesOf(FILE, fileSystem)).includes("vit.layers.0.mlp.fc2.weight"));
  assertEquals(await valuesOf(await loadModel(gpu, "model", { fileSystem })), await valuesOf(model));
});

Deno.test("one parameter under two names is refused", async () => {
  const { fileSystem } = await folderOf(SOURCES[0]);
  const rows = [];
  {
    await using file = await openSafetensors(FILE, { fileSystem });
    for (const name of file.names) {
      const row = {
        dtype: "F32" as const,
        shape: file.specs.get(name)!.shape,
        data: await file.readF32(name),
      };
      rows.push({ name, ...row });
      if (name.endsWith("word_embeddings.weight")) rows.push({ name: name.slice("bert.".length), ...row });
    }
  }
  await writeSafetensors(FILE, rows, { fileSystem });
  await assertRejects(
    () => loadModel(gpu, "model", { fileSystem }),
    DataError,
    'Cannot load "embeddings.word_embeddings.weight"',
  );
});

Deno.test("another head starts from a seed, tensors of the head before are left out, and notes say both", async () => {
  const { fileSystem, model } = await folderOf({ ...BERT, architectures: ["BertForTokenClassification"] });
  const load = (seed: number) =>
    loadModel(gpu, "model", {
      architecture: "BertForSequenceClassification",
      labels: ["ham", "spam", "else"],
      seed,
      fileSystem,
    });
  const loaded = await load(7), values = await valuesOf(loaded), before = await valuesOf(model);
  assertEquals(loaded.notes!.slice(-1), [
    '"pooler.dense.weight", "pooler.dense.bias", "classifier.weight", "classifier.bias" of BertForSequenceClassification ' +
    'start anew from seed 7, as "model/model.safetensors" does not have them',
  ]);
  for (const [path, own] of before) if (path.startsWith("bert.")) assertEquals(values.get(path), own);
  assertEquals(values.get("classifier.weight")!.length, 3 * 4);
  assertEquals(values, await valuesOf(await load(7)));
  assert(
    values.get("classifier.weight")![0] !== (await valuesOf(await load(8))).get("classifier.weight")![0],
  );
  assertEquals(loaded.source.id2label, { 0: "ham", 1: "spam", 2: "else" });
  await saveModel(gpu, loaded, { folder: "again", fileSystem });
  const again = await loadModel(gpu, "again", { fileSystem });
  assertEquals([again.architecture, await valuesOf(again)], ["BertForSequenceClassification", values]);

  const plain = await loadModel(gpu, "model", { architecture: "BertModel", fileSystem });
  assertEquals(plain.notes!.slice(-1), [
    '"classifier.bias", "classifier.weight" of "model/model.safetensors" belong to another head and are left out',
  ]);
});

Deno.test("a head that is asked for does not hide what else is missing or too much", async () => {
  const options = { architecture: "BertForSequenceClassification" };
  const missing = await folderOf(SOURCES[0], (name) => name.includes("self.query.weight") ? null : name);
  await assertRejects(
    () => loadModel(gpu, "model", { ...options, ...missing }),
    DataError,
    "self.query.weight",
  );
  const extra = await folderOf(
    SOURCES[0],
    (name) => name.replace("layer.0.output.dense.bias", "layer.9.output.dense.bias"),
  );
  await assertRejects(
    () => loadModel(gpu, "model", { ...options, ...extra }),
    DataError,
    "layer.9.output.dense.bias",
  );
  const { fileSystem } = await folderOf(SOURCES[0]);
  await assertRejects(
    () => loadModel(gpu, "model", { architecture: "BertModel", labels: 3, fileSystem }),
    InputError,
    'Cannot give "labels" to "BertModel" as its head must be for classes: choose another "architecture"',
  );
  await assertRejects(
    () => loadModel(gpu, "model", { labels: ["a", "a"], fileSystem }),
    InputError,
    "names that differ",
  );
});
