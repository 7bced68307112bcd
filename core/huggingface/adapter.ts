/**
 * LoRA adapters of PEFT.
 *
 * @module
 */

import { DataError, InputError } from "../errors.ts";
import type { FileSystemOptions } from "../host/file_system.ts";
import { hostFileSystem } from "../host/host_file_system.ts";
import { replaceFolder } from "../host/replace_folder.ts";
import { readJson } from "../host/json_file.ts";
import { pathInFolder } from "../host/path_in_folder.ts";
import { checkModelFolder } from "./model_folder.ts";
import { openSafetensors } from "../data/safetensors.ts";
import { writeSafetensors } from "../data/safetensors_write.ts";
import { checkAllocations } from "../runtime/buffers.ts";
import type { Gpu } from "../runtime/device.ts";
import { readAll } from "../infer/read.ts";
import { upload } from "../runtime/upload.ts";
import type { Task, TokenInput } from "../models/family.ts";
import { headOf, type Model, modelParams } from "../models/model.ts";
import { sameShape } from "../spec.ts";
import { readAdapterConfig } from "./adapter_config.ts";
import { checkLoaded, checkStorable } from "./check_storable.ts";
import type { Tensor } from "../tensor.ts";
import { flatten, type Path, unflatten } from "../tree.ts";

const PREFIX = "base_model.model.", WEIGHT = ".weight";

/** `task_type` of PEFT, which has none for classes of images. */
const TASK_TYPES: { readonly [task in Task]: string | null } = {
  nextToken: "CAUSAL_LM",
  sequenceClass: "SEQ_CLS",
  tokenClass: "TOKEN_CLS",
  imageClass: null,
  features: "FEATURE_EXTRACTION",
};

/**
 * Adds the LoRA pairs of a PEFT adapter to a model. Only the pairs are trained. `lora_dropout` is not applied, as in PEFT's
 * evaluation mode.
 *
 * Source: Hu et al., "LoRA", arXiv 2106.09685; the file layout is that of `peft`.
 *
 * @param gpu The device that will hold the pairs
 * @param model The model that the adapter was made for
 * @param folder Folder with `adapter_config.json` and `adapter_model.safetensors`
 * @param options The file system
 * @returns The model with the pairs in its parameters
 * @throws {InputError} When the adapter is no plain LoRA
 * @throws {DataError} When a pair does not fit the model
 */
export async function loadAdapter<P extends object, I extends object = TokenInput>(
  gpu: Gpu,
  model: Model<P, I>,
  folder: string,
  options: FileSystemOptions = {},
): Promise<Model<P, I>> {
  await checkModelFolder(folder, options);
  const file = await pathInFolder(folder, "adapter_config.json", options);
  const adapterSource = await readJson(file, options);
  const { rank, loraScale, layers: chosen } = readAdapterConfig(adapterSource, file);
  const base = flatten(model.params), held = [...base.keys()].find((path) => path.includes(".lora_"));
  if (held !== undefined) {
    throw new InputError(
      `Cannot load "${folder}" as a model holds one adapter at a time: it has "${held}"; merge that one with mergeAdapter`,
    );
  }
  const layers = adaptable(model), pairs = new Map<Path, Tensor>();
  await using weights = await openSafetensors(
    await pathInFolder(folder, "adapter_model.safetensors", options),
    options,
  );
  for (const name of weights.names) {
    const match = /^(.*)\.lora_([AB])\.weight$/.exec(
      name.startsWith(PREFIX) ? name.slice(PREFIX.length) : name,
    );
    const layer = match === null ? undefined : layers.get(match[1]);
    const { shape } = weights.specs.get(name)!;
    const invalid = (rule: string): Error => {
      const seen = `it has [${shape.join(", ")}]`;
      return new DataError(`Cannot load "${name}" of "${weights.path}" as ${rule}: ${seen}`);
    };
    if (layer === undefined) throw invalid("it must be half of a LoRA pair of the model");
    const [out, width] = layer.shape, half = match![2];
    const expected = half === "A" ? [rank, width] : [out, rank];
    if (!sameShape(shape, expected)) {
      throw invalid(`model and "r" of "${file}" give it the shape [${expected.join(", ")}]`);
    }
    // The last number in a name is that of the layer, as in PEFT.
    const index = /^.*\.(\d+)\./.exec(`.${match![1]}`)?.[1];
    if (chosen !== null && index !== undefined && !chosen.includes(Number(index))) {
      throw invalid(`"layers_to_transform" of "${file}" leaves layer ${index} out`);
    }
    const path = `${layer.path}.lora_${half}.weight`;
    if (pairs.has(path)) throw invalid("a pair must come once: another name of it is there too");
    const values = await weights.readF32(name);
    checkLoaded(values, { name, path: weights.path });
    pairs.set(path, upload(gpu, values, { shape, label: path }));
  }
  checkWhole(pairs, weights.path);
  await checkAllocations(gpu);
  const params = unflatten(new Map([...base, ...pairs])) as P;
  const dropout = adapterSource.lora_dropout ?? 0;
  const notes = [
    ...model.notes ?? [],
    ...dropout === 0 ? [] : [`"lora_dropout" ${dropout} of "${file}" is not applied in training`],
  ];
  return {
    ...model,
    params,
    loraScale,
    adapterSource,
    trainable: (path) => pairs.has(path),
    ...notes.length > 0 && { notes },
  };
}

/** A linear layer that can take a pair. */
interface Adaptable {
  /** Its path in the tree. */
  readonly path: Path;
  /** [out, in]. */
  readonly shape: readonly number[];
}

/** Layers that can take a pair, by their name in checkpoints: all that have a matrix, except the head. */
function adaptable<I extends object>(model: Model<object, I>): Map<string, Adaptable> {
  const head = headOf(model).output?.(model.params).weight, leaves = flatten(model.params);
  return new Map(
    [...modelParams(model)].flatMap(([path, { key, shape, layout }]): [string, Adaptable][] => {
      if (!path.endsWith(WEIGHT) || shape.length !== 2 || leaves.get(path) === head) return [];
      const outIn = layout === "inOut" ? shape.toReversed() : shape;
      return [[key.slice(0, -WEIGHT.length), { path: path.slice(0, -WEIGHT.length), shape: outIn }]];
    }),
  );
}

function checkWhole(pairs: ReadonlyMap<Path, Tensor>, file: string): void {
  if (pairs.size === 0) {
    throw new DataError(
      `Cannot load "${file}" as an adapter must have pairs: it has no tensor; get it again`,
    );
  }
  for (const path of pairs.keys()) {
    const other = path.replace(/lora_([AB])/, (_, half) => `lora_${half === "A" ? "B" : "A"}`);
    if (pairs.has(other)) continue;
    throw new DataError(
      `Cannot load "${file}" as pairs must be whole: "${other}" is missing`,
    );
  }
}

/**
 * Saves the LoRA pairs of a model as PEFT does. The folder appears whole or not at all.
 *
 * @param gpu The device that holds the pairs
 * @param model The model; of a training run `{ ...model, params: state.params }`
 * @param options `folder`: where; replaced when it holds an older adapter, refused when it holds anything else
 * @throws {InputError} When the model has no pairs, or a value is not finite
 * @throws {AlreadyExistsError} When something in the folder would be lost
 */
export async function saveAdapter<I extends object>(
  gpu: Gpu,
  model: Model<object, I>,
  { folder, fileSystem = hostFileSystem() }: FileSystemOptions & { readonly folder: string },
): Promise<void> {
  const pairs = [...flatten(model.params)].filter(([path]) => path.includes(".lora_"));
  if (pairs.length === 0) {
    throw new InputError(
      `Cannot save an adapter to "${folder}" as the model must have LoRA pairs: use saveModel`,
    );
  }
  const names = storedNames(model, pairs.map(([path]) => path));
  const ranks = new Set(pairs.map(([path, { shape }]) => shape[path.includes(".lora_A.") ? 0 : 1]));
  if (ranks.size > 1) {
    throw new InputError(
      `Cannot save an adapter to "${folder}" as its pairs must have one rank: they have ${
        [...ranks].join(", ")
      }`,
    );
  }
  const declared = modelParams(model), [r] = ranks, { adapterSource: source = {}, loraScale = 1 } = model;
  const config = {
    peft_type: "LORA",
    task_type: TASK_TYPES[headOf(model).task],
    ...source,
    r,
    lora_alpha: alphaOf(source, { r, loraScale }),
    lora_dropout: source.lora_dropout ?? 0,
    bias: "none",
    // PEFT's name for weights that are [in, out].
    fan_in_fan_out: pairs.some(([path]) =>
      declared.get(path.replace(/\.lora_[AB]\..*$/, WEIGHT))?.layout === "inOut"
    ),
    target_modules: source.target_modules ?? [...new Set(names.map((name) => name.split(".").at(-3)!))],
  };
  const values = await readAll(gpu, pairs.map(([, t]) => t)) as Float32Array<ArrayBuffer>[];
  pairs.forEach(([name], i) => checkStorable(values[i], { name, folder, dtype: "float32" }));
  await replaceFolder(folder, async (temporary) => {
    await writeSafetensors(
      `${temporary}/adapter_model.safetensors`,
      pairs.map(([, { shape }], i) => ({ name: PREFIX + names[i], shape, dtype: "F32", data: values[i] })),
      { metadata: { format: "pt" }, fileSystem },
    );
    await fileSystem.write(`${temporary}/adapter_config.json`, JSON.stringify(config, null, 2) + "\n");
  }, { fileSystem });
}

/** Alpha as it was written, while it still gives the scale; else the shortest number that does. */
function alphaOf(
  source: Readonly<Record<string, unknown>>,
  { r, loraScale }: { readonly r: number; readonly loraScale: number },
): number {
  const { lora_alpha: written, use_rslora: stable } = source, divisor = stable === true ? Math.sqrt(r) : r;
  const alpha = loraScale * divisor, short = Number(alpha.toPrecision(15));
  if (typeof written === "number" && written / divisor === loraScale) return written;
  return short / divisor === loraScale ? short : alpha;
}

/** Names of LoRA pairs in checkpoints: those of the layers that they adapt. */
function storedNames<I extends object>(model: Model<object, I>, paths: readonly Path[]): string[] {
  const declared = modelParams(model);
  return paths.map((path) => {
    const [layer, half] = path.split(/(?=\.lora_[AB]\.)/);
    return (declared.get(layer + WEIGHT)?.key ?? layer + WEIGHT).slice(0, -WEIGHT.length) + half;
  });
}
