import { assert, assertEquals, assertRejects } from "@std/assert";
import { DataError, flatten, InputError, NotFoundError, readAll } from "@firn/train";
import { loadTokenizer, memoryFileSystem, openSafetensors } from "@firn/train/data";
import { companionFiles, loadModel, saveModel } from "@firn/train/hub";
import { openGguf } from "../../core/data/gguf/open_gguf.ts";
import { type TypedValue, writeGguf } from "../../core/data/gguf/write_gguf.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const FOLDER = `${import.meta.dirname}/../fixtures/gguf`, MODEL = `${FOLDER}/model.gguf`;

Deno.test("loadModel reads a GGUF file of another writer: configuration, and values bit for bit in the order of transformers", async () => {
  await using gpu = await openTestGpu();
  const model = await loadModel(gpu, MODEL);
  assertEquals(model.source, {
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    hidden_act: "silu",
    hidden_size: 32,
    intermediate_size: 64,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    head_dim: 16,
    max_position_embeddings: 64,
    rms_norm_eps: 1e-5,
    rope_theta: 50000,
    rope_scaling: null,
    vocab_size: 40,
    tie_word_embeddings: true,
    mlp_bias: false,
    attention_bias: false,
    bos_token_id: 0,
    eos_token_id: 0,
    torch_dtype: "float32",
  });
  await using expected = await openSafetensors(`${FOLDER}/model.safetensors`);
  const leaves = flatten(model.params), values = await readAll(gpu, [...leaves.values()]);
  assertEquals([...leaves.keys()].toSorted(), expected.names.toSorted());
  for (const [i, path] of [...leaves.keys()].entries()) {
    const [a, b] = [values[i], await expected.readF32(path)].map((x) => new Uint32Array(x.buffer));
    assertEquals(a, b, path);
  }
});

Deno.test("a model of a GGUF file is saved as a folder with its tokenizer, and loads again with the same bits", async () => {
  await using gpu = await openTestGpu();
  const fileSystem = memoryFileSystem({ "m/only.gguf": await Deno.readFile(MODEL) });
  const model = await loadModel(gpu, "m", { fileSystem });
  const files = await companionFiles("m", { fileSystem });
  assertEquals([...files.keys()], ["tokenizer.json", "tokenizer_config.json", "generation_config.json"]);
  await saveModel(gpu, model, { folder: "copy", files, fileSystem });
  const copy = await loadModel(gpu, "copy", { fileSystem });
  const [a, b] = await Promise.all(
    [model, copy].map(({ params }) => readAll(gpu, [...flatten(params).values()])),
  );
  assertEquals(a, b);
  const tokenizers = await Promise.all(["m", "copy"].map((path) => loadTokenizer(path, { fileSystem })));
  const [ids, same] = tokenizers.map(({ encode, before }) => [...before, ...encode("the tin 12")]);
  assertEquals(ids, same);
  assert(new TextDecoder().decode(files.get("tokenizer_config.json")).includes("{{ messages }}"));
});

/** The model of the fixture with other metadata. */
async function changed(change: Readonly<Record<string, TypedValue | null>>, path = "x.gguf") {
  const fileSystem = memoryFileSystem();
  await using file = await openGguf(MODEL);
  const typed = Object.entries(file.metadata).map(([key, value]): [string, TypedValue] => {
    const one = Array.isArray(value) ? value[0] : value;
    const number = key.endsWith("epsilon") || key.endsWith("freq_base") ? "f32" : "i32";
    return [key, [typeof one === "string" ? "string" : typeof one === "boolean" ? "bool" : number, value]];
  });
  const kept = [...typed.filter(([key]) => !(key in change)), ...Object.entries(change)];
  await writeGguf(path, {
    metadata: Object.fromEntries(kept.filter((entry): entry is [string, TypedValue] => entry[1] !== null)),
    tensors: file.names.map((name) => ({ name, ...file.specs.get(name)!, data: () => file.read(name) })),
    fileSystem,
  });
  return fileSystem;
}

const REFUSED: readonly (readonly [string, Readonly<Record<string, TypedValue | null>>, string])[] = [
  ["another architecture", { "general.architecture": ["string", "gemma3"] }, "llama, qwen2, qwen3"],
  ["no architecture", { "general.architecture": null }, "llama, qwen2, qwen3"],
  ["an adapter", { "general.type": ["string", "adapter"] }, "loadAdapter"],
  ["no eps", { "llama.attention.layer_norm_rms_epsilon": null }, "layer_norm_rms_epsilon"],
  [
    "heads that differ between layers",
    { "llama.attention.head_count": ["u32", [2, 3]] },
    "the same in all layers",
  ],
  ["experts", { "llama.expert_count": ["u32", 8] }, "llama.expert_count"],
  ["a window", { "llama.attention.sliding_window": ["u32", 32] }, "sliding_window"],
  ["attention to what follows", { "llama.attention.causal": ["bool", false] }, "absent or true"],
  ["part of a head rotated", { "llama.rope.dimension_count": ["u32", 8] }, "rope.dimension_count"],
  ["layers that are not there", { "llama.block_count": ["u32", 2] }, "needs it"],
  ["2^31 layers", { "llama.block_count": ["u32", 2 ** 31] }, "num_hidden_layers"],
  ["other sizes", { "llama.feed_forward_length": ["u32", 96] }, "shape"],
  ["an unknown rotary scaling", { "llama.rope.scaling.type": ["string", "longrope"] }, "none, linear, yarn"],
];

Deno.test("loadModel refuses a GGUF file that it would compute otherwise, and says what is the matter", async () => {
  await using gpu = await openTestGpu();
  for (const [what, change, seen] of REFUSED) {
    const fileSystem = await changed(change);
    const load = () => loadModel(gpu, "x.gguf", { fileSystem });
    const error = await assertRejects(load, Error, seen, what);
    assert(error instanceof DataError || error instanceof InputError, what);
    assert(error.message.includes("x.gguf"), what);
  }
});

Deno.test("loadModel reads rotary scaling of GGUF metadata", async () => {
  await using gpu = await openTestGpu();
  const scaling = (name: string) => `llama.rope.scaling.${name}`;
  const yarn = await changed({
    [scaling("type")]: ["string", "yarn"],
    [scaling("factor")]: ["f32", 4],
    [scaling("original_context_length")]: ["u32", 16],
    [scaling("attn_factor")]: ["f32", 0.5],
  });
  const { source } = await loadModel(gpu, "x.gguf", { fileSystem: yarn });
  assertEquals(source.rope_scaling, {
    rope_type: "yarn",
    factor: 4,
    original_max_position_embeddings: 16,
    attention_factor: 0.5 * (0.1 * Math.log(4) + 1),
  });
  const linear = await changed({
    [scaling("type")]: ["string", "linear"],
    [scaling("factor")]: ["f32", 2],
    "llama.attention.causal": ["bool", true],
  });
  const other = await loadModel(gpu, "x.gguf", { fileSystem: linear });
  assertEquals(other.source.rope_scaling, { rope_type: "linear", factor: 2 });
});

Deno.test("a folder is read as GGUF only where it is clear which file is meant", async () => {
  await using gpu = await openTestGpu();
  const bytes = await Deno.readFile(MODEL);
  const two = memoryFileSystem({ "m/a.gguf": bytes, "m/b.gguf": bytes });
  await assertRejects(
    () => loadModel(gpu, "m", { fileSystem: two }),
    InputError,
    "a.gguf, b.gguf; give the path of one",
  );
  await assertRejects(() => loadTokenizer("m", { fileSystem: two }), InputError, "a.gguf, b.gguf");
  const adapter = memoryFileSystem({ "m/a.gguf": bytes, "m/adapter_config.json": "{}" });
  await assertRejects(() => loadModel(gpu, "m", { fileSystem: adapter }), NotFoundError, "adapter");
  const other = memoryFileSystem({ "model.bin": bytes });
  await assertRejects(() => loadModel(gpu, "model.bin", { fileSystem: other }), InputError, "a GGUF file");
});

const TOKENIZERS: readonly (readonly [string, Readonly<Record<string, TypedValue | null>>, string])[] = [
  ["none", { "tokenizer.ggml.model": null }, "it has none"],
  ["another kind", { "tokenizer.ggml.model": ["string", "bert"] }, "gpt2, llama"],
  ["a way to cut words that is not known", { "tokenizer.ggml.pre": ["string", "tekken"] }, "smollm"],
  ["fewer types than tokens", { "tokenizer.ggml.token_type": ["i32", [1, 1]] }, "a list of 40"],
  ["a type that there is not", { "tokenizer.ggml.token_type": ["i32", Array(40).fill(7)] }, "1 to 6"],
  ["tokens that are no texts", { "tokenizer.ggml.tokens": ["i32", [1]] }, "texts"],
  ["a token twice", { "tokenizer.ggml.tokens": ["string", Array(40).fill("a")] }, "differ"],
  ["an id beyond its tokens", { "tokenizer.ggml.bos_token_id": ["u32", 40] }, "bos_token_id"],
  ["merges of tokens that there are not", { "tokenizer.ggml.merges": ["string", ["q q"]] }, "merges"],
];

Deno.test("loadTokenizer refuses the tokenizer of a GGUF file that it does not understand", async () => {
  for (const [what, change, seen] of TOKENIZERS) {
    const fileSystem = await changed(change);
    await assertRejects(() => loadTokenizer("x.gguf", { fileSystem }), DataError, seen, what);
  }
});

Deno.test("a SentencePiece tokenizer of a GGUF file merges by score, and falls back to bytes", async () => {
  const bytes = Array.from({ length: 256 }, (_, i) => `<0x${i.toString(16).toUpperCase().padStart(2, "0")}>`);
  const pieces = ["\u2581", "a", "b", "c", "ab", "bc", "\u2581a", "abc"],
    scores = [0, 0, 0, 0, -2, -1, -3, -4];
  const tokens = ["<unk>", "<s>", "</s>", ...bytes, ...pieces];
  const fileSystem = await changed({
    "tokenizer.ggml.model": ["string", "llama"],
    "tokenizer.ggml.pre": null,
    "tokenizer.ggml.tokens": ["string", tokens],
    "tokenizer.ggml.token_type": ["i32", [2, 3, 3, ...bytes.map(() => 6), ...pieces.map(() => 1)]],
    "tokenizer.ggml.scores": ["f32", [...Array(259).fill(0), ...scores]],
    "tokenizer.ggml.merges": null,
    "tokenizer.ggml.add_bos_token": null,
    "tokenizer.ggml.bos_token_id": ["u32", 1],
    "tokenizer.ggml.eos_token_id": ["u32", 2],
    "tokenizer.ggml.add_eos_token": ["bool", true],
    "llama.vocab_size": ["u32", 267],
  });
  const source = { vocab_size: tokens.length };
  const tokenizer = await loadTokenizer("x.gguf", { fileSystem, model: { source } });
  const shown = (text: string) => tokenizer.encode(text).map((id) => tokens[id]);
  // The best score first: "bc", then "▁a", so that "abc" is not reached.
  assertEquals(shown("abc"), ["\u2581a", "bc"]);
  assertEquals(shown("cabc"), ["\u2581", "c", "abc"]);
  assertEquals(shown("ab a"), ["\u2581", "ab", "\u2581a"]);
  assertEquals(shown("é"), ["\u2581", "<0xC3>", "<0xA9>"]);
  assertEquals(tokenizer.decode(tokenizer.encode("abc é a</s>")), "abc é a");
  assertEquals([tokenizer.before, tokenizer.after, tokenizer.bos, tokenizer.eos], [[1], [2], 1, 2]);
});

Deno.test("matrices of Q8_0 stay what they are with storage int8, bit for bit", async () => {
  await using gpu = await openTestGpu();
  const [wide, packed] = [await loadModel(gpu, MODEL), await loadModel(gpu, MODEL, { storage: "int8" })];
  for (const path of ["model.embed_tokens.weight", "model.layers.0.mlp.down_proj.weight"]) {
    const [one, other] = [wide, packed].map(({ params }) => flatten(params).get(path)!);
    assertEquals([one.dtype, other.dtype], ["f32", "int8"]);
    const [a, b] = await readAll(gpu, [one, other]);
    assertEquals(new Uint32Array(a.buffer), new Uint32Array(b.buffer), path);
  }
});
