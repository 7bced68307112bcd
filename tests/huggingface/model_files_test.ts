import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { AlreadyExistsError, DataError, InputError, NotFoundError } from "@firn/train";
import {
  adamW,
  defineTraining,
  flatten,
  type HostData,
  logits,
  type Model,
  nextTokenLoss,
  type Path,
} from "@firn/train";
import { fromBf16, fromF16, openSafetensors, toBf16, toF16 } from "@firn/train/data";
import { loadModel, newModel, saveModel } from "@firn/train/hub";
import { type TensorToStore, writeSafetensors } from "../../core/data/safetensors_write.ts";
import { bits, llamaSource, tokenBatch, valuesOf } from "../train/tiny.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

/** Keys of a block, as `LlamaForCausalLM` of transformers names them. */
const BLOCK = [
  "input_layernorm",
  "mlp.down_proj",
  "mlp.gate_proj",
  "mlp.up_proj",
  "post_attention_layernorm",
  "self_attn.k_proj",
  "self_attn.o_proj",
  "self_attn.q_proj",
  "self_attn.v_proj",
].map((name) => `model.layers.0.${name}.weight`);

function model(tied: boolean): Promise<Model> {
  return newModel(gpu, { source: llamaSource({ layers: 1, tied }), seed: 5 });
}

Deno.test("loadModel tells how to bring a name of the hub here, and to check any other path", async () => {
  for (const [folder, mend] of [["org/no-model", "bring it here with "], ["./no-model", "check the path"]]) {
    await assertRejects(() => loadModel(gpu, folder), NotFoundError, `there is none; ${mend}`);
  }
});

/** Runs a body with the path of a folder that does not exist yet, and deletes it afterwards. */
async function withFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const parent = await Deno.makeTempDir();
  try {
    await body(`${parent}/model`);
  } finally {
    await Deno.remove(parent, { recursive: true });
  }
}

for (const tied of [false, true]) {
  const kind = tied ? "tied" : "untied";

  for (
    const [dtype, stored, round] of [
      ["float32", "F32", (x: Float32Array) => x],
      ["bfloat16", "BF16", (x: Float32Array) => fromBf16(toBf16(x))],
      ["float16", "F16", (x: Float32Array) => fromF16(toF16(x))],
    ] as const
  ) {
    Deno.test(`loadModel gives back what saveModel stored as ${dtype}, ${kind}`, async () => {
      await withFolder(async (folder) => {
        const saved = await model(tied);
        await saveModel(gpu, saved, { folder, dtype });
        const loaded = await loadModel(gpu, folder);
        const expected = await valuesOf(gpu, saved.params), seen = await valuesOf(gpu, loaded.params);
        assertEquals([...seen.keys()].toSorted(), [...expected.keys()].toSorted());
        for (const [path, values] of seen) {
          assertEquals(bits(values), bits(round(expected.get(path) as Float32Array)), path);
        }
        await using file = await openSafetensors(`${folder}/model.safetensors`);
        assertEquals(new Set([...file.specs.values()].map((spec) => spec.dtype)), new Set([stored]));
        // Without the option, config.json names the type.
        await saveModel(gpu, loaded, { folder: `${folder}2` });
        const [first, second] = await Promise.all(
          [folder, `${folder}2`].map((f) => Deno.readFile(`${f}/model.safetensors`)),
        );
        assertEquals(first, second);
      });
    });
  }

  Deno.test(`saveModel writes what transformers expects, ${kind}`, async () => {
    await withFolder(async (folder) => {
      const saved = await model(tied);
      await saveModel(gpu, {
        ...saved,
        source: { ...saved.source, torch_dtype: "bfloat16", eos_token_id: 2 },
      }, { folder });
      await using file = await openSafetensors(`${folder}/model.safetensors`);
      const keys = [
        "model.embed_tokens.weight",
        "model.norm.weight",
        ...BLOCK,
        ...tied ? [] : ["lm_head.weight"],
      ];
      assertEquals([...file.names].toSorted(), keys.toSorted());
      assertEquals(file.metadata, { format: "pt" });
      const { architectures, model_type, dtype, torch_dtype, tie_word_embeddings, eos_token_id, ...rest } =
        JSON.parse(
          await Deno.readTextFile(`${folder}/config.json`),
        );
      assertEquals([architectures, model_type, dtype], [["LlamaForCausalLM"], "llama", undefined]);
      assertEquals([torch_dtype, tie_word_embeddings, eos_token_id, rest.vocab_size], [
        "bfloat16",
        tied,
        2,
        64,
      ]);
    });
  });
}

Deno.test("saveModel replaces an older model and its other files", async () => {
  await withFolder(async (folder) => {
    const files = new Map([["tokenizer.json", "{}"]]);
    await saveModel(gpu, await model(false), { folder, files });
    await saveModel(gpu, await model(true), { folder, files });
    assertEquals((await names(folder)).toSorted(), ["config.json", "model.safetensors", "tokenizer.json"]);
    assertEquals(
      [...flatten((await loadModel(gpu, folder)).params).keys()].includes("lm_head.weight"),
      false,
    );
  });
});

Deno.test("saveModel refuses a folder in which something would be lost, and leaves it as it is", async () => {
  await withFolder(async (folder) => {
    await Deno.mkdir(folder);
    await Deno.writeTextFile(`${folder}/thesis.txt`, "six years");
    const saved = await model(true);
    const message = `Cannot replace "${folder}" as it holds "thesis.txt", which would be lost`;
    await assertRejects(() => saveModel(gpu, saved, { folder }), AlreadyExistsError, message);
    assertEquals(await names(folder), ["thesis.txt"]);
    assertEquals(await names(`${folder}/..`), ["model"]);
  });
});

async function names(folder: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name);
}

/** Saves a one-layer model with altered tensors, and loads it. */
async function loadAltered(
  folder: string,
  alter: (tensors: Map<Path, TensorToStore>) => void,
  tied = false,
): Promise<Model> {
  await saveModel(gpu, await model(tied), { folder });
  const file = `${folder}/model.safetensors`;
  const tensors = new Map<Path, TensorToStore>();
  {
    await using old = await openSafetensors(file);
    for (const name of old.names) {
      const { shape } = old.specs.get(name)!;
      tensors.set(name, { name, dtype: "F32", shape, data: await old.readF32(name) });
    }
  }
  alter(tensors);
  await writeSafetensors(file, tensors.values());
  return await loadModel(gpu, folder);
}

const UP = "model.layers.0.mlp.up_proj.weight";

Deno.test("loadModel names a tensor that is missing, the file and the mend", async () => {
  await withFolder(async (folder) => {
    await assertRejects(
      () => loadAltered(folder, (tensors) => tensors.delete(UP)),
      DataError,
      `Cannot load "${UP}" of "${folder}/model.safetensors" as "${folder}/config.json" describes a llama that needs it: ` +
        "it is missing; check that both belong together",
    );
  });
});

Deno.test("loadModel names a tensor that is one too many, the file and the mend", async () => {
  await withFolder(async (folder) => {
    const name = "model.layers.1.mlp.up_proj.weight";
    await assertRejects(
      () => loadAltered(folder, (tensors) => tensors.set(name, { ...tensors.get(UP)!, name })),
      DataError,
      `Cannot load "${name}" of "${folder}/model.safetensors" as "${folder}/config.json" describes a llama without it: ` +
        "check that both belong together",
    );
  });
});

Deno.test("loadModel names a tensor of another shape, though it has as many elements", async () => {
  await withFolder(async (folder) => {
    await assertRejects(
      () => loadAltered(folder, (tensors) => tensors.set(UP, { ...tensors.get(UP)!, shape: [32, 64] })),
      DataError,
      `Cannot load "${UP}" of "${folder}/model.safetensors" as "${folder}/config.json" gives it the shape [64, 32]: it has [32, 64]`,
    );
  });
});

Deno.test("loadModel takes a head that repeats the embedding it is tied to, and stored rotary tables", async () => {
  await withFolder(async (folder) => {
    const loaded = await loadAltered(folder, (tensors) => {
      const embedding = tensors.get("model.embed_tokens.weight")!;
      tensors.set("lm_head.weight", { ...embedding, name: "lm_head.weight" });
      const name = "model.layers.0.self_attn.rotary_emb.inv_freq";
      tensors.set(name, { name, dtype: "F32", shape: [4], data: new Float32Array(4) });
    }, true);
    assertEquals([...flatten(loaded.params).keys()].includes("lm_head.weight"), false);
  });
});

Deno.test("loadModel names the folder or file that is not there", async () => {
  await withFolder(async (folder) => {
    await assertRejects(() => loadModel(gpu, folder), NotFoundError, `Cannot load "${folder}"`);
    await Deno.mkdir(folder);
    await Deno.writeTextFile(`${folder}/config.json`, JSON.stringify(llamaSource({ layers: 1, tied: true })));
    await assertRejects(() => loadModel(gpu, folder), NotFoundError, `Cannot open "${folder}"`);
  });
});

Deno.test("newModel gives one seed the same bits and another seed others", async () => {
  const weights = async (seed: number): Promise<Map<Path, HostData>> =>
    await valuesOf(
      gpu,
      (await newModel(gpu, { source: llamaSource({ layers: 1, tied: true }), seed })).params,
    );
  const first = await weights(1), again = await weights(1), other = await weights(2);
  assertEquals(first, again);
  assert(first.get(UP)!.some((x, i) => x !== other.get(UP)![i]));
  assertEquals(new Set(first.get("model.norm.weight")), new Set([1]));
  const matrix = first.get(UP) as Float32Array;
  const deviation = Math.sqrt(matrix.reduce((sum, x) => sum + x * x, 0) / matrix.length);
  // Four standard errors of the deviation of 2048 draws.
  assert(Math.abs(deviation - 0.02) < 4 * 0.02 / 64, `deviation ${deviation}`);
});

Deno.test("logits and next refuse sequences above max_position_embeddings", async () => {
  const long = await model(true), { inputIds, labels } = tokenBatch([1, 17]);
  const message = 'Cannot run "llama" on 17 tokens as it takes at most 16: use shorter sequences';
  assertThrows(() => logits(long, inputIds), InputError, message);
  const training = defineTraining(gpu, nextTokenLoss(long), {
    optimizer: adamW({ learningRate: 0.01 }),
    steps: 2,
  });
  const state = await training.init(long.params);
  await assertRejects(() => training.next(state, { inputIds, labels }), InputError, message);
  assertEquals(logits(long, tokenBatch([1, 16]).inputIds).shape, [1, 16, 64]);
});
