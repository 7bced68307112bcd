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
import { writeSafetensors } from "../data/safetensors_write.ts";
import type { Gpu } from "../runtime/device.ts";
import { readAll } from "../infer/read.ts";
import { type Model, modelParams } from "../models/model.ts";
import type { DType } from "../spec.ts";
import { flatten } from "../tree.ts";

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
  /** Other files of the folder by name, such as `tokenizer.json`. */
  readonly files?: ReadonlyMap<string, string | Uint8Array>;
}

/** Types of the device that a file has, too. */
const SAME: { readonly [dtype in DType]?: SaveDType } = { bf16: "bfloat16", f16: "float16" };
const STORED = { float32: "F32", bfloat16: "BF16", float16: "F16" } as const;

/**
 * Saves a model as `transformers` does: `config.json` and `model.safetensors`. The folder appears whole or not at all.
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
  const { dtype = savedDType(model.source) } = options;
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
  await replaceFolder(folder, async (temporary) => {
    const values = await readAll(gpu, [...leaves.values()]) as Float32Array<ArrayBuffer>[];
    const declared = modelParams(model);
    const tensors = [...leaves].flatMap(([path, leaf], i) => {
      const as = options.dtype ?? SAME[leaf.dtype] ?? dtype;
      checkStorable(values[i], { name: path, folder, dtype: as });
      const data = as === "bfloat16" ? toBf16(values[i]) : as === "float16" ? toF16(values[i]) : values[i];
      const { parts, key = path } = declared.get(path) ?? {}, name = model.keys?.get(path);
      const one = { name: name ?? key, shape: leaf.shape, dtype: STORED[as], data };
      if (parts === undefined || name !== undefined) return one;
      const size = data.length / parts.length, width = leaf.shape.at(-1)!;
      return parts.map((part, p) => {
        const own = data.subarray(p * size, (p + 1) * size) as typeof data;
        return { ...one, name: part, shape: [size / width, width], data: own };
      });
    });
    await writeSafetensors(`${temporary}/model.safetensors`, tensors, {
      metadata: { format: "pt" },
      fileSystem,
    });
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
  }, { fileSystem });
}

/** Refuses names that lead out of the folder, and those of the model's own files. */
function checkName(name: string, folder: string): void {
  const outside = name.split(/[\\/]/).some((part) => ["", ".", ".."].includes(part)) || /[\\:]/.test(name);
  if (!outside && !["config.json", "model.safetensors"].includes(name)) return;
  throw new InputError(
    `Cannot save "${name}" to "${folder}" as other files lie in the folder beside config.json and model.safetensors: ` +
      "give it another name",
  );
}

function savedDType({ dtype, torch_dtype }: Readonly<Record<string, unknown>>): SaveDType {
  const name = dtype ?? torch_dtype;
  return name === "bfloat16" || name === "float16" ? name : "float32";
}
