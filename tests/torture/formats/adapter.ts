/**
 * Adapter folders.
 *
 * @module
 */

import { memoryFileSystem } from "@firn/train/data";
import { loadAdapter, loadModel, saveAdapter } from "@firn/train/hub";
import { mutateJsonFile } from "../mutate_json.ts";
import { mutateBody, mutateHeader } from "../mutate_safetensors.ts";
import { makeAdapter, makeModel } from "../small_model.ts";
import { useModel } from "./model.ts";
import { type Context, demand, type Format } from "./types.ts";

async function make({ folder }: Context): Promise<void> {
  await makeModel(`${folder}/base`);
  await makeAdapter(`${folder}/adapter`);
}

async function load(context: Context): Promise<void> {
  const { folder } = context, gpu = await context.gpu();
  const base = await loadModel(gpu, `${folder}/base`),
    adapted = await loadAdapter(gpu, base, `${folder}/adapter`);
  const scales = [...adapted.adapter!.layers.values()].map(({ scale }) => scale);
  demand(scales.every(Number.isFinite), `the factors ${scales}`);
  await useModel(context, adapted);
  const fileSystem = memoryFileSystem({ "a/b": "" });
  await saveAdapter(gpu, adapted, { folder: "a/adapter", fileSystem });
  const again = await loadAdapter(gpu, base, "a/adapter", { fileSystem });
  const saved = [...again.adapter!.layers.values()].map(({ scale }) => scale);
  demand(saved.join() === scales.join(), `saved with the factors ${scales}, loaded with ${saved}`);
}

/** The formats of an adapter folder. */
export const adapter: readonly Format[] = [
  {
    name: "adapter_config.json",
    count: 100,
    file: "adapter/adapter_config.json",
    make,
    mutate: mutateJsonFile,
    load,
  },
  {
    name: "adapter safetensors",
    count: 70,
    file: "adapter/adapter_model.safetensors",
    make,
    mutate: (bytes, draw) => draw(2) === 0 ? mutateHeader(bytes, draw) : mutateBody(bytes, draw),
    load,
  },
];
