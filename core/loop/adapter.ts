/**
 * LoRA adapters of PEFT.
 *
 * @module
 */

import { readJson } from "../data/json_file.ts";
import { openSafetensors } from "../data/safetensors.ts";
import { checkAllocations, type Gpu } from "../gpu/device.ts";
import { upload } from "../gpu/run.ts";
import { configReader } from "../models/family.ts";
import type { Model } from "../models/model.ts";
import { sameShape, type Tensor } from "../tensor.ts";
import { flatten, type Path, unflatten } from "../tree.ts";

const PREFIX = "base_model.model.";

/**
 * Adds the LoRA pairs of a PEFT adapter to a model: the pairs are trained, all else is not.
 *
 * Source: Hu et al., "LoRA", arXiv 2106.09685; the file layout is that of `peft`.
 *
 * @param gpu The device that will hold the pairs
 * @param model The model that the adapter was made for
 * @param folder Folder with `adapter_config.json` and `adapter_model.safetensors`
 * @returns The model with the pairs in its parameters
 * @throws {TypeError} When the adapter is no plain LoRA
 * @throws {Deno.errors.InvalidData} When a pair does not fit the model
 */
export async function loadAdapter<P extends object>(
  gpu: Gpu,
  model: Model<P>,
  folder: string,
): Promise<Model<P>> {
  const file = `${folder}/adapter_config.json`;
  const json = await readJson(file);
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
  await using weights = await openSafetensors(`${folder}/adapter_model.safetensors`);
  for (const name of weights.names) {
    const path = name.startsWith(PREFIX) ? name.slice(PREFIX.length) : name;
    const match = /^(.*)\.lora_([AB])\.weight$/.exec(path);
    const weight = match === null ? undefined : base.get(`${match[1]}.weight`);
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
      throw new Deno.errors.InvalidData(
        `Cannot load "${name}" of "${weights.path}" as ${rule}: it has [${shape.join(", ")}]`,
      );
    }
    pairs.set(path, upload(gpu, await weights.readF32(name), { shape, label: path }));
  }
  for (const path of pairs.keys()) {
    const other = path.replace(/lora_([AB])/, (_, half) => `lora_${half === "A" ? "B" : "A"}`);
    if (!pairs.has(other)) {
      throw new Deno.errors.InvalidData(
        `Cannot load "${weights.path}" as pairs must be whole: "${other}" is missing`,
      );
    }
  }
  await checkAllocations(gpu);
  const params = unflatten(new Map([...base, ...pairs])) as P;
  return { ...model, params, loraScale, trainable: (path) => pairs.has(path) };
}
