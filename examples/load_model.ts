/**
 * Loading a model, with a line that shows how far it is.
 *
 * @module
 */

import type { Gpu, Model } from "@firn/train";
import { hostFileSystem } from "@firn/train/data";
import { loadModel, type LoadOptions } from "@firn/train/hub";
import { byteStage, megabytes } from "./progress.ts";

/** How a model is loaded. */
export type LoadShownOptions = Pick<LoadOptions, "storage" | "architecture" | "labels" | "seed">;

/**
 * Loads a model.
 *
 * @param gpu The device
 * @param folder Its folder
 * @param options How the device stores it
 * @returns The model
 */
export async function loadShown(
  gpu: Gpu,
  folder: string,
  options: LoadShownOptions = {},
): Promise<Model> {
  const bytes = await weightBytes(folder);
  return await byteStage(
    `loading     ${folder}${bytes === 0 ? "" : `, ${megabytes(bytes)}`}`,
    (onProgress) => loadModel(gpu, folder, { ...options, onProgress }),
  );
}

/** What the weights of a model take; 0 where there is none, which is refused when it is loaded. */
async function weightBytes(folder: string): Promise<number> {
  const files = hostFileSystem();
  const there = await files.stat(folder);
  if (there?.kind !== "folder") return there?.size ?? 0;
  const weights = (await files.list(folder)).filter(({ name }) => /\.(safetensors|gguf)$/.test(name));
  const infos = await Promise.all(weights.map(({ name }) => files.stat(`${folder}/${name}`)));
  return infos.reduce((sum, info) => sum + (info?.size ?? 0), 0);
}
