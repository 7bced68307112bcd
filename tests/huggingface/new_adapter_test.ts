import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  adamW,
  defineTraining,
  flatten,
  type ImageInput,
  InputError,
  logits,
  type Model,
  nextTokenLoss,
  read,
  readAll,
  type SavedState,
  tensor,
} from "@firn/train";
import { loadCheckpoint, saveCheckpoint } from "@firn/train/checkpoint";
import { adapterOf, withAdapter, withoutAdapter } from "@firn/train/models";
import { loraPlus } from "@firn/train/optim";
import { memoryFileSystem } from "@firn/train/data";
import {
  loadAdapter,
  loadModel,
  mergeAdapter,
  newAdapter,
  type NewAdapterOptions,
  newModel,
  saveAdapter,
} from "@firn/train/hub";
import { principalPart } from "../../core/huggingface/principal_part.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const LLAMA = {
  ...{ model_type: "llama", hidden_size: 8, intermediate_size: 12, num_hidden_layers: 2, vocab_size: 10 },
  ...{ num_attention_heads: 2, max_position_embeddings: 16, tie_word_embeddings: true },
};
const GPT2 = {
  ...{ model_type: "gpt2", n_embd: 8, n_head: 2, n_layer: 2, vocab_size: 10, n_positions: 8 },
  ...{ n_inner: 12, initializer_range: 0.2 },
};
const llama = await newModel(gpu, { source: { ...LLAMA, initializer_range: 0.3 }, seed: 1 });
const gpt2 = await newModel(gpu, { source: GPT2, seed: 1 });
const ids = tensor(new Int32Array([1, 2, 3, 4, 5, 6]), [2, 3]);
const batch = { inputIds: ids, labels: ids };

const scores = async (model: Model): Promise<Float32Array> =>
  await read(gpu, logits(model, ids)) as Float32Array;
const most = (a: Float32Array, b: Float32Array): number => Math.max(...a.map((x, i) => Math.abs(x - b[i])));
const added = ({ params }: Model): string[] =>
  [...flatten(params).keys()].filter((path) => path.includes(".lora_"));

async function trained(model: Model, steps = 2): Promise<Model> {
  using training = defineTraining(gpu, nextTokenLoss(model), {
    optimizer: adamW({ learningRate: 0.05 }),
    steps,
  });
  let state = await training.init(model.params);
  while (!state.done) state = await training.next(state, batch);
  return { ...model, params: state.params };
}

const KINDS: readonly (readonly [string, Model, NewAdapterOptions])[] = [
  ["LoRA of all linear layers", llama, { rank: 2 }],
  ["rsLoRA with DoRA", llama, { rank: 2, rslora: true, dora: true, targets: ["q_proj", "down_proj"] }],
  ["DoRA of layers [in, out]", gpt2, { rank: 2, dora: true, targets: ["c_attn", "mlp.c_proj"], bias: "all" }],
  ["a table that is also the head", llama, { rank: 2, targets: ["embed_tokens", "v_proj"], dora: true }],
  ["tables of words and positions", gpt2, { rank: 2, targets: ["wte", "wpe", "c_fc"], bias: "lora_only" }],
  ["a head that is tied", llama, { rank: 2, targets: ["lm_head", "o_proj"] }],
  ["a copy of a tied head", llama, {
    rank: 2,
    targets: ["k_proj"],
    modulesToSave: ["lm_head", "model.norm"],
  }],
  ["a copy of the table", llama, { rank: 2, targets: ["k_proj"], modulesToSave: ["embed_tokens"] }],
  ["principal parts", llama, { rank: 3, targets: ["q_proj", "down_proj"], init: "pissa" }],
  ["principal parts of layers [in, out], with DoRA", gpt2, {
    rank: 2,
    init: "pissa",
    dora: true,
    rslora: true,
  }],
  ["ranks and alphas by pattern, in one layer", llama, {
    ...{ rank: 2, targets: ["q_proj", "v_proj"], layers: [1], layersPattern: "layers" },
    ...{ rankPattern: { "layers\\.1.*v_proj": 3 }, alphaPattern: { q_proj: 5 } },
  }],
];

for (const [kind, base, options] of KINDS) {
  Deno.test(`newAdapter, training, saveAdapter, loadAdapter and mergeAdapter agree: ${kind}`, async () => {
    const before = await scores(base), fresh = await newAdapter(gpu, base, { ...options, seed: 3 });
    assert(most(await scores(fresh), before) < 1e-5, "a new adapter changes no score");
    const model = await trained(fresh), after = await scores(model);
    assert(most(after, before) > 1e-2, "training changes scores");
    const fileSystem = memoryFileSystem();
    await saveAdapter(gpu, model, { folder: "a", fileSystem });
    const again = await loadAdapter(gpu, base, "a", { fileSystem });
    assertEquals(await scores(again), after);
    assertEquals([...again.adapter!.trained].toSorted(), [...model.adapter!.trained].toSorted());
    const merged = await mergeAdapter(gpu, model);
    assertEquals([added(merged), merged.adapter, merged.trainable], [[], undefined, undefined]);
    assert(most(await scores(merged), after) < 2e-5, `off by ${most(await scores(merged), after)}`);
    assertEquals(await scores(withoutAdapter(model)), before);
  });
}

Deno.test("withAdapter switches between adapters of one base, whose tensors it shares", async () => {
  const one = await trained(await newAdapter(gpu, llama, { rank: 2, targets: ["q_proj"], bias: "all" }));
  const two = await trained(
    await newAdapter(gpu, llama, { rank: 3, targets: ["v_proj"], modulesToSave: ["norm"] }),
  );
  const expected = [await scores(one), await scores(two)], bytes = gpu.counts.bytes;
  const back = withAdapter(withAdapter(one, adapterOf(two)), adapterOf(one));
  assertEquals(await scores(back), expected[0]);
  assertEquals(await scores(withAdapter(one, adapterOf(two))), expected[1]);
  assertEquals(gpu.counts.bytes, bytes);
  const own = flatten(llama.params), path = "model.layers.0.self_attn.k_proj.weight";
  assertEquals(flatten(withAdapter(one, adapterOf(two)).params).get(path), own.get(path));
});

Deno.test("an adapter of PiSSA is saved as plain pairs of twice the rank for the unchanged base", async () => {
  const options = {
    rank: 2,
    init: "pissa",
    // The weight of attn.c_proj is square: its shape does not tell which axis comes first.
    targets: ["c_attn", "attn.c_proj", "mlp.c_proj"],
    alphaPattern: { c_attn: 5 },
  } as const;
  const model = await trained(await newAdapter(gpu, gpt2, options)), fileSystem = memoryFileSystem();
  await saveAdapter(gpu, model, { folder: "plain", plain: true, fileSystem });
  const plain = await loadAdapter(gpu, gpt2, "plain", { fileSystem }), { source, replaced } = plain.adapter!;
  assertEquals([source.init_lora_weights, source.r, source.lora_alpha, replaced.size], [true, 4, 8, 0]);
  assertEquals(source.alpha_pattern, { c_attn: 10 });
  assert(most(await scores(plain), await scores(model)) < 1e-5);
});

Deno.test("newAdapter takes the largest singular values out of the base, also of a weight that is too large to decompose", async () => {
  const source = {
    ...LLAMA,
    hidden_size: 96,
    intermediate_size: 160,
    num_attention_heads: 4,
    initializer_range: 0.1,
  };
  const base = await newModel(gpu, { source, seed: 2 }), path = "model.layers.0.mlp.down_proj";
  const { params } = await newAdapter(gpu, base, {
    rank: 4,
    alpha: 6,
    init: "pissa",
    targets: ["0.mlp.down_proj"],
  });
  const leaves = flatten(params), names = ["lora_A.weight", "lora_B.weight", "weight"];
  const [a, b, rest, whole] = await readAll(gpu, [
    ...names.map((name) => leaves.get(`${path}.${name}`)!),
    flatten(base.params).get(`${path}.weight`)!,
  ]) as Float32Array[];
  const lengths = Array.from({ length: 4 }, (_, j) => {
    const row = a.subarray(160 * j, 160 * (j + 1)), column = b.filter((_, i) => i % 4 === j);
    return 1.5 * Math.hypot(...row) * Math.hypot(...column); // the singular value: A and B share its root
  });
  assertEquals(lengths, lengths.toSorted((x, y) => y - x));
  // What is left has lost the squares of those values, and no vector in it is longer than the next one.
  const squares = (values: Float32Array): number => values.reduce((sum, x) => sum + x * x, 0);
  const lost = lengths.reduce((sum, x) => sum + x * x, 0);
  assert(Math.abs(squares(whole) - squares(rest) - lost) < 1e-4 * squares(whole));
  const left = await principalPart(gpu, tensor(rest, [96, 160]), { rank: 1, layout: "outIn", path });
  assert(left.values[0] <= lengths[3] * (1 + 1e-6), `${left.values[0]} ${lengths[3]}`);
});

Deno.test("newAdapter starts as PEFT does: the first matrix uniform or normal, the second zero", async () => {
  const wide = await newModel(gpu, { source: { ...LLAMA, hidden_size: 256, intermediate_size: 8 }, seed: 1 });
  const halves = async (init: boolean | "gaussian"): Promise<Float32Array[]> => {
    const { params } = await newAdapter(gpu, wide, { rank: 8, targets: ["0.mlp.up_proj"], init });
    const at = "model.layers.0.mlp.up_proj.lora_", leaves = flatten(params);
    return await readAll(gpu, ["A", "B"].map((half) => leaves.get(`${at}${half}.weight`)!)) as Float32Array[];
  };
  const deviation = (values: Float32Array): number =>
    Math.sqrt(values.reduce((sum, x) => sum + x * x, 0) / values.length);
  const [a, b] = await halves(true), bound = 1 / Math.sqrt(256);
  assert(Math.max(...a) <= bound && Math.max(...a) > 0.99 * bound && Math.min(...a) < -0.99 * bound);
  assertEquals(b.every((x) => x === 0), true);
  const [normal, zero] = await halves("gaussian");
  assert(Math.abs(deviation(normal) * 8 - 1) < 0.05, `${deviation(normal)}`);
  assertEquals(zero, b);
  const [, random] = await halves(false);
  assert(Math.abs(Math.max(...random) * Math.sqrt(8) - 1) < 0.1);
});

Deno.test("newAdapter writes the names that it adapts, and all other fields of PEFT", async () => {
  const sourceOf = async (options: Partial<NewAdapterOptions>, base: Model = llama) =>
    (await newAdapter(gpu, base, { rank: 2, ...options })).adapter!.source;
  const linear = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
  assertEquals((await sourceOf({})).target_modules, linear);
  assertEquals((await sourceOf({ targets: ["*.mlp.*"] })).target_modules, linear.slice(4));
  assertEquals((await sourceOf({ targets: ["*1.mlp.up*"] })).target_modules, ["model.layers.1.mlp.up_proj"]);
  const top = await newAdapter(gpu, llama, { rank: 2, layers: 1 });
  assertEquals([top.adapter!.source.target_modules, top.adapter!.layers.size], [linear, 7]);
  const expression = "model\\.layers\\.(?!0)\\d+\\.mlp\\.(up|down)_proj";
  assertEquals((await sourceOf({ targets: expression })).target_modules, expression);
  assertEquals(added(await newAdapter(gpu, llama, { rank: 2, targets: expression })).length, 4);
  const { lora_alpha, fan_in_fan_out, task_type, use_dora, lora_dropout } = await sourceOf(
    { alpha: 3, dora: true, dropout: 0.25 },
    gpt2,
  );
  assertEquals([lora_alpha, fan_in_fan_out, task_type], [3, true, "CAUSAL_LM"]);
  assertEquals([use_dora, lora_dropout], [true, 0.25]);
  const bases = ["org/base@v1", "org/base", "./folder@x"].map(async (base) => {
    const { base_model_name_or_path: name, revision } = await sourceOf({ base });
    return [name, revision];
  });
  assertEquals(await Promise.all(bases), [["org/base", "v1"], ["org/base", null], ["./folder@x", null]]);
});

Deno.test("dropout of an adapter draws anew at each step, goes on when training resumes, and is off elsewhere", async () => {
  const model = await newAdapter(gpu, llama, {
    rank: 4,
    targets: ["q_proj", "up_proj"],
    dropout: 0.5,
    init: false,
    seed: 7,
  });
  const loss = nextTokenLoss(model),
    options = { optimizer: adamW({ learningRate: 0 }), steps: 4, lookEvery: 1 };
  const losses = async (subject: Model): Promise<number[]> => {
    using training = defineTraining(gpu, nextTokenLoss(subject), options);
    let state = await training.init(subject.params);
    const seen: number[] = [];
    while (!state.done) {
      state = await training.next(state, batch);
      seen.push(...state.look!.loss);
    }
    return seen;
  };
  const drawn = await losses(model);
  assertEquals(new Set(drawn).size, 4);
  assertEquals(await losses(model), drawn);
  assertEquals(new Set([...drawn, ...await losses(withoutDropout(model))]).size, 5);
  const other = await newAdapter(gpu, llama, {
    rank: 4,
    targets: ["q_proj", "up_proj"],
    dropout: 0.5,
    init: false,
    seed: 8,
  });
  const reseeded = { ...model, adapter: { ...model.adapter!, layers: other.adapter!.layers } };
  assert(loss.model !== nextTokenLoss(reseeded).model, "a resumed run must have the same seed");
  assert((await losses(reseeded))[0] !== drawn[0]);
  const [plain, same] = await readAll(gpu, [
    loss(model.params, batch),
    nextTokenLoss(withoutDropout(model))(model.params, batch),
  ]);
  assertEquals(plain, same);
});

Deno.test("training of an adapter with dropout goes on from a checkpoint to the bit", async () => {
  const fileSystem = memoryFileSystem({ "c/x": "" }), path = "c/checkpoint.safetensors";
  const make = (): Promise<Model> =>
    newAdapter(gpu, llama, { rank: 2, targets: ["v_proj", "up_proj"], dropout: 0.3, dora: true, seed: 5 });
  const end = async (from: SavedState | null, stopAt: number): Promise<Float32Array[]> => {
    const model = await make();
    using training = defineTraining(gpu, nextTokenLoss(model), {
      optimizer: loraPlus({ learningRate: 0.02, ratio: 4 }),
      steps: 4,
      lookEvery: 2,
    });
    let state = from === null ? await training.init(model.params) : await training.resume(from) as never;
    while (state.step < stopAt) state = await training.next(state, batch);
    if (stopAt < 4) await saveCheckpoint(gpu, state, { path, extra: null, fileSystem });
    const trained = [...flatten(state.params)].filter(([name]) => model.trainable!(name));
    return await readAll(gpu, trained.map(([, t]) => t)) as Float32Array[];
  };
  const whole = await end(null, 4);
  await end(null, 2);
  assertEquals(await end(await loadCheckpoint(path, { fileSystem }), 4), whole);
});

function withoutDropout(model: Model): Model {
  const layers = new Map([...model.adapter!.layers].map(([path, { scale }]) => [path, { scale }]));
  return { ...model, adapter: { ...model.adapter!, layers } };
}

Deno.test("adapters of every kind train over bases of few bits, and are merged into their values", async () => {
  const kinds: readonly NewAdapterOptions[] = [
    { rank: 2, dora: true, targets: ["0.mlp.up_proj", "embed_tokens"] },
    { rank: 2, init: "pissa", targets: ["0.mlp.up_proj"], modulesToSave: ["1.mlp.up_proj"] },
  ];
  for (const storage of ["int8", "nf4"] as const) {
    const base = await loadModel(gpu, "examples/models/sotu", { storage });
    for (const options of kinds) {
      const model = await trained(await newAdapter(gpu, base, options), 1), after = await scores(model);
      assert(most(await scores(await mergeAdapter(gpu, model)), after) < 1e-4, storage);
    }
  }
});

Deno.test("a pair, its magnitude and the bias of its layer are one component", async () => {
  const model = await newAdapter(gpu, gpt2, {
    rank: 2,
    dora: true,
    targets: ["0.mlp.c_fc", "wte"],
    bias: "lora_only",
  });
  using training = defineTraining(gpu, nextTokenLoss(model), {
    optimizer: adamW({ learningRate: 0.1 }),
    steps: 1,
  });
  await training.next(await training.init(model.params), batch);
  const [table, layer] = ["transformer.wte", "transformer.h.0.mlp.c_fc"];
  assertEquals(
    new Map(training.components().map(({ path, parameters }) => [path, parameters.toSorted()])),
    new Map([
      [
        layer,
        ["bias", "lora_A.weight", "lora_B.weight", "lora_magnitude_vector"].map((name) => `${layer}.${name}`),
      ],
      [table, ["embedding_A", "embedding_B", "magnitude_vector"].map((name) => `${table}.lora_${name}`)],
    ]),
  );
});

Deno.test("adapters of modules that transformers and its checkpoints name differently have both names as targets, and tensors under the first", async () => {
  const base = await loadModel<object, ImageInput>(gpu, `${import.meta.dirname}/../fixtures/vit`);
  const made = await newAdapter(gpu, base, {
    rank: 2,
    targets: ["q_proj", "*.value"],
    rankPattern: { v_proj: 3 },
    bias: "all",
  });
  assertEquals(made.adapter!.source.target_modules, ["query", "q_proj", "value", "v_proj"]);
  const fileSystem = memoryFileSystem();
  await saveAdapter(gpu, made, { folder: "a", fileSystem });
  const again = await loadAdapter(gpu, base, "a", { fileSystem });
  assertEquals([...again.adapter!.layers], [...made.adapter!.layers]);
  const written = [...again.adapter!.stored.keys()], at = "base_model.model.vit.layers.0";
  assert(written.every((name) => !name.includes(".encoder.layer.")), written.join(" "));
  for (
    const one of [
      "attention.q_proj.lora_A.weight",
      "attention.v_proj.base_layer.bias",
      "layernorm_before.bias",
    ]
  ) assert(written.includes(`${at}.${one}`), one);
});

Deno.test("newAdapter refuses targets and options that do not fit", async () => {
  const rows: readonly (readonly [Partial<NewAdapterOptions>, string])[] = [
    [{ rank: 0 }, '"rank" must be a whole number above 0: got 0'],
    [{ alpha: NaN }, '"alpha" must be a number above 0: got NaN'],
    [{ targets: ["query"] }, 'Cannot adapt "query" as the model must have it: it has embed_tokens, q_proj'],
    [{ targets: "nothing" }, '"targets" must match modules of the model: they match none of embed_tokens'],
    [{ targets: ["norm"] }, 'Cannot adapt "model.norm" as pairs are for linear layers and tables'],
    [
      { targets: "(" },
      'Cannot match by the expression "(" as brackets must be pairs: "(" at 0 is not closed',
    ],
    [{ targets: "(?:.*)*(?:.*)*(?:.*)*y" }, "a match may take 100000 steps"],
    [{ modulesToSave: ["pooler"] }, 'Cannot save "pooler" with the adapter'],
    [{ init: "loftq" as "gaussian" }, '"init" must be true, false, gaussian or pissa: got "loftq"'],
    [
      { init: "pissa", targets: ["lm_head"] },
      'Cannot adapt "lm_head" with PiSSA as its weight must be its own',
    ],
    [{ dropout: 1 }, "it must be a number from 0, below 1"],
    [{ seed: -1 }, '"seed" must be a whole number from 0'],
  ];
  for (const [options, message] of rows) {
    await assertRejects(() => newAdapter(gpu, llama, { rank: 2, ...options }), InputError, message);
  }
});

Deno.test("newAdapter frees what it made when a later module is refused", async () => {
  const sizes = { hidden_size: 12, num_attention_heads: 2, num_key_value_heads: 1, head_dim: 8 };
  const base = await newModel(gpu, { source: { ...LLAMA, ...sizes, model_type: "qwen3" }, seed: 1 });
  const before = gpu.counts.bytes,
    options = { rank: 10, init: "pissa", targets: ["q_proj", "k_proj"] } as const;
  await assertRejects(
    () => newAdapter(gpu, base, options),
    InputError,
    "has 8 singular values: asked for 10",
  );
  assertEquals(gpu.counts.bytes, before);
});
