/**
 * Reads GGUF files, the format of llama.cpp, one tensor at a time.
 *
 * @module
 */

import type { FileSystemOptions } from "../../host/file_system.ts";
import { hostFileSystem } from "../../host/host_file_system.ts";
import { openWeights } from "../open_weights.ts";
import { invalid } from "../safetensors_header.ts";
import type { Weights, WeightSpec } from "../weights.ts";
import { parseHead } from "./cursor.ts";
import { dequantize } from "./dequantize.ts";
import { type GgufHeader, parseHeader } from "./header.ts";
import type { GgufDType } from "./types.ts";

type GgufSpec = WeightSpec & { readonly dtype: GgufDType };

/** An open GGUF file. Names are those of llama.cpp; shapes are outermost first. */
export interface GgufFile extends Weights, Pick<GgufHeader, "metadata" | "specs"> {
  readonly specs: GgufHeader["specs"];
}

/**
 * Opens a GGUF file and checks its header. No tensor is read.
 *
 * @param path The file
 * @param options The file system
 * @returns The open file; dispose of it with `await using`
 * @throws {NotFoundError} When there is no such file
 * @throws {DataError} When the header is not as the format says, or has a type that is not read
 */
export async function openGguf(
  path: string,
  { fileSystem = hostFileSystem() }: FileSystemOptions = {},
): Promise<GgufFile> {
  const file = await fileSystem.open(path);
  try {
    const { size } = file;
    const { metadata, specs, data } = await parseHead(file, {
      path,
      parse: (cursor) => parseHeader({ cursor, path, size }),
    });
    const parts = metadata["split.count"] ?? 0;
    if (typeof parts === "number" && parts > 1) {
      const seen = `it is one of ${parts}; join them: llama-gguf-split --merge FIRST.gguf OUT.gguf`;
      throw invalid(path, "a model must be one GGUF file", seen);
    }
    const tensors = openWeights<GgufSpec>(file, {
      path,
      data,
      specs,
      widen: (bytes, _, { dtype }) => dequantize(bytes, dtype),
    });
    return { ...tensors, metadata };
  } catch (error) {
    await file[Symbol.asyncDispose]();
    throw error;
  }
}
