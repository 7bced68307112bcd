/**
 * Loads models from Hugging Face folders.
 *
 * @module
 */

import { counted } from "../counted.ts";
import { compareHead, type HeadDifference, headNotes, type HeadOptions, withHead } from "./new_head.ts";
import { scoreBytes } from "./new_model.ts";
import { openModel } from "./open_model.ts";
import { readParams, sameValues } from "./read_params.ts";
import { type NamedCheckpoint, underDeclaredNames } from "./stored_names.ts";
import { TENSOR_TYPES } from "../data/gguf/types.ts";
import type { Weights } from "../data/weights.ts";
import { DataError, InputError } from "../errors.ts";
import type { FileSystemOptions } from "../host/file_system.ts";
import { checkAllocations } from "../runtime/buffers.ts";
import type { Gpu, OnProgress } from "../runtime/device.ts";
import type { TokenInput } from "../models/family.ts";
import { checkStorage, type Storage } from "./storage.ts";
import { families as known } from "../models/mod.ts";
import {
  declaredParams,
  describeModel,
  type Families,
  headOf,
  type Model,
  type ModelDescription,
} from "../models/model.ts";
import { sameShape } from "../spec.ts";
import { unflatten } from "../tree.ts";

/** Options of {@link loadModel}. */
export interface LoadOptions extends FileSystemOptions, HeadOptions {
  /**
   * How the device stores the parameters: `f32`, the default, `file`, `int8` or `nf4`. What is not f32 cannot be trained, but
   * LoRA pairs beside it can.
   */
  readonly storage?: Storage;
  /** Families by `model_type`; those of this package when absent. */
  readonly families?: Families;
  /** Called with the bytes of parameters that were read, of those that the files hold. */
  readonly onProgress?: OnProgress;
}

/**
 * Loads a model from a Hugging Face folder: `config.json` and `model.safetensors` (or its shards). Or from a GGUF file of
 * llama.cpp, of the architectures `llama`, `qwen2` and `qwen3`: its metadata become the configuration.
 *
 * Tensors are read in parts and widened to f32. A tied head is the parameter of the embedding; a file may hold it under
 * either name. Where a file holds a head that differs from the embedding it is tied to, the two are untied, and `notes` of
 * the model says so. Kernels widen what is stored in fewer bytes as they read it.
 *
 * @param gpu The device that will hold the parameters
 * @param folder The folder, a GGUF file, or a folder that has one GGUF file and no `config.json`
 * @param options Storage on the device, another head, families, file system
 * @returns The model; any parameter type can be asked for, `loadModel<LlamaParams>(...)`
 * @throws {InputError} When the family is unknown or a value of `config.json` does not fit
 * @throws {DataError} When a tensor is missing, unexpected or of another shape
 * @throws {NotFoundError} When there is no such folder, or it lacks a file
 * @throws {OutOfMemoryError} When the device has no room
 *
 * @example
 * ```ts
 * import { assert, assertEquals } from "@std/assert";
 * import { logits, openGpu, read, tensor } from "@firn/train";
 * import { loadModel } from "@firn/train/hub";
 *
 * await using gpu = await openGpu();
 * const folder = "examples/models/sotu"; // bfloat16
 * const wide = await loadModel(gpu, folder), before = gpu.counts.bytes;
 * const packed = await loadModel(gpu, folder, { storage: "file" });
 * assert(gpu.counts.bytes - before < 0.51 * before); // norms are f32 in both
 * const ids = tensor(new Int32Array([1, 2, 3, 4]), [1, 4]);
 * assertEquals(await read(gpu, logits(packed, ids)), await read(gpu, logits(wide, ids)));
 * ```
 */
export async function loadModel<P extends object = object, I extends object = TokenInput>(
  gpu: Gpu,
  folder: string,
  options: LoadOptions = {},
): Promise<Model<P, I>> {
  const { families = known, storage = "f32" } = options;
  checkStorage(storage, `load "${folder}"`);
  const { source: own, file, open } = await openModel(folder, options);
  const source = withHead(own, options), { seed = 0 } = options;
  const described = describeModel<I>(source, { families, file });
  if (options.labels !== undefined) checkClasses(described);
  await using stored = await open();
  checkLayers(stored, { source, file });
  const checkpoint = underDeclaredNames(stored, described);
  const head = compareHead(checkpoint, described, options);
  const left = checkCheckpoint(checkpoint, { model: described, file, head });
  const model = await untied(checkpoint, described, { families, file });
  const notes = [
    ...model.notes ?? [],
    ...left,
    ...headNotes(head, { path: checkpoint.path, architecture: model.architecture, seed }),
  ];
  const { params, keys } = await readParams(gpu, { ...options, checkpoint, model, head, file });
  await checkAllocations(gpu);
  return {
    ...model,
    params: unflatten(params) as P,
    scoreBytes: scoreBytes(gpu),
    ...notes.length > 0 && { notes },
    // With another head, keys without a prefix would no longer tell what belongs to the head.
    ...keys.size > 0 && options.architecture === undefined && { keys },
  };
}

/** Refuses labels for a head without classes. */
function checkClasses<I extends object>(model: ModelDescription<I>): void {
  if (/Class$/.test(headOf(model).task)) return;
  throw new InputError(
    `Cannot give "labels" to "${model.architecture}" as its head must be for classes: choose another "architecture"`,
  );
}

/** The description, with a head of its own when the file holds one that differs from what it is tied to. */
async function untied<I extends object>(
  checkpoint: Weights,
  model: ModelDescription<I>,
  options: { readonly families: Families; readonly file: string },
): Promise<ModelDescription<I>> {
  const declared = declaredParams(model);
  for (const { key, tiedTo } of declared.values()) {
    const other = tiedTo === undefined ? undefined : declared.get(tiedTo)!.key;
    if (other === undefined || !checkpoint.specs.has(key) || !checkpoint.specs.has(other)) continue;
    if (await sameValues(checkpoint, [key, other])) continue;
    const note = `"${key}" differs from "${other}", so it is not tied to it as "${options.file}" says`;
    return { ...describeModel<I>({ ...model.source, tie_word_embeddings: false }, options), notes: [note] };
  }
  return model;
}

/** Refuses more layers than the file has tensors, before their parameters are listed. */
function checkLayers(
  { names, path }: Weights,
  { source, file }: { readonly source: Readonly<Record<string, unknown>>; readonly file: string },
): void {
  const { num_hidden_layers: layers } = source;
  if (typeof layers !== "number" || layers <= names.length) return;
  throw new DataError(
    `Cannot load "${path}" as "num_hidden_layers" of "${file}" is ${layers}: ` +
      `it has ${counted(names.length, "tensor")}; check that both belong together`,
  );
}

/** Types of stored parameters. A tensor of another type that no family declares is a buffer of another tool. */
const PARAMETERS: readonly string[] = Object.keys(TENSOR_TYPES);

/**
 * Refuses a checkpoint whose tensors are not those that the model declares.
 *
 * @returns A note on each tensor that is left out
 */
function checkCheckpoint<I extends object>(
  checkpoint: NamedCheckpoint,
  { model, file, head }: {
    readonly model: ModelDescription<I>;
    readonly file: string;
    readonly head: HeadDifference;
  },
): string[] {
  const { name: family, ignored = [] } = model.family;
  const invalid = (key: string, rule: string, seen: string): Error =>
    new DataError(`Cannot load "${checkpoint.storedName(key)}" of "${checkpoint.path}" as ${rule}: ${seen}`);
  const left = new Set(head.left);
  const listed = declaredParams(model), declared = [...listed.values()];
  const keys = new Set(declared.map(({ key }) => key));
  const notes: string[] = [];
  for (const name of checkpoint.names) {
    if (keys.has(name) || left.has(name) || ignored.some((pattern) => pattern.test(name))) continue;
    const { dtype } = checkpoint.specs.get(name)!;
    if (!PARAMETERS.includes(dtype)) {
      notes.push(
        `"${name}" (${dtype}) of "${checkpoint.path}" is no parameter of a ${family} and is left out`,
      );
      continue;
    }
    throw invalid(name, `"${file}" describes a ${family} without it`, "check that both belong together");
  }
  for (const [path, { key, shape, tiedTo, spare }] of listed) {
    if (head.fresh.has(path)) continue;
    const stored = checkpoint.specs.get(key);
    if (stored === undefined) {
      if (spare) continue;
      const twin = [...declared].find((other) => other.tiedTo === path)?.key;
      if (tiedTo !== undefined || twin !== undefined && checkpoint.specs.has(twin)) continue;
      const seen = "it is missing; check that both belong together";
      throw invalid(key, `"${file}" describes a ${family} that needs it`, seen);
    }
    if (!sameShape(stored.shape, shape)) {
      const rule = `"${file}" gives it the shape [${shape.join(", ")}]`;
      throw invalid(key, rule, `it has [${stored.shape.join(", ")}]`);
    }
    if (!PARAMETERS.includes(stored.dtype)) {
      const rule = "a parameter must be stored as F32, F16, BF16 or F64";
      throw invalid(key, rule, `it is ${stored.dtype}; save the model unquantized`);
    }
  }
  return notes;
}
