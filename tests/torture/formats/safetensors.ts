/**
 * Safetensors files by themselves.
 *
 * @module
 */

import { openSafetensors, writeSafetensors } from "@firn/train/data";
import { FirnError } from "@firn/train";
import { mutateBytes } from "../mutate_bytes.ts";
import { joinFile, mutateBody, mutateHeader, splitFile } from "../mutate_safetensors.ts";
import { type Context, demand, type Format } from "./types.ts";

const FILE = "x.safetensors";

async function make({ folder }: Context): Promise<void> {
  await writeSafetensors(`${folder}/${FILE}`, [
    { name: "embed", dtype: "F32", shape: [4, 3], data: new Float32Array(12).fill(0.5) },
    { name: "norm", dtype: "BF16", shape: [5], data: new Uint16Array(5) },
    { name: "ids", dtype: "I64", shape: [2], data: new BigInt64Array([1n, 2n]) },
    { name: "empty", dtype: "U8", shape: [0], data: new Uint8Array() },
  ], { metadata: { format: "pt" } });
}

async function load({ folder }: Context): Promise<void> {
  const path = `${folder}/${FILE}`, bytes = await Deno.readFile(path);
  await using file = await openSafetensors(path);
  const { body, header } = splitFile(bytes);
  const listed = Object.keys(JSON.parse(header)).filter((name) => name !== "__metadata__");
  demand(listed.toSorted().join() === file.names.toSorted().join(), `tensors ${file.names} of ${listed}`);
  let covered = 0;
  for (const name of file.names) {
    const { begin, end, shape } = file.specs.get(name)!, stored = await file.read(name);
    demand(stored.toHex() === body.subarray(begin, end).toHex(), `other bytes for ${name}`);
    covered += end - begin;
    try {
      const values = await file.readF32(name);
      demand(values.length === shape.reduce((a, b) => a * b, 1), `${values.length} values for [${shape}]`);
    } catch (error) {
      if (!(error instanceof FirnError)) throw error;
    }
  }
  demand(covered === body.length, `tensors of ${covered} bytes in ${body.length}`);
}

/** The header, its length, and the ends of the file. */
export const header: Format = {
  name: "safetensors header",
  count: 130,
  file: FILE,
  make,
  mutate: (bytes, draw) => {
    if (draw(4) > 0) return mutateHeader(bytes, draw);
    const { header, body } = splitFile(bytes);
    return joinFile(new TextDecoder().decode(mutateBytes(new TextEncoder().encode(header), draw)), body);
  },
  load,
};

/** The values. */
export const body: Format = {
  name: "safetensors body",
  count: 50,
  file: FILE,
  make,
  mutate: mutateBody,
  load,
};
