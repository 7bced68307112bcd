/**
 * LoRA adapters of PEFT.
 *
 * @module
 */

import { DataError } from "../errors.ts";
import type { FileSystemOptions } from "../host/file_system.ts";
import { hostFileSystem } from "../host/host_file_system.ts";
import { replaceFolder } from "../host/replace_folder.ts";
import { readJson } from "../host/json_file.ts";
import { openSafetensors } from "../data/safetensors.ts";
import { writeSafetensors } from "../data/safetensors_write.ts";
import { checkAllocations, type Gpu } from "../runtime/device.ts";
import { readAll, upload } from "../runtime/record.ts";
import { configReader } from "../models/family.ts";
import type { Model } from "../models/model.ts";
import { sameShape, type Tensor } from "../tensor.ts";
import { flatten, type Path, unflatten } from "../tree.ts";

const PREFIX = "base_model.model.";

/**
 * Adds the LoRA pairs of a PEFT adapter to a model: the pairs are trained, all else is not. `lora_dropout` is not
 * applied, as when PEFT evaluates.
 *
 * Source: Hu et al., "LoRA", arXiv 2106.09685; the file layout is that of `peft`.
 *
 * @param gpu The device that will hold the pairs
 * @param model The model that the adapter was made for
 * @param folder Folder with `adapter_config.json` and `adapter_model.safetensors`
 * @param options The file system
 * @returns The model with the pairs in its parameters
 * @throws {TypeError} When the adapter is no plain LoRA
 * @throws {DataError} When a pair does not fit the model
 */
export async function loadAdapter<P extends object>(
  gpu: Gpu,
  model: Model<P>,
  folder: string,
  options: FileSystemOptions = {},
): Promise<Model<P>> {
  const file = `${folder}/adapter_config.json`;
  const json = await readJson(file, options);
  const config = configReader(json, file);
  const type = config.string("peft_type");
  if (type !== "LORA") throw config.error("peft_type", 'it must be "LORA"', type);
  for (const key of ["use_dora", "use_rslora", "use_qalora", "use_bdlora", "lora_bias", "fan_in_fan_out"]) {
    if (config.boolean(key, false)) throw config.error(key, "only plain LoRA is supported", true);
  }
  for (const key of ["rank_pattern", "alpha_pattern"]) {
    const pattern = config.record(key) ?? {};
    if (Object.keys(pattern).length > 0) throw config.error(key, "one rank serves all pairs", pattern);
  }
  const rank = config.count("r"), loraScale = config.number("lora_alpha") / rank;

  const base = flatten(model.params), pairs = new Map<Path, Tensor>();
  await using weights = await openSafetensors(`${folder}/adapter_model.safetensors`, options);
  for (const name of weights.names) {
    const path = name.startsWith(PREFIX) ? name.slice(PREFIX.length) : name;
    const match = /^(.*)\.lora_([AB])\.weight$/.exec(path);
    // The head is no LoRA layer: see the family's `head`.
    const weight = match === null || match[1] === "lm_head" ? undefined : base.get(`${match[1]}.weight`);
    const { shape } = weights.specs.get(name)!;
    const expected = weight === undefined
      ? null
      : match![2] === "A"
      ? [rank, weight.shape[1]]
      : [weight.shape[0], rank];
    if (expected === null || !sameShape(shape, expected)) {
      const rule = expected === null
        ? "it must be half of a LoRA pair of the model"
        : `model and "r" of "${file}" give it the shape [${expected.join(", ")}]`;
      throw new DataError(
        `Cannot load "${name}" of "${weights.path}" as ${rule}: it has [${shape.join(", ")}]`,
      );
    }
    pairs.set(path, upload(gpu, await weights.readF32(name), { shape, label: path }));
  }
  for (const path of pairs.keys()) {
    const other = path.replace(/lora_([AB])/, (_, half) => `lora_${half === "A" ? "B" : "A"}`);
    if (!pairs.has(other)) {
      throw new DataError(
        `Cannot load "${weights.path}" as pairs must be whole: "${other}" is missing`,
      );
    }
  }
  await checkAllocations(gpu);
  const params = unflatten(new Map([...base, ...pairs])) as P;
  return { ...model, params, loraScale, trainable: (path) => pairs.has(path) };
}

/**
 * Saves the LoRA pairs of a model as PEFT does. The folder appears whole or not at all.
 *
 * @param gpu The device that holds the pairs
 * @param model The model; of a training run `{ ...model, params: state.params }`
 * @param options `folder`: where; replaced when it holds an older adapter, refused when it holds anything else
 * @throws {TypeError} When the model has no pairs
 * @throws {AlreadyExistsError} When something in the folder would be lost
 */
export async function saveAdapter(
  gpu: Gpu,
  model: Model,
  { folder, fileSystem = hostFileSystem() }: FileSystemOptions & { readonly folder: string },
): Promise<void> {
  const pairs = [...flatten(model.params)].filter(([path]) => path.includes(".lora_"));
  if (pairs.length === 0) {
    throw new TypeError(
      `Cannot save an adapter to "${folder}" as the model must have LoRA pairs: use saveModel`,
    );
  }
  const r = pairs.find(([path]) => path.includes(".lora_A."))![1].shape[0];
  const config = {
    peft_type: "LORA",
    task_type: "CAUSAL_LM",
    r,
    lora_alpha: (model.loraScale ?? 1) * r,
    lora_dropout: 0,
    bias: "none",
    fan_in_fan_out: false,
    target_modules: [...new Set(pairs.map(([path]) => path.split(".").at(-3)!))],
  };
  const values = await readAll(gpu, pairs.map(([, t]) => t)) as Float32Array<ArrayBuffer>[];
  await replaceFolder(folder, async (temporary) => {
    await writeSafetensors(
      `${temporary}/adapter_model.safetensors`,
      pairs.map(([path, { shape }], i) => ({ name: PREFIX + path, shape, dtype: "F32", data: values[i] })),
      { metadata: { format: "pt" }, fileSystem },
    );
    await fileSystem.write(`${temporary}/adapter_config.json`, JSON.stringify(config, null, 2) + "\n");
  }, { fileSystem });
}
