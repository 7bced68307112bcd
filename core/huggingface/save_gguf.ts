/**
 * Saves models as GGUF files, for llama.cpp.
 *
 * @module
 */

import { shown } from "../arguments.ts";
import { ROPE_FACTORS } from "../data/gguf/names.ts";
import { quantize, type WrittenDType } from "../data/gguf/quantize.ts";
import { halvesTogether, isInterleaved } from "../data/gguf/rotary_rows.ts";
import { tokenizerMetadata } from "../data/gguf/tokenizer_metadata.ts";
import { type GgufTensor, writeGguf } from "../data/gguf/write_gguf.ts";
import { InputError } from "../errors.ts";
import type { FileSystemOptions } from "../host/file_system.ts";
import { read } from "../infer/read.ts";
import { type Model, modelParams } from "../models/model.ts";
import type { Gpu } from "../runtime/device.ts";
import { flatten } from "../tree.ts";
import { checkStorable } from "./check_storable.ts";
import { type GgufModel, ggufModel } from "./gguf_model.ts";

/** How {@link saveGguf} stores matrices. */
export type GgufType = "f32" | "f16" | "bf16" | "q8_0";

/** Options of {@link saveGguf}. */
export interface SaveGgufOptions extends FileSystemOptions {
  /** The file; replaced when it exists. */
  readonly path: string;
  /** How matrices are stored; bf16 when absent. Vectors are f32 in all of them. */
  readonly type?: GgufType;
  /** Files of the tokenizer by name, as of `companionFiles`; the file gets no tokenizer when absent. */
  readonly files?: ReadonlyMap<string, string | Uint8Array>;
}

/** The number of a type as `general.file_type` has it. */
const FILE_TYPES: Readonly<Record<GgufType, number>> = { f32: 0, f16: 1, q8_0: 7, bf16: 32 };

/**
 * Saves a model as a GGUF file, for llama.cpp and what is built on it: a Llama, Mistral, Qwen2 or Qwen3 with the head for
 * the next token. The file appears whole or not at all. One parameter after the other is on the host.
 *
 * `q8_0` has 8 bits and a scale for 32 values, with the bits of llama.cpp's own conversion; a matrix whose rows are not
 * whole blocks of 32 becomes f16.
 *
 * @param gpu The device that holds the parameters
 * @param model The model; of a training run `{ ...model, params: state.params }`
 * @param options Where, how, and the files of the tokenizer
 * @throws {InputError} When llama.cpp has no such model, or the model holds LoRA pairs
 * @throws {InputError} When a value is not finite, or too large for the type
 * @throws {DataError} When llama.cpp has no tokenizer that gives the same ids
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu } from "@firn/train";
 * import { companionFiles, loadModel, saveGguf } from "@firn/train/hub";
 *
 * await using gpu = await openGpu();
 * const folder = "examples/models/sotu", model = await loadModel(gpu, folder);
 * const path = await Deno.makeTempFile({ suffix: ".gguf" });
 * await saveGguf(gpu, model, { path, type: "q8_0", files: await companionFiles(folder) });
 * assertEquals((await loadModel(gpu, path)).config, model.config);
 * await Deno.remove(path);
 * ```
 */
export async function saveGguf<I extends object>(
  gpu: Gpu,
  model: Model<object, I>,
  { path, type = "bf16", files = new Map(), fileSystem }: SaveGgufOptions,
): Promise<void> {
  if (!Object.hasOwn(FILE_TYPES, type)) {
    const types = Object.keys(FILE_TYPES).join(", ");
    throw new InputError(`Cannot save "${path}" as "type" must be one of ${types}: got ${shown(type)}`);
  }
  const described = ggufModel(model, path), { architecture, vocabSize, ropeFactors } = described;
  const leaves = flatten(model.params), declared = modelParams(model);
  const tensors = [...leaves].map(([name, leaf]): GgufTensor => {
    const key = declared.get(name)?.key,
      gguf = key === undefined ? undefined : described.nameOf(key),
      { shape } = leaf;
    if (gguf === undefined) throw described.error(`"${name}"`, "a tensor that llama.cpp has a name for");
    const dtype = typeOf(shape, type);
    return {
      name: gguf,
      shape,
      dtype,
      async data() {
        const values = await read(gpu, leaf) as Float32Array<ArrayBuffer>;
        checkStorable(values, { name, folder: path, dtype: CHECKED[dtype] });
        return quantize(inOrder(values, { key: key!, shape, described }), dtype);
      },
    };
  });
  if (ropeFactors !== null) {
    const values = Float32Array.from(ropeFactors), bytes = new Uint8Array(values.buffer);
    tensors.push({ name: ROPE_FACTORS, shape: [values.length], dtype: "F32", data: () => bytes });
  }
  await writeGguf(path, {
    metadata: {
      "general.architecture": ["string", architecture],
      "general.type": ["string", "model"],
      "general.name": ["string", path.replace(/^.*[\\/]|\.gguf$/gi, "")],
      "general.file_type": ["u32", FILE_TYPES[type]],
      "general.quantization_version": ["u32", 2],
      ...described.metadata,
      ...await tokenizerMetadata(files, { source: model.source, vocabSize }),
    },
    tensors,
    fileSystem,
  });
}

/** Types of {@link checkStorable}. */
const CHECKED = { F32: "float32", F16: "float16", BF16: "bfloat16", Q8_0: "q8_0" } as const;

const MATRICES = { f32: "F32", f16: "F16", bf16: "BF16", q8_0: "Q8_0" } as const;

/** As llama.cpp's converter does: vectors are F32, and what does not divide into blocks is F16. */
function typeOf(shape: readonly number[], type: GgufType): WrittenDType {
  if (shape.length < 2) return "F32";
  return type === "q8_0" && shape.at(-1)! % 32 !== 0 ? "F16" : MATRICES[type];
}

/**
 * Values of a parameter, rows of queries and keys in the order of llama.cpp.
 *
 * @param values The values
 * @param options The key of the parameter, its shape, and the model
 * @returns The values
 */
export function inOrder(
  values: Float32Array<ArrayBuffer>,
  { key, shape, described: { architecture, headDim } }: {
    readonly key: string;
    readonly shape: readonly number[];
    readonly described: GgufModel;
  },
): Float32Array<ArrayBuffer> {
  if (!isInterleaved(architecture, key)) return values;
  const rowBytes = 4 * values.length / shape[0];
  return new Float32Array(halvesTogether(new Uint8Array(values.buffer), { headDim, rowBytes }).buffer);
}
