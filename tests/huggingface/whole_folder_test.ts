/** A folder that goes through Firn comes out whole, and what it cannot hold is refused by name. */

import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { DataError, InputError, logits, type Model, NotFoundError, read, tensor } from "@firn/train";
import {
  type FileSystem,
  memoryFileSystem,
  openSafetensors,
  type StoredDType,
  writeSafetensors,
} from "@firn/train/data";
import { companionFiles, loadAdapter, loadModel, newModel, saveAdapter, saveModel } from "@firn/train/hub";
import { describeModel, families } from "@firn/train/models";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const SOURCE = {
  model_type: "llama",
  hidden_size: 8,
  intermediate_size: 16,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  vocab_size: 10,
  tie_word_embeddings: true,
};
const TABLE = "model.embed_tokens.weight", HEAD = "lm_head.weight";
const IDS = tensor(new Int32Array([1, 2, 3]), [1, 3]);

/** A folder with a tied model, whose tensors are renamed or added. */
async function folderWith(
  change: (tensors: Map<string, Float32Array<ArrayBuffer>>) => void,
): Promise<FileSystem> {
  const fileSystem = memoryFileSystem();
  const model = await newModel(gpu, { source: SOURCE, seed: 1 });
  await saveModel(gpu, model, { folder: "model", fileSystem });
  const path = "model/model.safetensors", tensors = new Map<string, Float32Array<ArrayBuffer>>();
  const shapes = new Map<string, readonly number[]>([[HEAD, [10, 8]]]);
  {
    await using file = await openSafetensors(path, { fileSystem });
    for (const name of file.names) {
      tensors.set(name, await file.readF32(name));
      shapes.set(name, file.specs.get(name)!.shape);
    }
  }
  change(tensors);
  const rows = [...tensors].map(([name, data]) => ({
    name,
    shape: shapes.get(name)!,
    dtype: "F32" as const,
    data,
  }));
  await writeSafetensors(path, rows, { fileSystem });
  return fileSystem;
}

const scores = async (model: Model): Promise<number[]> => [...await read(gpu, logits(model, IDS))];

Deno.test("loadModel takes a tied head under either name", async () => {
  const plain = await loadModel(gpu, "model", { fileSystem: await folderWith(() => {}) });
  const renamed = await folderWith((tensors) => {
    tensors.set(HEAD, tensors.get(TABLE)!);
    tensors.delete(TABLE);
  });
  const other = await loadModel(gpu, "model", { fileSystem: renamed });
  assertEquals(await scores(other), await scores(plain));
  assertEquals([other.notes, Object.keys(other.params)], [undefined, ["model"]]);
});

Deno.test("loadModel unties a head that differs from the table, says so, and saveModel writes it untied", async () => {
  const fileSystem = await folderWith((tensors) => tensors.set(HEAD, tensors.get(TABLE)!.map((x) => 2 * x)));
  const model = await loadModel(gpu, "model", { fileSystem });
  assertEquals(model.notes?.length, 1);
  assertEquals(model.notes![0].includes(HEAD), true);
  await saveModel(gpu, model, { folder: "again", fileSystem });
  const again = await loadModel(gpu, "again", { fileSystem });
  assertEquals([again.notes, again.source.tie_word_embeddings], [undefined, false]);
  assertEquals(await scores(again), await scores(model));
  const same = await folderWith((tensors) => tensors.set(HEAD, tensors.get(TABLE)!));
  assertEquals((await loadModel(gpu, "model", { fileSystem: same })).notes, undefined);
});

Deno.test("describeModel refuses configurations that change the mathematics, or the work, beyond what is there", () => {
  const rope = { rope_type: "llama3", factor: 8, original_max_position_embeddings: 64 };
  const rows: readonly [Record<string, unknown>, string][] = [
    [{ quantization_config: { quant_method: "fp8" } }, "quantization_config"],
    [{ final_logit_softcapping: 30 }, "final_logit_softcapping"],
    [{ per_layer_config: { 0: { hidden_size: 4 } } }, "per_layer_config"],
    [{ rope_interleaved: true }, "rope_interleaved"],
    [{ rope_theta: 1e39 }, "rope_theta"],
    [{ rope_theta: 1e-320 }, "rope_theta"],
    [{ rope_scaling: { ...rope, factor: 0.5, low_freq_factor: 1, high_freq_factor: 4 } }, "factor"],
    [{ partial_rotary_factor: 0.5 }, "partial_rotary_factor"],
    [{ rope_theta: Infinity }, "rope_theta"],
    [{ rope_scaling: { ...rope, low_freq_factor: 4, high_freq_factor: 1 } }, "high_freq_factor"],
    [{ rope_scaling: { ...rope, low_freq_factor: 1, high_freq_factor: Infinity } }, "high_freq_factor"],
    [{ num_hidden_layers: 1e9 }, "num_hidden_layers"],
    [{ num_attention_heads: 0 }, "num_attention_heads"],
    [{ vocab_size: 1.5 }, "vocab_size"],
  ];
  for (const [more, key] of rows) {
    const describe = () => describeModel({ ...SOURCE, ...more }, { families, file: "config.json" });
    assertThrows(describe, InputError, key);
  }
});

Deno.test("describeModel takes rope_scaling where rope_parameters stands too, as transformers 5 does", () => {
  const source = {
    ...SOURCE,
    rope_parameters: { rope_type: "default", rope_theta: 5 },
    rope_scaling: { rope_type: "default", rope_theta: 7 },
  };
  const thetaOf = (json: Record<string, unknown>) =>
    (describeModel(json, { families, file: "config.json" }).config as { rope: { theta: number } }).rope.theta;
  assertEquals([thetaOf(source), thetaOf({ ...source, rope_scaling: null })], [7, 5]);
});

Deno.test("openSafetensors reads metadata that is null, and a file with tensors of types that cannot be computed with", async () => {
  const fileSystem = memoryFileSystem();
  const types: readonly [StoredDType, number][] = [["F8_E4M3", 1], ["F8_E5M2", 1], ["C64", 8]];
  for (const [dtype, bytes] of types) {
    const header = `{"__metadata__":null,"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},` +
      `"b":{"dtype":"${dtype}","shape":[1],"data_offsets":[4,${4 + bytes}]}}`;
    const content = new Uint8Array(8 + header.length + 4 + bytes);
    new DataView(content.buffer).setUint32(0, header.length, true);
    content.set(new TextEncoder().encode(header), 8);
    await fileSystem.write("x", content);
    await using file = await openSafetensors("x", { fileSystem });
    assertEquals(await file.readF32("a"), new Float32Array(1));
    assertEquals((await file.read("b")).length, bytes);
    await assertRejects(() => file.readF32("b"), InputError, dtype);
  }
});

Deno.test("loadModel says what a path is that is no model folder", async () => {
  const fileSystem = memoryFileSystem({ "x.bin": "" });
  await assertRejects(() => loadModel(gpu, "x.bin", { fileSystem }), InputError, "GGUF");
  const hub = () => loadModel(gpu, "org/name", { fileSystem });
  await assertRejects(hub, NotFoundError, 'downloadModel("org/name")');
});

Deno.test("companionFiles reads what belongs to a tokenizer, and neither weights nor code", async () => {
  const names = [
    "tokenizer.model",
    "added_tokens.json",
    "chat_template.jinja",
    "generation_config.json",
    "merges.txt",
  ];
  const files = Object.fromEntries(
    [...names, "model.safetensors", "modeling.py", "notes"].map((n) => [`m/${n}`, n]),
  );
  const more = ["LICENSE.md", "NOTICE", "additional_chat_templates/tool.jinja"];
  for (const name of more) files[`m/${name}`] = name;
  const found = await companionFiles("m", { fileSystem: memoryFileSystem(files) });
  assertEquals([...found.keys()].toSorted(), [...names, ...more].toSorted());
});

Deno.test("companionFiles refuses a folder of templates that lies elsewhere", async () => {
  const parent = await Deno.makeTempDir();
  try {
    await Deno.mkdir(`${parent}/model`);
    await Deno.mkdir(`${parent}/elsewhere`);
    await Deno.symlink(`${parent}/elsewhere`, `${parent}/model/additional_chat_templates`);
    await assertRejects(() => companionFiles(`${parent}/model`), DataError, "additional_chat_templates");
  } finally {
    await Deno.remove(parent, { recursive: true });
  }
});

/** An adapter folder of rank 49, whose alpha divided by the rank is not exact. */
async function adapterFolder(
  config: Record<string, unknown>,
  rename: (names: string[]) => string[] = (names) => names,
): Promise<{ model: Model; fileSystem: FileSystem }> {
  const fileSystem = memoryFileSystem({
    "a/adapter_config.json": JSON.stringify({
      peft_type: "LORA",
      r: 49,
      lora_alpha: 1,
      bias: "none",
      target_modules: ["q_proj"],
      ...config,
    }).replaceAll('"1e999"', "1e999"),
  });
  const base = "base_model.model.model.layers.0.self_attn.q_proj.lora_";
  const names = rename([`${base}A.weight`, `${base}B.weight`]);
  await writeSafetensors(
    "a/adapter_model.safetensors",
    names.map((name) => {
      const shape = name.includes("lora_A") ? [49, 8] : [8, 49];
      return { name, shape, dtype: "F32" as const, data: new Float32Array(49 * 8) };
    }),
    { fileSystem },
  );
  return { model: await newModel(gpu, { source: SOURCE, seed: 1 }), fileSystem };
}

Deno.test("an adapter keeps alpha and every other field of its configuration", async () => {
  const more = {
    base_model_name_or_path: "org/base",
    revision: "abc",
    layers_to_transform: [0],
    lora_dropout: 0.1,
    target_modules: ["q_proj"],
    a_field_of_tomorrow: { of: [1.5, null] },
  };
  const { model, fileSystem } = await adapterFolder(more);
  const adapted = await loadAdapter(gpu, model, "a", { fileSystem });
  assertEquals(adapted.notes, [
    '"a_field_of_tomorrow" of "a/adapter_config.json" is not known here; it is kept, and changes nothing',
  ]);
  await saveAdapter(gpu, adapted, { folder: "b", fileSystem });
  const saved = JSON.parse(new TextDecoder().decode(await fileSystem.read("b/adapter_config.json")));
  for (const [key, value] of Object.entries({ ...more, r: 49, lora_alpha: 1 })) {
    assertEquals(saved[key], value, key);
  }
  const file = "adapter_config.json";
  assertEquals(await fileSystem.read(`b/${file}`), await fileSystem.read(`a/${file}`));
});

Deno.test("loadAdapter refuses what it would ignore, and pairs that are missing or come twice", async () => {
  const rows: readonly [Record<string, unknown>, string][] = [
    [{ bias: "some" }, "bias"],
    [{ trainable_token_indices: [1] }, "trainable_token_indices"],
    [{ layer_replication: [[0, 1]] }, "layer_replication"],
    [{ target_parameters: ["x"] }, "target_parameters"],
    [{ init_lora_weights: "corda" }, "init_lora_weights"],
    [{ lora_dropout: 1 }, "lora_dropout"],
    [{ layers_to_transform: [-1] }, "layers_to_transform"],
    [{ lora_alpha: 1e39 }, "lora_alpha"],
  ];
  for (const [config, key] of rows) {
    const { model, fileSystem } = await adapterFolder(config);
    await assertRejects(() => loadAdapter(gpu, model, "a", { fileSystem }), InputError, key);
  }
  const infinite = await adapterFolder({ lora_alpha: "1e999" });
  await assertRejects(() => loadAdapter(gpu, infinite.model, "a", infinite), DataError, "lora_alpha");
  const none = await adapterFolder({}, () => []);
  await assertRejects(() => loadAdapter(gpu, none.model, "a", none), DataError, "it has no tensor");
  const twice = await adapterFolder({}, ([a, b]) => [a, b, a.replace("base_model.model.", "")]);
  await assertRejects(() => loadAdapter(gpu, twice.model, "a", twice), DataError, "must come once");
});
