import { assert, assertEquals, assertRejects } from "@std/assert";
import { DataError, flatten, InputError, type Model, readAll } from "@firn/train";
import { loadTokenizer, memoryFileSystem, openSafetensors, type Tokenizer } from "@firn/train/data";
import {
  companionFiles,
  type GgufType,
  loadAdapter,
  loadModel,
  newAdapter,
  newModel,
  saveAdapter,
  saveGguf,
  saveGgufAdapter,
} from "@firn/train/hub";
import { openGguf } from "../../core/data/gguf/open_gguf.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const FIXTURES = `${import.meta.dirname}/../fixtures`, SOTU = "examples/models/sotu";

async function bitsOf(gpu: Awaited<ReturnType<typeof openTestGpu>>, { params }: Model) {
  const leaves = flatten(params), values = await readAll(gpu, [...leaves.values()]);
  return new Map([...leaves.keys()].map((path, i) => [path, new Uint32Array(values[i].buffer)]));
}

for (const family of ["llama", "qwen2", "qwen3"]) {
  Deno.test(`a ${family} goes into a GGUF file and comes back with the same configuration and bits`, async () => {
    await using gpu = await openTestGpu();
    const fileSystem = memoryFileSystem(), model = await loadModel(gpu, `${FIXTURES}/${family}`);
    await saveGguf(gpu, model, { path: "x.gguf", type: "f32", fileSystem });
    const copy = await loadModel(gpu, "x.gguf", { fileSystem });
    assertEquals([copy.config, copy.architecture, copy.maxLength], [
      model.config,
      model.architecture,
      model.maxLength,
    ]);
    assertEquals(await bitsOf(gpu, copy), await bitsOf(gpu, model));
  });
}

Deno.test("each type of a GGUF file holds what it says, and a file of it is written again byte for byte", async () => {
  await using gpu = await openTestGpu();
  const fileSystem = memoryFileSystem(), model = await loadModel(gpu, `${FIXTURES}/gguf/model.gguf`);
  const files = await companionFiles(`${FIXTURES}/gguf/model.gguf`);
  const types: readonly [GgufType, string, number][] = [["f32", "F32", 0], ["f16", "F16", 1], [
    "bf16",
    "BF16",
    32,
  ], [
    "q8_0",
    "Q8_0",
    7,
  ]];
  for (const [type, dtype, number] of types) {
    await saveGguf(gpu, model, { path: "x.gguf", type, files, fileSystem });
    await using file = await openGguf("x.gguf", { fileSystem });
    assertEquals(file.metadata["general.file_type"], number);
    for (const [name, spec] of file.specs) {
      assertEquals(spec.dtype, spec.shape.length === 1 ? "F32" : dtype, name);
    }
    const bytes = await fileSystem.read("x.gguf");
    const again = await loadModel(gpu, "x.gguf", { fileSystem });
    const same = await companionFiles("x.gguf", { fileSystem });
    await saveGguf(gpu, again, { path: "x.gguf", type, files: same, fileSystem });
    assertEquals(await fileSystem.read("x.gguf"), bytes, type);
  }
});

const LLAMA = {
  model_type: "llama",
  hidden_size: 16,
  intermediate_size: 8,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  vocab_size: 10,
  tie_word_embeddings: false,
};

Deno.test("rotary scaling, biases and a head of its own go through a GGUF file", async () => {
  await using gpu = await openTestGpu();
  const factors = [1, 1.5, 2, 4];
  const scalings = [
    { rope_type: "linear", factor: 2 },
    { rope_type: "yarn", factor: 4, original_max_position_embeddings: 16 },
    {
      rope_type: "yarn",
      factor: 4,
      original_max_position_embeddings: 16,
      attention_factor: 0.7,
      beta_fast: 16,
    },
    {
      rope_type: "llama3",
      factor: 32,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 8192,
    },
    {
      rope_type: "longrope",
      short_factor: factors,
      long_factor: factors,
      attention_factor: 1,
      original_max_position_embeddings: 2048,
    },
  ];
  for (const rope_scaling of scalings) {
    const fileSystem = memoryFileSystem();
    const source = { ...LLAMA, attention_bias: true, mlp_bias: true, rope_theta: 500000, rope_scaling };
    const model = await newModel(gpu, { source, seed: 1 });
    await saveGguf(gpu, model, { path: "x.gguf", type: "f32", fileSystem });
    const copy = await loadModel(gpu, "x.gguf", { fileSystem });
    const { rope: a, ...one } = model.config as { rope: { scaling?: { attentionFactor?: number } } };
    const { rope: b, ...other } = copy.config as { rope: { scaling?: { attentionFactor?: number } } };
    assertEquals(other, one);
    const difference = (a.scaling?.attentionFactor ?? 0) - (b.scaling?.attentionFactor ?? 0);
    assert(Math.abs(difference) < 1e-6);
    assertEquals({ ...b, scaling: { ...b.scaling, attentionFactor: 0 } }, {
      ...a,
      scaling: { ...a.scaling, attentionFactor: 0 },
    });
    assertEquals(await bitsOf(gpu, copy), await bitsOf(gpu, model));
  }
});

Deno.test("saveGguf refuses what llama.cpp would compute otherwise", async () => {
  await using gpu = await openTestGpu();
  const fileSystem = memoryFileSystem();
  const refuse = async (change: Record<string, unknown>, seen: string) => {
    const model = await newModel(gpu, { source: { ...LLAMA, ...change }, seed: 1 });
    await assertRejects(() => saveGguf(gpu, model, { path: "x.gguf", fileSystem }), InputError, seen);
  };
  await refuse({ hidden_act: "gelu" }, "hidden_act");
  await refuse({ model_type: "mistral", sliding_window: 4, num_key_value_heads: 2 }, "window");
  await refuse({ model_type: "gemma", head_dim: 8, num_key_value_heads: 1 }, "LlamaForCausalLM");
  await refuse({ architectures: ["LlamaForSequenceClassification"] }, "LlamaForCausalLM");
  await refuse({ rope_scaling: { rope_type: "dynamic", factor: 2 } }, "dynamic");
  await refuse(
    { model_type: "qwen3", head_dim: 8, num_key_value_heads: 2, attention_bias: true },
    "attention_bias",
  );
  const model = await newModel(gpu, { source: LLAMA, seed: 1 });
  const other = () => saveGguf(gpu, model, { path: "x.gguf", type: "q4_0" as "f32", fileSystem });
  await assertRejects(other, InputError, "f32, f16, q8_0, bf16");
  assertEquals(await fileSystem.stat("x.gguf"), null);
});

const TEXTS = [
  "The state of the Union",
  "  two spaces, 1234 ½ é 日本 🙂\n\n\tend",
  "<|endoftext|>",
  "don't I'LL",
];

Deno.test("a byte-level tokenizer goes through a GGUF file and gives the same ids", async () => {
  await using gpu = await openTestGpu();
  const fileSystem = memoryFileSystem(),
    model = await loadModel(gpu, SOTU),
    files = await companionFiles(SOTU);
  await saveGguf(gpu, model, { path: "x.gguf", type: "q8_0", files, fileSystem });
  const [before, after] = [await loadTokenizer(SOTU), await loadTokenizer("x.gguf", { fileSystem })];
  for (const text of TEXTS) assertEquals(after.encode(text), before.encode(text), text);
  const facts = ({ encode: _, decode: __, ...rest }: Tokenizer) => rest;
  assertEquals(facts(after), facts(before));
});

Deno.test("saveGguf refuses a tokenizer that llama.cpp does not have", async () => {
  await using gpu = await openTestGpu();
  const fileSystem = memoryFileSystem(), model = await loadModel(gpu, SOTU);
  const files = new Map(await companionFiles(SOTU));
  const json = JSON.parse(new TextDecoder().decode(files.get("tokenizer.json")));
  const refuse = async (change: Record<string, unknown>, seen: string) => {
    files.set("tokenizer.json", new TextEncoder().encode(JSON.stringify({ ...json, ...change })));
    await assertRejects(() => saveGguf(gpu, model, { path: "x.gguf", files, fileSystem }), DataError, seen);
  };
  await refuse({ pre_tokenizer: { type: "Whitespace" } }, "smollm, gpt-2");
  await refuse({ normalizer: { type: "Lowercase" } }, "smollm, gpt-2");
  await refuse({ model: { ...json.model, ignore_merges: true } }, "smollm, gpt-2");
});

Deno.test("a SentencePiece tokenizer goes through a GGUF file and gives the same ids; merges without scores are refused", async () => {
  await using gpu = await openTestGpu();
  const space = "\u2581",
    tokens = ["<unk>", "<s>", "</s>", space, "a", "b", "c", "bc", "ab", `${space}a`, "abc"];
  const merges = [["b", "c"], ["a", "b"], [space, "a"], ["a", "bc"], ["ab", "c"]];
  const added = tokens.slice(0, 3).map((content, id) => ({ id, content, special: true, normalized: false }));
  const tokenizer = {
    added_tokens: added,
    normalizer: {
      type: "Sequence",
      normalizers: [{ type: "Prepend", prepend: space }, {
        type: "Replace",
        pattern: { String: " " },
        content: space,
      }],
    },
    pre_tokenizer: null,
    post_processor: null,
    decoder: {
      type: "Sequence",
      decoders: [{ type: "Replace", pattern: { String: space }, content: " " }, { type: "Fuse" }],
    },
    model: {
      type: "BPE",
      unk_token: "<unk>",
      fuse_unk: true,
      byte_fallback: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges,
    },
  };
  const settings = { bos_token: "<s>", eos_token: "</s>", add_bos_token: true };
  const filesOf = (json: unknown) =>
    new Map([["tokenizer.json", JSON.stringify(json)], ["tokenizer_config.json", JSON.stringify(settings)]]);
  const model = await newModel(gpu, { source: { ...LLAMA, vocab_size: tokens.length }, seed: 1 });
  const fileSystem = memoryFileSystem(
    Object.fromEntries([...filesOf(tokenizer)].map(([k, v]) => [`m/${k}`, v])),
  );
  await saveGguf(gpu, model, { path: "x.gguf", files: filesOf(tokenizer), fileSystem });
  const [before, after] = [
    await loadTokenizer("m", { fileSystem }),
    await loadTokenizer("x.gguf", { fileSystem }),
  ];
  for (const text of ["abc", "cabc ab", "bca a", "x</s>"]) {
    assertEquals(after.encode(text), before.encode(text), text);
  }
  assertEquals([after.before, after.bos, after.eos], [[1], 1, 2]);
  const other = { ...tokenizer, model: { ...tokenizer.model, merges: merges.slice(0, 4) } };
  const save = () => saveGguf(gpu, model, { path: "x.gguf", files: filesOf(other), fileSystem });
  await assertRejects(save, DataError, "SentencePiece");
});

Deno.test("a LoRA adapter goes into a GGUF file: alpha, both halves, rows of queries and keys in the order of llama.cpp", async () => {
  await using gpu = await openTestGpu();
  const fileSystem = memoryFileSystem(), folder = `${FIXTURES}/llama/adapter`;
  const base = await loadModel(gpu, `${FIXTURES}/llama`), model = await loadAdapter(gpu, base, folder);
  await saveGgufAdapter(gpu, model, { path: "a.gguf", fileSystem });
  await using file = await openGguf("a.gguf", { fileSystem });
  await using source = await openSafetensors(`${folder}/adapter_model.safetensors`);
  const { metadata } = file;
  assertEquals(
    ["general.architecture", "general.type", "adapter.type", "adapter.lora.alpha"].map((key) =>
      metadata[key]
    ),
    ["llama", "adapter", "lora", 8],
  );
  assertEquals(file.names.length, source.names.length);
  const layer = "base_model.model.model.layers.1", rank = 4, dim = 8;
  const pairs = [["blk.1.ffn_down", "mlp.down_proj"], ["blk.1.attn_v", "self_attn.v_proj"], [
    "blk.1.attn_k",
    "self_attn.k_proj",
  ], ["blk.1.attn_q", "self_attn.q_proj"]];
  for (const [gguf, name] of pairs) {
    const [a, b] = [
      await source.readF32(`${layer}.${name}.lora_A.weight`),
      await source.readF32(`${layer}.${name}.lora_B.weight`),
    ];
    assertEquals(await file.readF32(`${gguf}.weight.lora_a`), a, gguf);
    const rows = Array.from(
      { length: b.length / rank },
      (_, row) => b.subarray(row * rank, (row + 1) * rank),
    );
    const halves = rows.map((_, row) => {
      const head = row - row % dim, at = row % dim;
      return rows[head + (at % 2) * dim / 2 + Math.floor(at / 2)];
    });
    const ordered = /attn_[qk]$/.test(gguf) ? halves : rows;
    assertEquals([...await file.readF32(`${gguf}.weight.lora_b`)], ordered.flatMap((row) => [...row]), gguf);
  }
});

Deno.test("saveGgufAdapter gives pairs of other factors the same product, and refuses what is no pair", async () => {
  await using gpu = await openTestGpu();
  const fileSystem = memoryFileSystem(), base = await newModel(gpu, { source: LLAMA, seed: 1 });
  const save = (model: Model) => saveGgufAdapter(gpu, model, { path: "a.gguf", fileSystem });
  const some = {
    rank: 4,
    alpha: 8,
    rankPattern: { v_proj: 2 },
    rslora: true,
    init: false,
    targets: ["q_proj", "v_proj"],
  };
  const model = await newAdapter(gpu, base, some);
  await save(model);
  await using file = await openGguf("a.gguf", { fileSystem });
  const alpha = file.metadata["adapter.lora.alpha"] as number;
  const leaves = flatten(model.params), layer = "model.layers.0.self_attn.v_proj";
  const [b] = await readAll(gpu, [leaves.get(`${layer}.lora_B.weight`)!]);
  const stored = await file.readF32("blk.0.attn_v.weight.lora_b");
  // alpha / sqrt(2) here, and llama.cpp multiplies by alpha / 2.
  for (const [i, value] of stored.entries()) {
    assert(Math.abs(value * alpha / 2 - b[i] * 8 / Math.sqrt(2)) < 1e-5);
  }
  assert(stored.some((value) => value !== 0));
  await assertRejects(() => save(base), InputError, "saveGguf");
  const dora = await newAdapter(gpu, base, { rank: 2, dora: true });
  await assertRejects(() => save(dora), InputError, "magnitude");
  const head = await newAdapter(gpu, base, { rank: 2, modulesToSave: ["lm_head"] });
  await assertRejects(() => save(head), InputError, "lm_head");
});

Deno.test("an adapter of PiSSA goes into a GGUF file as plain pairs, which fit the unchanged base", async () => {
  await using gpu = await openTestGpu();
  const fileSystem = memoryFileSystem(), base = await newModel(gpu, { source: LLAMA, seed: 1 });
  const model = await newAdapter(gpu, base, { rank: 2, init: "pissa", targets: ["q_proj", "down_proj"] });
  await saveAdapter(gpu, model, { folder: "plain", plain: true, fileSystem });
  const written = async (subject: Model): Promise<Uint8Array> => {
    await saveGgufAdapter(gpu, subject, { path: "x.gguf", fileSystem });
    return await fileSystem.read("x.gguf");
  };
  assertEquals(await written(model), await written(await loadAdapter(gpu, base, "plain", { fileSystem })));
});
