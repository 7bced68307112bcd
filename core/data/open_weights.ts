/**
 * The tensors of a file whose header says where each lies.
 *
 * @module
 */

import { InputError } from "../errors.ts";
import type { OpenFile } from "../host/file_system.ts";
import { rangeOf, readAt } from "./row_range.ts";
import type { Weights, WeightSpec } from "./weights.ts";

/** What the header says, and how values are widened. */
export interface WeightsLayout<S extends WeightSpec> {
  /** Path of the file. */
  readonly path: string;
  /** First byte after the header. */
  readonly data: number;
  /** Type, shape and byte range of every tensor. */
  readonly specs: ReadonlyMap<string, S>;
  /** The values of stored bytes. */
  widen(bytes: Uint8Array<ArrayBuffer>, name: string, spec: S): Float32Array<ArrayBuffer>;
}

/**
 * Tensors of an open file. The file is closed with them.
 *
 * @param file The file
 * @param layout Its layout
 * @returns The tensors
 */
export function openWeights<S extends WeightSpec>(
  file: OpenFile,
  { path, data, specs, widen }: WeightsLayout<S>,
): Omit<Weights, "specs"> & Pick<WeightsLayout<S>, "specs"> {
  function specOf(name: string): S {
    const spec = specs.get(name);
    if (spec !== undefined) return spec;
    throw new InputError(`Cannot read tensor "${name}" as "${path}" has none of that name: see its names`);
  }
  const read: Weights["read"] = async (name, rows) => {
    const spec = specOf(name), begin = data + spec.begin, [from, to] = rangeOf({ ...spec, name, path }, rows);
    return await readAt(file, { path, begin: begin + from, end: begin + to });
  };
  return {
    path,
    names: [...specs.keys()],
    specs,
    read,
    readF32: async (name, rows) => widen(await read(name, rows), name, specOf(name)),
    [Symbol.asyncDispose]: () => file[Symbol.asyncDispose](),
  };
}
