/**
 * Model folders: configuration, weights, shards, and the files that only go along.
 *
 * @module
 */

import { evaluate, type Gpu, type Model, nextTokenLoss, tensor } from "@firn/train";
import { generate } from "@firn/train/infer";
import { loadTokenizer, memoryFileSystem, writeSafetensors } from "@firn/train/data";
import { companionFiles, loadModel, saveModel } from "@firn/train/hub";
import { mutateBytes } from "../mutate_bytes.ts";
import { mutateJsonFile } from "../mutate_json.ts";
import { mutateBody, mutateHeader } from "../mutate_safetensors.ts";
import { CONFIG, makeModel, weights } from "../small_model.ts";
import { useTokenizer } from "./tokenizer.ts";
import { type Context, demand, type Format } from "./types.ts";

/** Computes scores and goes on with a text, as users do: numbers that are none must not come out. */
export async function useModel(context: Context, model: Model): Promise<void> {
  const gpu = await context.gpu(), ids = tensor(new Int32Array([1, 2, 3, 0]), [1, 4]);
  const batches = [{ inputIds: ids, labels: ids }], size = model.source.vocab_size as number;
  const { loss } = await evaluate(gpu, { loss: nextTokenLoss(model), params: model.params, batches });
  demand(Number.isFinite(loss), `the loss ${loss}`);
  for await (const id of generate(gpu, model, { prompt: [1, 2], maxTokens: 2 })) {
    demand(Number.isSafeInteger(id) && id >= 0 && id < size, `token ${id}`);
  }
}

/** Keys whose meaning the scores do not show; an absent key has a default. */
const CHECKED: Readonly<Record<string, (value: unknown) => boolean>> = {
  bos_token_id: areTokens,
  eos_token_id: areTokens,
  tie_word_embeddings: (value) => typeof value === "boolean",
  rope_theta: (value) => typeof value === "number" && Number.isFinite(value),
  rms_norm_eps: (value) => typeof value === "number" && value > 0 && Number.isFinite(value),
  max_position_embeddings: (value) => Number.isSafeInteger(value) && (value as number) > 0,
  model_type: (value) => typeof value === "string",
};

function areTokens(value: unknown): boolean {
  return [value].flat().every(isToken);
}

function isToken(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0 &&
    (value as number) < (CONFIG.vocab_size as number);
}

async function load(context: Context): Promise<void> {
  const { folder } = context, gpu = await context.gpu();
  const model = await loadModel(gpu, folder);
  await useModel(context, model);
  useTokenizer(await loadTokenizer(folder, { model }), CONFIG.vocab_size as number);
  const config: Record<string, unknown> = JSON.parse(await Deno.readTextFile(`${folder}/config.json`));
  for (const [key, holds] of Object.entries(CHECKED)) {
    const value = Object.hasOwn(config, key) ? config[key] : null;
    demand(value === null || holds(value), `${key} ${JSON.stringify(value)?.slice(0, 60)}`);
  }
  await checkSaved(gpu, model, await companionFiles(folder));
}

/** Saves a model: what Firn has loaded comes out whole. */
export async function checkSaved(
  gpu: Gpu,
  model: Model,
  files: ReadonlyMap<string, Uint8Array>,
): Promise<void> {
  const fileSystem = memoryFileSystem({ "a/b": "" }), folder = "a/model";
  await saveModel(gpu, model, { folder, files, fileSystem });
  for (const [name, bytes] of files) {
    demand((await fileSystem.read(`${folder}/${name}`)).toHex() === bytes.toHex(), `another ${name}`);
  }
  await loadModel(gpu, folder, { fileSystem }).catch((error) =>
    demand(false, `saved, it does not load: ${error}`)
  );
}

const make = ({ folder }: Context): Promise<void> => makeModel(folder);

const SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];

async function makeShards({ folder }: Context): Promise<void> {
  await makeModel(folder);
  await Deno.remove(`${folder}/model.safetensors`);
  const all = weights(), parts = [all.slice(0, 6), all.slice(6)];
  for (const [i, part] of parts.entries()) await writeSafetensors(`${folder}/${SHARDS[i]}`, part);
  const weight_map = Object.fromEntries(
    parts.flatMap((part, i) => part.map(({ name }) => [name, SHARDS[i]])),
  );
  const index = { metadata: { total_size: 11_000 }, weight_map };
  await Deno.writeTextFile(`${folder}/model.safetensors.index.json`, JSON.stringify(index));
}

const json = (name: string, count: number): Format => ({
  name,
  count,
  file: name,
  make,
  mutate: mutateJsonFile,
  load,
});

/** The formats of a model folder. */
export const model: readonly Format[] = [
  json("config.json", 150),
  json("generation_config.json", 40),
  { ...json("chat_template.jinja", 20), mutate: mutateBytes },
  {
    ...json("model.safetensors", 80),
    mutate: (bytes, draw) => draw(2) === 0 ? mutateHeader(bytes, draw) : mutateBody(bytes, draw),
  },
  { ...json("shards' index", 80), file: "model.safetensors.index.json", make: makeShards },
];
