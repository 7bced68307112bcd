/**
 * Checkpoints of several files, as `transformers` splits them.
 *
 * Source: `split_state_dict_into_shards_factory` of `huggingface_hub`.
 *
 * @module
 */

import { byteLength } from "../data/safetensors_header.ts";
import { type TensorToStore, writeSafetensors } from "../data/safetensors_write.ts";
import type { FileSystemOptions } from "../host/file_system.ts";
import { hostFileSystem } from "../host/host_file_system.ts";
import { sizeOf } from "../spec.ts";

/** The name of a file alone, and of an index. */
export const SINGLE = "model.safetensors", INDEX = "model.safetensors.index.json";

/** Names of files that hold weights. */
export const WEIGHTS = /^model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?$/;

/**
 * Writes the weights of a model: one file, or several with an index.
 *
 * @param folder Where
 * @param tensors The tensors, in the order in which they fill files
 * @param options `most`: bytes of tensors in a file; a larger tensor has a file of its own
 */
export async function writeShards(
  folder: string,
  tensors: readonly TensorToStore[],
  { most, fileSystem = hostFileSystem() }: FileSystemOptions & { readonly most: number },
): Promise<void> {
  const shards = split(tensors, most), options = { metadata: { format: "pt" }, fileSystem };
  if (shards.length <= 1) return await writeSafetensors(`${folder}/${SINGLE}`, tensors, options);
  const five = (n: number): string => String(n).padStart(5, "0"), files = new Map<string, string>();
  for (const [i, shard] of shards.entries()) {
    const file = `model-${five(i + 1)}-of-${five(shards.length)}.safetensors`;
    await writeSafetensors(`${folder}/${file}`, shard, options);
    for (const { name } of shard) files.set(name, file);
  }
  const index = {
    metadata: {
      total_parameters: tensors.reduce((sum, { shape }) => sum + sizeOf(shape), 0),
      total_size: tensors.reduce((sum, tensor) => sum + bytesOf(tensor), 0),
    },
    weight_map: Object.fromEntries([...files].sort(([a], [b]) => a < b ? -1 : 1)),
  };
  await fileSystem.write(`${folder}/${INDEX}`, JSON.stringify(index, null, 2) + "\n");
}

const bytesOf = ({ dtype, shape }: TensorToStore): number => byteLength(dtype, shape)!;

/** Fills one file after the other. */
function split(tensors: readonly TensorToStore[], most: number): readonly (readonly TensorToStore[])[] {
  const shards: TensorToStore[][] = [];
  let current: TensorToStore[] = [], size = 0;
  for (const tensor of tensors) {
    const bytes = bytesOf(tensor);
    if (bytes > most) {
      shards.push([tensor]);
      continue;
    }
    if (size + bytes > most) {
      shards.push(current);
      [current, size] = [[], 0];
    }
    current.push(tensor);
    size += bytes;
  }
  return current.length > 0 ? [...shards, current] : shards;
}
