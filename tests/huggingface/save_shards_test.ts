import { assert, assertEquals, assertRejects } from "@std/assert";
import { AlreadyExistsError, flatten, InputError, readAll } from "@firn/train";
import { memoryFileSystem, openSafetensors } from "@firn/train/data";
import { loadModel, newModel, saveModel } from "@firn/train/hub";
import { openTestGpu } from "../reference/open_gpu.ts";

const SOURCE = {
  model_type: "llama",
  hidden_size: 16,
  intermediate_size: 8,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  vocab_size: 40,
  tie_word_embeddings: true,
};

Deno.test("saveModel fills files up to maxShardBytes, with the index of transformers, and the model loads again", async () => {
  await using gpu = await openTestGpu();
  const fileSystem = memoryFileSystem(), model = await newModel(gpu, { source: SOURCE, seed: 1 });
  // An embedding of 2560 bytes has a file of its own; a block has 7 matrices and 2 vectors of 5760 bytes in all.
  await saveModel(gpu, model, { folder: "m", maxShardBytes: 2304, fileSystem });
  const names = (await fileSystem.list("m")).map(({ name }) => name).toSorted();
  const index = JSON.parse(new TextDecoder().decode(await fileSystem.read("m/model.safetensors.index.json")));
  const files = [...new Set<string>(Object.values(index.weight_map))].toSorted();
  assertEquals(names, ["config.json", ...files, "model.safetensors.index.json"]);
  const count = String(files.length).padStart(5, "0");
  assertEquals(files, files.map((_, i) => `model-${String(i + 1).padStart(5, "0")}-of-${count}.safetensors`));
  let parameters = 0, bytes = 0;
  for (const name of files) {
    await using file = await openSafetensors(`m/${name}`, { fileSystem });
    const sizes = [...file.specs.values()].map(({ begin, end }) => end - begin),
      size = sizes.reduce((a, b) => a + b);
    assert(size <= 2304 || sizes.length === 1, `${size} bytes in ${name}`);
    assertEquals(file.metadata, { format: "pt" });
    bytes += size;
    parameters += size / 4;
  }
  assertEquals(index.metadata, { total_parameters: parameters, total_size: bytes });
  assertEquals(Object.keys(index.weight_map), Object.keys(index.weight_map).toSorted());
  const copy = await loadModel(gpu, "m", { fileSystem });
  const [a, b] = await Promise.all(
    [model, copy].map(({ params }) => readAll(gpu, [...flatten(params).values()])),
  );
  assertEquals(a, b);
  assertEquals([...flatten(copy.params).keys()], [...flatten(model.params).keys()]);
});

Deno.test("saveModel splits as huggingface_hub does: in order, a tensor that is too large alone", async () => {
  await using gpu = await openTestGpu();
  const fileSystem = memoryFileSystem(), model = await newModel(gpu, { source: SOURCE, seed: 1 });
  // Matrices of the attention have 1024 bytes, norms 64.
  await saveModel(gpu, model, { folder: "m", maxShardBytes: 1100, fileSystem });
  const { weight_map: map } = JSON.parse(
    new TextDecoder().decode(await fileSystem.read("m/model.safetensors.index.json")),
  );
  const layer = "model.layers.0", fileOf = (name: string) => Number(map[`${name}.weight`].slice(6, 11));
  assertEquals(fileOf("model.embed_tokens"), 1);
  const inner = [
    "input_layernorm",
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
  ];
  const places = inner.map((name) => fileOf(`${layer}.${name}`)), first = places[0];
  assertEquals(places.map((place) => place - first), [0, 0, 1, 2, 3]);
});

Deno.test("a folder with shards takes the place of one file, and one file that of shards; other files are not lost", async () => {
  await using gpu = await openTestGpu();
  const fileSystem = memoryFileSystem(), model = await newModel(gpu, { source: SOURCE, seed: 1 });
  const names = async () => (await fileSystem.list("m")).map(({ name }) => name).toSorted();
  await saveModel(gpu, model, { folder: "m", fileSystem });
  assertEquals(await names(), ["config.json", "model.safetensors"]);
  await saveModel(gpu, model, { folder: "m", maxShardBytes: 4000, fileSystem });
  assert((await names()).includes("model.safetensors.index.json"));
  assert(!(await names()).includes("model.safetensors"));
  await saveModel(gpu, model, { folder: "m", fileSystem });
  assertEquals(await names(), ["config.json", "model.safetensors"]);
  await fileSystem.write("m/notes.txt", "");
  await assertRejects(
    () => saveModel(gpu, model, { folder: "m", fileSystem }),
    AlreadyExistsError,
    "notes.txt",
  );
});

Deno.test("saveModel refuses a size of files that is none, and files with the names of weights", async () => {
  await using gpu = await openTestGpu();
  const fileSystem = memoryFileSystem(), model = await newModel(gpu, { source: SOURCE, seed: 1 });
  for (const maxShardBytes of [0, -1, NaN, "5GB" as unknown as number]) {
    const save = () => saveModel(gpu, model, { folder: "m", maxShardBytes, fileSystem });
    await assertRejects(save, InputError, "maxShardBytes");
  }
  for (const name of ["model.safetensors.index.json", "model-00001-of-00002.safetensors"]) {
    const save = () => saveModel(gpu, model, { folder: "m", files: new Map([[name, ""]]), fileSystem });
    await assertRejects(save, InputError, name);
  }
});
