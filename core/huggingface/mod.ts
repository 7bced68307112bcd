/**
 * Models and LoRA adapters in the folders of Hugging Face: load, save, merge.
 *
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu } from "@firn/train";
 * import { loadModel, saveModel } from "@firn/train/hub";
 *
 * await using gpu = await openGpu();
 * const model = await loadModel(gpu, "examples/models/sotu");
 * const parent = await Deno.makeTempDir();
 * await saveModel(gpu, model, { folder: `${parent}/copy`, dtype: "bfloat16" });
 * assertEquals((await loadModel(gpu, `${parent}/copy`)).config, model.config);
 * await Deno.remove(parent, { recursive: true });
 * ```
 *
 * {@link downloadModel} brings a model of a hub here, {@link pushFolder} uploads one:
 * `loadModel(gpu, await downloadModel("HuggingFaceTB/SmolLM2-135M"))`.
 *
 * @module
 */

export { companionFiles } from "./companions.ts";
export { downloadModel, isModelName, pinnedName } from "./download_model.ts";
export { downloadDataset } from "./download_dataset.ts";
export type { DownloadOptions } from "../hub/fetch_files.ts";
export { type Pushed, pushFolder, type PushOptions } from "./push_folder.ts";
export type { HubOptions } from "../hub/settings.ts";
export type { Environment } from "../host/environment.ts";
export { loadModel, type LoadOptions } from "./load.ts";
export { newModel, type NewModelOptions } from "./new_model.ts";
export type { Storage } from "./storage.ts";
export type { HeadOptions } from "./new_head.ts";
export { saveGgufAdapter, type SaveGgufAdapterOptions } from "./save_gguf_adapter.ts";
export { type GgufType, saveGguf, type SaveGgufOptions } from "./save_gguf.ts";
export { type SaveDType, saveModel, type SaveOptions } from "./save.ts";
export { loadAdapter, type LoadAdapterOptions, readAdapter } from "./read_adapter.ts";
export type { AdapterSeed } from "./adapter_layout.ts";
export type { Targets } from "./adapter_targets.ts";
export { newAdapter, type NewAdapterOptions } from "./new_adapter.ts";
export { saveAdapter, type SaveAdapterOptions } from "./save_adapter.ts";
export { mergeAdapter, type MergeOptions } from "./merge_adapter.ts";
export { resizeEmbeddings } from "./resize_embeddings.ts";
