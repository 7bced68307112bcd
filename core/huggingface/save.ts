/**
 * Saves models to Hugging Face folders.
 *
 * @module
 */

import { shown } from "../arguments.ts";
import { InputError } from "../errors.ts";
import type { FileSystemOptions } from "../host/file_system.ts";
import { hostFileSystem } from "../host/host_file_system.ts";
import { replaceFolder } from "../host/replace_folder.ts";
import { checkStorable } from "./check_storable.ts";
import { toBf16, toF16 } from "../data/floats.ts";
import type { Gpu } from "../runtime/device.ts";
import { readParts, type ValueRange } from "../infer/read.ts";
import { type Model, modelParams } from "../models/model.ts";
import { type DType, sizeOf } from "../spec.ts";
import type { Tensor } from "../tensor.ts";
import { flatten } from "../tree.ts";
import { WEIGHTS, writeShards } from "./split_shards.ts";

/** How {@link saveModel} stores floats, in the words of `config.json`. */
export type SaveDType = "float32" | "bfloat16" | "float16";

/** Options of {@link saveModel}. */
export interface SaveOptions extends FileSystemOptions {
  /**
   * The stored type of floats. When absent: the type that the model's `config.json` names, else float32; and for parameters
   * that the device stores as bf16 or f16 that type, bit for bit. What it stores as int8 or nf4 is saved as the values that
   * these stand for.
   */
  readonly dtype?: SaveDType;
  /**
   * Bytes of tensors in a file at most; 50 GB when absent. More become several files with an index, as of `transformers`
   * with `max_shard_size`. A tensor that is larger has a file of its own.
   */
  readonly maxShardBytes?: number;
  /** Other files of the folder by name, such as `tokenizer.json`. */
  readonly files?: ReadonlyMap<string, string | Uint8Array>;
}

/** Types of the device that a file has, too. */
const SAME: { readonly [dtype in DType]?: SaveDType } = { bf16: "bfloat16", f16: "float16" };
const STORED = { float32: "F32", bfloat16: "BF16", float16: "F16" } as const;

/** Bytes of a file where nothing else is said, as of `transformers`. */
const LARGEST = 50e9;

/**
 * Saves a model as `transformers` does: `config.json` and `model.safetensors`, or several files with an index. The folder
 * appears whole or not at all. Parameters are read from the device in parts.
 *
 * @param gpu The device that holds the parameters
 * @param model The model; of a training run `{ ...model, params: state.params }`
 * @param options `folder`: where; replaced when it holds an older model, refused when it holds anything else
 * @throws {InputError} When the model holds LoRA pairs: they are saved as an adapter
 * @throws {InputError} When a name in `files` leads out of the folder or is that of the model's own files
 * @throws {InputError} When a value is not finite, or rounds to infinity in the stored type
 * @throws {AlreadyExistsError} When something in the folder would be lost
 */
export async function saveModel<I extends object>(
  gpu: Gpu,
  model: Model<object, I>,
  options: SaveOptions & { readonly folder: string },
): Promise<void> {
  const { folder, files = new Map(), fileSystem = hostFileSystem() } = options;
  const { dtype = savedDType(model.source), maxShardBytes: most = LARGEST } = options;
  const leaves = flatten(model.params);
  const pair = [...leaves.keys()].find((path) => path.includes(".lora_"));
  if (pair !== undefined) {
    throw new InputError(
      `Cannot save "${pair}" to "${folder}" as a model folder has no LoRA pairs: use saveAdapter`,
    );
  }
  for (const name of files.keys()) checkName(name, folder);
  if (!Object.hasOwn(STORED, dtype)) {
    const types = Object.keys(STORED).join(", ");
    throw new InputError(`Cannot save "${folder}" as "dtype" must be one of ${types}: got ${shown(dtype)}`);
  }
  if (typeof most !== "number" || !(most > 0)) {
    throw new InputError(
      `Cannot save "${folder}" as "maxShardBytes" must be a number above 0: got ${shown(most)}`,
    );
  }
  const declared = modelParams(model);
  const tensors = [...leaves].flatMap(([path, leaf]) => {
    const as = options.dtype ?? SAME[leaf.dtype] ?? dtype, { parts, key = path } = declared.get(path) ?? {};
    const name = model.keys?.get(path), plain = parts === undefined || name !== undefined;
    const count = sizeOf(leaf.shape) / (plain ? 1 : parts.length), width = leaf.shape.at(-1)!;
    return (plain ? [name ?? key] : parts).map((name, i) => ({
      name,
      shape: plain ? leaf.shape : [count / width, width],
      dtype: STORED[as],
      data: () => storedParts(gpu, leaf, { name: path, folder, dtype: as, from: i * count, count }),
    }));
  });
  await replaceFolder(folder, async (temporary) => {
    await writeShards(temporary, tensors, { most, fileSystem });
    // Older versions of transformers read torch_dtype: the key keeps its name.
    const key = "torch_dtype" in model.source && !("dtype" in model.source) ? "torch_dtype" : "dtype";
    const config = {
      ...model.source,
      architectures: [model.architecture],
      model_type: model.family.name,
      [key]: dtype,
    };
    await fileSystem.write(`${temporary}/config.json`, JSON.stringify(config, null, 2) + "\n");
    for (const [name, content] of files) {
      const parent = name.slice(0, Math.max(0, name.lastIndexOf("/")));
      if (parent !== "") await fileSystem.makeFolder(`${temporary}/${parent}`, { parents: true });
      await fileSystem.write(`${temporary}/${name}`, content);
    }
  }, { fileSystem, superseded: (name) => WEIGHTS.test(name) });
}

/** Values of a parameter as a file stores them, one part after the other. */
async function* storedParts(
  gpu: Gpu,
  leaf: Tensor,
  { name, folder, dtype, ...range }: ValueRange & {
    readonly name: string;
    readonly folder: string;
    readonly dtype: SaveDType;
  },
): AsyncGenerator<ArrayBufferView, void, undefined> {
  let first = range.from;
  for await (const part of readParts(gpu, leaf, range)) {
    const values = part as Float32Array<ArrayBuffer>;
    checkStorable(values, { name, folder, dtype, first });
    yield dtype === "bfloat16" ? toBf16(values) : dtype === "float16" ? toF16(values) : values;
    first += values.length;
  }
}

/** Refuses names that lead out of the folder, and those of the model's own files. */
function checkName(name: string, folder: string): void {
  const outside = name.split(/[\\/]/).some((part) => ["", ".", ".."].includes(part)) || /[\\:]/.test(name);
  if (!outside && name !== "config.json" && !WEIGHTS.test(name)) return;
  throw new InputError(
    `Cannot save "${name}" to "${folder}" as other files lie in the folder beside config.json and model.safetensors: ` +
      "give it another name",
  );
}

function savedDType({ dtype, torch_dtype }: Readonly<Record<string, unknown>>): SaveDType {
  const name = dtype ?? torch_dtype;
  return name === "bfloat16" || name === "float16" ? name : "float32";
}
