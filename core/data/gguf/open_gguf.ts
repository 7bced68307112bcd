/**
 * Reads GGUF files, the format of llama.cpp, one tensor at a time.
 *
 * @module
 */

import { InputError } from "../../errors.ts";
import type { FileSystemOptions } from "../../host/file_system.ts";
import { hostFileSystem } from "../../host/host_file_system.ts";
import { rangeOf, readAt } from "../row_range.ts";
import { invalid } from "../safetensors_header.ts";
import type { Weights } from "../weights.ts";
import { parseHead } from "./cursor.ts";
import { dequantize } from "./dequantize.ts";
import { type GgufHeader, parseHeader } from "./header.ts";

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
    const specOf = (name: string) => {
      const spec = specs.get(name);
      if (spec !== undefined) return spec;
      throw new InputError(`Cannot read tensor "${name}" as "${path}" has none of that name: see its names`);
    };
    const read: GgufFile["read"] = async (name, rows) => {
      const spec = specOf(name), begin = data + spec.begin;
      const [from, to] = rangeOf({ ...spec, name, path }, rows);
      return await readAt(file, { path, begin: begin + from, end: begin + to });
    };
    return {
      path,
      names: [...specs.keys()],
      metadata,
      specs,
      read,
      readF32: async (name, rows) => dequantize(await read(name, rows), specOf(name).dtype),
      [Symbol.asyncDispose]: () => file[Symbol.asyncDispose](),
    };
  } catch (error) {
    await file[Symbol.asyncDispose]();
    throw error;
  }
}
