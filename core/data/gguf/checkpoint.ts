/**
 * The tensors of a GGUF file as a folder of Hugging Face has them: by its names, rows of queries and keys in its order.
 *
 * @module
 */

import { InputError } from "../../errors.ts";
import { rangeOf, type RowRange } from "../row_range.ts";
import type { Weights } from "../weights.ts";
import { dequantize } from "./dequantize.ts";
import type { GgufDType } from "./types.ts";
import { nameOf, ROPE_FACTORS } from "./names.ts";
import type { GgufFile } from "./open_gguf.ts";
import { halvesApart, isInterleaved } from "./rotary_rows.ts";

/**
 * Shows a file under the names of Hugging Face. A tensor without one keeps its name.
 *
 * @param file The file
 * @param options `architecture` of the model, and the rows of a head
 * @returns The tensors; disposing of the file disposes of them
 */
export function underNames(
  file: GgufFile,
  { architecture, headDim }: { readonly architecture: string; readonly headDim: number },
): Weights {
  const ggufNames = new Map(
    file.names.filter((gguf) => gguf !== ROPE_FACTORS).map((gguf) => [nameOf(gguf) ?? gguf, gguf]),
  );
  const find = (name: string): string => {
    const gguf = ggufNames.get(name);
    if (gguf !== undefined) return gguf;
    throw new InputError(
      `Cannot read tensor "${name}" as "${file.path}" has none of that name: see its names`,
    );
  };
  async function read(name: string, rows?: RowRange): Promise<Uint8Array<ArrayBuffer>> {
    const gguf = find(name), spec = file.specs.get(gguf)!, [all] = spec.shape;
    if (!isInterleaved(architecture, name) || all % headDim !== 0) return await file.read(gguf, rows);
    const [begin, end] = rangeOf({ ...spec, name, path: file.path }, rows),
      { from, to } = rows ?? { from: 0, to: all };
    const heads = { from: from - from % headDim, to: Math.ceil(to / headDim) * headDim };
    const rowBytes = (spec.end - spec.begin) / all;
    const ordered = halvesApart(await file.read(gguf, heads), { headDim, rowBytes });
    const first = begin - heads.from * rowBytes;
    return end - begin === ordered.length ? ordered : ordered.slice(first, first + end - begin);
  }
  return {
    path: file.path,
    names: [...ggufNames.keys()],
    specs: new Map([...ggufNames].map(([name, gguf]) => [name, file.specs.get(gguf)!])),
    read,
    readF32: async (name, rows) =>
      dequantize(await read(name, rows), file.specs.get(find(name))!.dtype as GgufDType),
    [Symbol.asyncDispose]: () => file[Symbol.asyncDispose](),
  };
}
