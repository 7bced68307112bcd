/** Values that are not numbers, tensors of other types and sizes that no file backs: nothing of them enters a model. */

import { assertEquals, assertRejects } from "@std/assert";
import {
  DataError,
  FirnError,
  flatten,
  InputError,
  type Model,
  NotFoundError,
  OutOfMemoryError,
  readAll,
  tensor,
  unflatten,
} from "@firn/train";
import { type FileSystem, memoryFileSystem, type TensorToStore, writeSafetensors } from "@firn/train/data";
import { loadAdapter, loadModel, mergeAdapter, newModel, saveAdapter, saveModel } from "@firn/train/hub";
import { llamaSource } from "../train/tiny.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const SOURCE = llamaSource({ layers: 1, tied: true });
const base = await newModel(gpu, { source: SOURCE, seed: 1 });
const leaves = flatten(base.params), NORM = "model.norm.weight", Q = "model.layers.0.self_attn.q_proj";
const values = await readAll(gpu, [...leaves.values()]);

/** A folder with the model, some tensors and some fields of its configuration replaced. */
async function folderWith(
  tensors: readonly TensorToStore[],
  config: Readonly<Record<string, unknown>> = {},
): Promise<FileSystem> {
  const fileSystem = memoryFileSystem({ "m/config.json": JSON.stringify({ ...SOURCE, ...config }) });
  const all = new Map([...leaves].map(([name, { shape }], i): [string, TensorToStore] => [
    name,
    { name, dtype: "F32", shape, data: values[i] },
  ]));
  for (const one of tensors) all.set(one.name, one);
  await writeSafetensors("m/model.safetensors", all.values(), { fileSystem });
  return fileSystem;
}

const load = async (fileSystem: FileSystem): Promise<Model> => await loadModel(gpu, "m", { fileSystem });

Deno.test("loadModel leaves out a tensor of another type that the model does not need, and says so", async () => {
  const types = { F8_E4M3: 4, F8_E5M2: 4, F4: 2, C64: 32, I64: 32, BOOL: 4 } as const;
  for (const [dtype, bytes] of Object.entries(types) as [keyof typeof types, number][]) {
    const data = new Uint8Array(bytes);
    const { notes } = await load(await folderWith([{ name: "extra", dtype, shape: [4], data }]));
    assertEquals(notes, [
      `"extra" (${dtype}) of "m/model.safetensors" is no parameter of a llama and is left out`,
    ]);
  }
});

Deno.test("loadModel refuses a parameter that is not stored as a float, or is not finite in f32", async () => {
  const rows: readonly [TensorToStore["dtype"], ArrayBufferView, string][] = [
    ["F8_E4M3", new Uint8Array(32), "it is F8_E4M3; save the model unquantized"],
    ["I64", new BigInt64Array(32), "it is I64"],
    ["F64", new Float64Array(32).fill(1e300), "value 0 is Infinity"],
    ["F32", new Float32Array(32).fill(NaN, 3), "value 3 is NaN"],
    ["BF16", new Uint16Array(32).fill(0x7f80), "value 0 is Infinity"],
  ];
  for (const [dtype, data, seen] of rows) {
    const fileSystem = await folderWith([{ name: NORM, dtype, shape: [32], data }]);
    const error = await assertRejects(() => load(fileSystem), DataError, seen);
    assertEquals(error.message.startsWith(`Cannot load "${NORM}" of "m/model.safetensors" as `), true);
  }
});

Deno.test("loadModel compares layers and sizes with the file before it makes anything of them", async () => {
  const rows: readonly [Record<string, unknown>, string][] = [
    [{ num_hidden_layers: 9999 }, '"num_hidden_layers" of "m/config.json" is 9999: it has 11 tensors'],
    [{ vocab_size: 2 ** 40 }, "gives it the shape [1099511627776, 32]"],
    [{ hidden_size: 1e12 }, "gives it the shape [64, 1000000000000]"],
  ];
  for (const [config, seen] of rows) {
    const fileSystem = await folderWith([], config);
    await assertRejects(() => load(fileSystem), DataError, seen);
  }
  const deep = await folderWith([], { num_hidden_layers: 1e9 });
  await assertRejects(() => load(deep), InputError, "it must be at most 10000: 1000000000");
  const source = { ...SOURCE, vocab_size: 2 ** 40 };
  await assertRejects(
    () => newModel(gpu, { source, seed: 1 }),
    OutOfMemoryError,
    "and a tensor has one; use a smaller model, or a device with larger buffers",
  );
  const weight_map = Object.fromEntries(Array.from({ length: 901 }, (_, i) => [`t${i}`, `${i}.safetensors`]));
  const index = {
    "m/config.json": JSON.stringify(SOURCE),
    "m/model.safetensors.index.json": JSON.stringify({ weight_map }),
  };
  await assertRejects(() => load(memoryFileSystem(index)), DataError, "at most 900 shards: it lists 901");
});

Deno.test("loadModel says what a folder holds that holds no model", async () => {
  const rows: readonly [Record<string, string>, string][] = [
    [{ "m/config.json": "{}", "m/pytorch_model.bin": "" }, "save_pretrained('m-safetensors')"],
    [{ "m/adapter_config.json": "{}" }, "it holds an adapter; load its base model"],
    [{ "m/config.json": "{}", "m/pytorch_model-00001-of-00002.bin": "" }, "m-safetensors"],
    [{ "m/config.json": "{}", "m/tf_model.h5": "" }, "from_pretrained('m', from_tf=True)"],
    [{ "m/config.json": "{}", "m/flax_model.msgpack": "" }, "from_pretrained('m', from_flax=True)"],
    [{ "m/params.json": "{}", "m/consolidated.00.pth": "" }, "convert_llama_weights_to_hf --input_dir 'm'"],
    [{ "m/config.json": "{}", "m/last.ckpt": "" }, "torch.load('m/last.ckpt'"],
    [{ "m/config.json": "{}", "m/model.pt": "" }, "it has model.pt; convert it: python -c"],
    [{ "m/config.json": "{}", "m/x'+y+'.pt": "" }, "convert it to safetensors, under another name"],
    [{ "m/config.json": "{}", "m/$(x).bin": "" }, "convert it to safetensors, under another name"],
    [{ "m/optimizer.pt": "" }, "a model folder has a config.json: it has none"],
    [{ "m/model.safetensors": "" }, "a model folder has a config.json: it has none"],
  ];
  for (const [files, seen] of rows) {
    await assertRejects(() => load(memoryFileSystem(files)), NotFoundError, seen);
  }
  const adapter = {
    "a/adapter_config.json": '{"peft_type":"LORA","r":1,"lora_alpha":1}',
    "a/adapter_model.bin": "",
  };
  const base = await newModel(gpu, { source: SOURCE, seed: 1 });
  await assertRejects(
    () => loadAdapter(gpu, base, "a", { fileSystem: memoryFileSystem(adapter) }),
    NotFoundError,
    "it has adapter_model.bin; convert it: python -c",
  );
});

/** The model with pairs beside some projections, by their rank. */
function withPairs(ranks: Readonly<Record<string, number>>, value = 0): Model {
  const all = new Map(leaves);
  for (const [name, r] of Object.entries(ranks)) {
    const data = new Float32Array(32 * r).fill(value);
    all.set(`${name}.lora_A.weight`, tensor(data, [r, 32]));
    all.set(`${name}.lora_B.weight`, tensor(data, [32, r]));
  }
  return { ...base, params: unflatten(all) };
}

Deno.test("mergeAdapter and saveAdapter refuse pairs that are not finite, and nothing is left behind", async () => {
  const broken = withPairs({ [Q]: 2 }, NaN), fileSystem = memoryFileSystem(), before = gpu.counts.bytes;
  await assertRejects(
    () => mergeAdapter(gpu, broken),
    DataError,
    `Cannot merge "${Q}" as its sum with the pair must be finite: value 0 is NaN`,
  );
  assertEquals(gpu.counts.bytes, before);
  await assertRejects(
    () => saveAdapter(gpu, broken, { folder: "a", fileSystem }),
    FirnError,
    "value 0 is NaN",
  );
  assertEquals(await fileSystem.list(""), []);
});

Deno.test("an adapter is saved with the alpha that gives its scale, and loaded over no pairs that were put there by hand", async () => {
  const fileSystem = memoryFileSystem(), scaled = { ...withPairs({ [Q]: 49 }), loraScale: 1 / 49 };
  await saveAdapter(gpu, scaled, { folder: "a", fileSystem });
  const config = JSON.parse(new TextDecoder().decode(await fileSystem.read("a/adapter_config.json")));
  assertEquals(config.lora_alpha, 1);
  const adapted = await loadAdapter(gpu, base, "a", { fileSystem });
  assertEquals(adapted.adapter!.layers.get(Q)!.scale, 1 / 49);
  await assertRejects(
    () => loadAdapter(gpu, scaled, "a", { fileSystem }),
    InputError,
    "one adapter at a time",
  );
  // Rank-stabilised: alpha is divided by the root of the rank.
  await fileSystem.write("a/adapter_config.json", JSON.stringify({ ...config, use_rslora: true }));
  const stable = await loadAdapter(gpu, base, "a", { fileSystem });
  assertEquals(stable.adapter!.layers.get(Q)!.scale, 1 / 7);
  await fileSystem.write("a/adapter_config.json", JSON.stringify({ ...config, layers_to_transform: [5] }));
  await assertRejects(() => loadAdapter(gpu, base, "a", { fileSystem }), DataError, "adapts other modules");
  const mixed = withPairs({ [Q]: 2, "model.layers.0.self_attn.o_proj": 4 });
  await assertRejects(
    () => saveAdapter(gpu, mixed, { folder: "b", fileSystem }),
    InputError,
    "they have 2, 4",
  );
});

Deno.test("saveModel writes other files only inside its folder, and never over its own", async () => {
  const fileSystem = memoryFileSystem();
  for (const name of ["../evil", "/evil", "a/../../evil", "config.json", "model.safetensors", ""]) {
    const files = new Map([[name, "x"]]);
    await assertRejects(
      () => saveModel(gpu, base, { folder: "m", files, fileSystem }),
      InputError,
      "another name",
    );
  }
  assertEquals(await fileSystem.list(""), []);
  const files = new Map([["additional_chat_templates/tool.jinja", "x"]]);
  await saveModel(gpu, base, { folder: "m", files, fileSystem });
  assertEquals((await fileSystem.list("m/additional_chat_templates")).map(({ name }) => name), [
    "tool.jinja",
  ]);
});
