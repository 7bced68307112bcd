import { assertEquals, assertRejects } from "@std/assert";
import { InputError, NotFoundError } from "@firn/train";
import { flatten, type Model, readAll } from "@firn/train";
import { openSafetensors } from "@firn/train/data";
import { loadAdapter, loadModel, saveAdapter, saveModel } from "@firn/train/hub";
import { type TensorToStore, writeSafetensors } from "../../core/data/safetensors_write.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const FIXTURE = `${import.meta.dirname}/../fixtures/llama`;
const PREFIX = "base_model.model.model.layers.0.self_attn.q_proj";
const model = await loadModel(gpu, FIXTURE);

interface Alterations {
  readonly config?: Readonly<Record<string, unknown>>;
  readonly tensors?: (tensors: Map<string, TensorToStore>) => void;
}

/** Loads an altered copy of the fixture's adapter. */
async function loadAltered({ config, tensors: alter }: Alterations, folder: string): Promise<Model> {
  const json = JSON.parse(await Deno.readTextFile(`${FIXTURE}/adapter/adapter_config.json`));
  await Deno.writeTextFile(`${folder}/adapter_config.json`, JSON.stringify({ ...json, ...config }));
  const tensors = new Map<string, TensorToStore>();
  await using file = await openSafetensors(`${FIXTURE}/adapter/adapter_model.safetensors`);
  for (const name of file.names) {
    const { shape } = file.specs.get(name)!;
    tensors.set(name, { name, dtype: "F32", shape, data: await file.readF32(name) });
  }
  alter?.(tensors);
  await writeSafetensors(`${folder}/adapter_model.safetensors`, tensors.values());
  return await loadAdapter(gpu, model, folder);
}

Deno.test("loadAdapter trains the pairs of the adapter and nothing else", async () => {
  const adapted = await loadAdapter(gpu, model, `${FIXTURE}/adapter`);
  assertEquals([...adapted.adapter!.layers.values()], Array(2 * 7).fill({ scale: 8 / 4 }));
  const trained = [...flatten(adapted.params).keys()].filter(adapted.trainable!);
  // Two layers with seven projections, each with a pair.
  assertEquals(trained.length, 2 * 7 * 2);
  assertEquals(trained.every((path) => /\.lora_[AB]\.weight$/.test(path)), true);
  assertEquals(flatten(adapted.params).size, flatten(model.params).size + trained.length);
});

const rename = (from: string, to: string) => (tensors: Map<string, TensorToStore>): void => {
  tensors.set(to, { ...tensors.get(from)!, name: to });
  tensors.delete(from);
};

const REFUSED: readonly (readonly [string, Alterations, (folder: string) => string])[] = [
  [
    "another kind of adapter",
    { config: { peft_type: "IA3" } },
    (f) => `Cannot read "peft_type" of "${f}/adapter_config.json" as it must be "LORA": "IA3"`,
  ],
  [
    "an adapter of tokens",
    { config: { trainable_token_indices: [1] } },
    (f) =>
      `Cannot read "trainable_token_indices" of "${f}/adapter_config.json" as adapters of that kind are not supported: [1]`,
  ],
  [
    "DoRA without magnitudes",
    { config: { use_dora: true } },
    (f) =>
      `Cannot load "${f}/adapter_model.safetensors" as pairs must be whole: "model.layers.0.mlp.down_proj.lora_magnitude_vector" is missing`,
  ],
  [
    "ranks by module that are not those of the pairs",
    { config: { rank_pattern: { "layers\\.0.*q_proj": 2 } } },
    () => `Cannot load "${PREFIX}.lora_A.weight"`,
  ],
  [
    "an expression that takes for ever",
    { config: { alpha_pattern: { "(?:(?:.*)*)*x": 2 } } },
    () => 'Cannot match by the expression "(?:.*\\\\.)?(?:(?:(?:.*)*)*x)" as a match may take 100000 steps',
  ],
  [
    "pairs of modules that its configuration does not adapt",
    { config: { target_modules: ["v_proj"] } },
    (f) => `of "${f}/adapter_model.safetensors" as "${f}/adapter_config.json" adapts other modules: it has [`,
  ],
  [
    "a missing alpha",
    { config: { lora_alpha: undefined } },
    (f) =>
      `Cannot read "lora_alpha" of "${f}/adapter_config.json" as it must be a positive number: it is missing`,
  ],
  [
    "a broken rank",
    { config: { r: 2.5 } },
    (f) => `Cannot read "r" of "${f}/adapter_config.json" as it must be a whole number above 0: 2.5`,
  ],
  [
    "a rank that is not that of the pairs",
    { config: { r: 2 } },
    (f) =>
      `of "${f}/adapter_model.safetensors" as model and "r" of "${f}/adapter_config.json" give it the shape [`,
  ],
  [
    "half a pair",
    { tensors: (tensors) => tensors.delete(`${PREFIX}.lora_B.weight`) },
    (f) =>
      `Cannot load "${f}/adapter_model.safetensors" as pairs must be whole: "model.layers.0.self_attn.q_proj.lora_B.weight" is missing`,
  ],
  [
    "a pair of a module that the model has not",
    {
      tensors: rename(
        `${PREFIX}.lora_A.weight`,
        "base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight",
      ),
    },
    () => 'Cannot load "base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight"',
  ],
  [
    "a tensor that is no pair",
    { tensors: rename(`${PREFIX}.lora_A.weight`, "base_model.model.lm_head.gain") },
    (f) =>
      `Cannot load "base_model.model.lm_head.gain" of "${f}/adapter_model.safetensors" as it must belong to a module of the model that takes it`,
  ],
  [
    "a pair of another width",
    {
      tensors: (tensors) => {
        const name = `${PREFIX}.lora_A.weight`;
        tensors.set(name, { ...tensors.get(name)!, shape: [4, 16], data: new Float32Array(64) });
      },
    },
    (f) =>
      `Cannot load "${PREFIX}.lora_A.weight" of "${f}/adapter_model.safetensors" as model and "r" of "${f}/adapter_config.json" give it the shape [4, 32]: it has [4, 16]`,
  ],
];

for (const [what, alterations, message] of REFUSED) {
  Deno.test(`loadAdapter refuses ${what}, and keeps no memory`, async () => {
    const folder = await Deno.makeTempDir(), before = gpu.counts.bytes;
    try {
      await assertRejects(() => loadAltered(alterations, folder), Error, message(folder));
      assertEquals(gpu.counts.bytes, before);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
}

Deno.test("loadAdapter names the file that is not there", async () => {
  await assertRejects(
    () => loadAdapter(gpu, model, "nowhere"),
    NotFoundError,
    '"nowhere"',
  );
});

Deno.test("saveModel refuses LoRA pairs, as a model folder has no place for them", async () => {
  const adapted = await loadAdapter(gpu, model, `${FIXTURE}/adapter`);
  await assertRejects(
    () => saveModel(gpu, adapted, { folder: "never written" }),
    InputError,
    'to "never written" as a model folder has no LoRA pairs',
  );
});

Deno.test("saveAdapter writes what loadAdapter reads, to the bit", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const adapted = await loadAdapter(gpu, model, `${FIXTURE}/adapter`);
    await saveAdapter(gpu, adapted, { folder: `${folder}/adapter` });
    const again = await loadAdapter(gpu, model, `${folder}/adapter`);
    assertEquals(again.adapter!.layers, adapted.adapter!.layers);
    const values = async ({ params }: Model) =>
      await readAll(gpu, [...flatten(params)].toSorted(([a], [b]) => a < b ? -1 : 1).map(([, t]) => t));
    assertEquals(await values(again), await values(adapted));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("saveAdapter refuses a model without pairs", async () => {
  await assertRejects(() => saveAdapter(gpu, model, { folder: "none" }), InputError, "use saveModel");
});
