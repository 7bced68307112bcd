/**
 * Saves LoRA adapters as PEFT does.
 *
 * @module
 */

import { InputError } from "../errors.ts";
import { fromBf16, fromF16, toBf16, toF16 } from "../data/floats.ts";
import { writeSafetensors } from "../data/safetensors_write.ts";
import type { FileSystemOptions } from "../host/file_system.ts";
import { hostFileSystem } from "../host/host_file_system.ts";
import { replaceFolder } from "../host/replace_folder.ts";
import { readAll } from "../infer/read.ts";
import type { Adapter, StoredTensor } from "../models/adapter.ts";
import type { Task } from "../models/family.ts";
import { declaredParams, headOf, type Model } from "../models/model.ts";
import { adapterOf } from "../models/with_adapter.ts";
import type { Gpu } from "../runtime/device.ts";
import { moduleOf } from "../train/freeze/components.ts";
import type { Tensor } from "../tensor.ts";
import { flatten, type Leaves, type Path } from "../tree.ts";
import { PREFIX } from "./adapter_layout.ts";
import { modulesOf, namesOf } from "./adapter_modules.ts";
import { plainAdapter } from "./pissa.ts";
import { checkStorable } from "./check_storable.ts";

/** `task_type` of PEFT, which has none for classes of images. */
export const TASK_TYPES: { readonly [task in Task]: string | null } = {
  nextToken: "CAUSAL_LM",
  sequenceClass: "SEQ_CLS",
  tokenClass: "TOKEN_CLS",
  imageClass: null,
  features: "FEATURE_EXTRACTION",
};

/** Options of {@link saveAdapter}. */
export interface SaveAdapterOptions extends FileSystemOptions {
  /** Where; replaced when it holds an older adapter, refused when it holds anything else. */
  readonly folder: string;
  /**
   * Whether an adapter of PiSSA is saved as plain pairs of twice the rank, which fit the unchanged base and can be switched
   * and merged anywhere. Without it, whoever loads the adapter takes the principal part out of the base again, as PEFT does.
   */
  readonly plain?: boolean;
}

/**
 * Saves the adapter of a model as PEFT does. The folder appears whole or not at all.
 *
 * An adapter that was loaded keeps its configuration, its names, and the type of its tensors while that type holds their
 * values; an adapter that is loaded and saved is the same to the bit.
 *
 * @param gpu The device that holds the adapter
 * @param model The model; of a training run `{ ...model, params: state.params }`
 * @param options Where, and in which form
 * @throws {InputError} When the model has no adapter, or a value is not finite
 * @throws {AlreadyExistsError} When something in the folder would be lost
 */
export async function saveAdapter<I extends object>(
  gpu: Gpu,
  model: Model<object, I>,
  { folder, plain = false, fileSystem = hostFileSystem() }: SaveAdapterOptions,
): Promise<void> {
  const adapter = model.adapter === undefined
    ? pairsByHand(model, folder)
    : plain
    ? await plainAdapter(gpu, model)
    : adapterOf(model);
  const { tensors, source, text } = adapter;
  const stored = [...namesToStore(model, adapter)];
  const values = await readAll(
    gpu,
    stored.map(([, { path, ofBase }]) => (ofBase ? model.adapter!.replaced : tensors).get(path)!),
  ) as Float32Array<ArrayBuffer>[];
  stored.forEach(([, { path }], i) => checkStorable(values[i], { name: path, folder, dtype: "float32" }));
  const holds = stored.every(([, { dtype }], i) => isHeld(values[i], dtype));
  const same = text !== undefined && JSON.stringify(JSON.parse(text)) === JSON.stringify(source);
  await replaceFolder(folder, async (temporary) => {
    await writeSafetensors(
      `${temporary}/adapter_model.safetensors`,
      stored.map(([name, { path, dtype, ofBase }], i) => ({
        name,
        shape: (ofBase ? model.adapter!.replaced : tensors).get(path)!.shape,
        dtype: holds ? dtype : "F32",
        data: holds ? asStored(values[i], dtype) : values[i],
      })),
      { metadata: { format: "pt" }, fileSystem },
    );
    await fileSystem.write(
      `${temporary}/adapter_config.json`,
      same ? text : JSON.stringify(source, null, 2) + "\n",
    );
  }, { fileSystem });
}

function asStored(values: Float32Array, dtype: StoredTensor["dtype"]): Float32Array | Uint16Array {
  return dtype === "BF16" ? toBf16(values) : dtype === "F16" ? toF16(values) : values;
}

/** Whether a type holds values without a change. */
function isHeld(values: Float32Array, dtype: StoredTensor["dtype"]): boolean {
  if (dtype === "F32") return true;
  const back = dtype === "BF16" ? fromBf16(toBf16(values)) : fromF16(toF16(values));
  return values.every((value, i) => Object.is(value, back[i]));
}

/** The tensors of the file by name: those that it had, and what is trained beside them. */
function namesToStore<I extends object>(
  model: Model<object, I>,
  { stored, trained, tensors, layers }: Adapter,
): Map<string, StoredTensor> {
  const replaced: Leaves = model.adapter?.replaced ?? new Map();
  const kept = [...stored].filter(([, { path, ofBase }]) => (ofBase ? replaced : tensors).has(path));
  const known = new Set(kept.map(([, { path }]) => path)), nameOf = naming(model, layers);
  const others = [...trained].filter((path) => !known.has(path) && tensors.has(path));
  return new Map<string, StoredTensor>([
    ...kept,
    ...others.map((path) => [nameOf(path), { path, dtype: "F32" }] as const),
  ]);
}

/** From a path to the name that PEFT has for it: that of modules of `transformers`, where checkpoints have others. */
function naming<I extends object>(
  model: Model<object, I>,
  layers: Adapter["layers"],
): (path: Path) => string {
  const declared = declaredParams(model);
  const names = new Map([...modulesOf(model).values()].map(({ path, names }) => [path, names.at(-1)!]));
  const ofBase = (path: Path): string => {
    const key = declared.get(path)?.key ?? path, module = moduleOf(key);
    return namesOf(model.family, module).at(-1)! + key.slice(module.length);
  };
  return (path) => {
    const module = moduleOf(path), name = names.get(module) ?? module, member = path.slice(module.length);
    if (member.startsWith(".lora_")) return PREFIX + name + member;
    // PEFT wraps the layers that it adapts.
    return PREFIX + (layers.has(module) ? `${name}.base_layer${member}` : ofBase(path));
  };
}

/** The adapter that pairs are which were put into the tree of a model by hand. */
function pairsByHand<I extends object>(model: Model<object, I>, folder: string): Adapter {
  const pairs = [...flatten(model.params)].filter(([path]) => path.includes(".lora_"));
  if (pairs.length === 0) {
    throw new InputError(
      `Cannot save an adapter to "${folder}" as the model must have LoRA pairs: use saveModel`,
    );
  }
  const ranks = new Set(pairs.map(([path, { shape }]) => shape[path.includes("_A") ? 0 : 1]));
  if (ranks.size > 1) {
    throw new InputError(
      `Cannot save an adapter to "${folder}" as its pairs must have one rank: they have ${
        [...ranks].join(", ")
      }`,
    );
  }
  const [r] = ranks, { loraScale: scale = 1 } = model, modules = modulesOf(model);
  const adapted = new Set(pairs.map(([path]) => moduleOf(path)));
  const found = [...modules.values()].filter(({ path }) => adapted.has(path));
  const source = {
    peft_type: "LORA",
    task_type: TASK_TYPES[headOf(model).task],
    r,
    lora_alpha: alphaOf(scale, r),
    lora_dropout: 0,
    bias: "none",
    fan_in_fan_out: found.some(({ kind, layout }) => kind === "linear" && layout === "inOut"),
    target_modules: [...new Set(found.map(({ name }) => name.split(".").at(-1)!))],
  };
  const tensors = new Map<Path, Tensor>(pairs), trained = new Set(tensors.keys());
  const layers = new Map([...adapted].map((path) => [path, { scale }]));
  return { source, layers, trained, stored: new Map(), tensors };
}

/** The shortest alpha that gives a scale. */
function alphaOf(scale: number, r: number): number {
  const short = Number((scale * r).toPrecision(15));
  return short / r === scale ? short : scale * r;
}
