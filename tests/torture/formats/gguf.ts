/**
 * GGUF files: the header with its metadata, and the blocks of tensors.
 *
 * @module
 */

import { loadTokenizer, memoryFileSystem } from "@firn/train/data";
import { companionFiles, loadModel, saveGguf } from "@firn/train/hub";
import { FirnError } from "@firn/train";
import type { Draw } from "../draw.ts";
import { mutateBytes } from "../mutate_bytes.ts";
import { checkSaved, useModel } from "./model.ts";
import { useTokenizer } from "./tokenizer.ts";
import { type Context, demand, type Format } from "./types.ts";

const FILE = "model.gguf", WHOLE = `${import.meta.dirname}/../../fixtures/gguf/${FILE}`;

/** About where the header of the file ends. */
const HEADER = 2600;

/** Numbers that stand for counts, lengths, types and places. */
const NUMBERS = [
  0n,
  1n,
  9n,
  255n,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 32n,
  2n ** 53n,
  2n ** 60n,
  2n ** 64n - 1n,
];

const make = ({ folder }: Context): Promise<void> => Deno.copyFile(WHOLE, `${folder}/${FILE}`);

async function load(context: Context): Promise<void> {
  const { folder } = context, gpu = await context.gpu(), path = `${folder}/${FILE}`;
  const model = await loadModel(gpu, path), size = model.source.vocab_size as number;
  await useModel(context, model);
  useTokenizer(await loadTokenizer(path, { model }), size);
  const files = await companionFiles(path);
  await checkSaved(gpu, model, files);
  const fileSystem = memoryFileSystem();
  try {
    await saveGguf(gpu, model, { path: "x.gguf", type: "q8_0", files, fileSystem });
  } catch (error) {
    if (error instanceof FirnError) return;
    throw error;
  }
  const again = await loadModel(gpu, "x.gguf", { fileSystem });
  demand(
    JSON.stringify(again.config) === JSON.stringify(model.config),
    "another configuration once it is saved",
  );
}

function mutateHeader(bytes: Uint8Array, draw: Draw): Uint8Array {
  const header = bytes.slice(0, HEADER), body = bytes.subarray(HEADER);
  const view = new DataView(header.buffer), join = (head: Uint8Array) => Uint8Array.from([...head, ...body]);
  switch (draw(5)) {
    case 0:
      return bytes.subarray(0, draw(bytes.length));
    case 1:
      return join(mutateBytes(header, draw));
    case 2:
      view.setUint32(draw(HEADER - 4), Number(BigInt.asUintN(32, NUMBERS[draw(NUMBERS.length)])), true);
      return join(header);
    case 3: // counts of tensors and keys
      view.setBigUint64(8 + 8 * draw(2), NUMBERS[draw(NUMBERS.length)], true);
      return join(header);
    default:
      view.setBigUint64(draw(HEADER - 8), NUMBERS[draw(NUMBERS.length)], true);
      return join(header);
  }
}

function mutateBody(bytes: Uint8Array, draw: Draw): Uint8Array {
  const header = bytes.subarray(0, HEADER), body = bytes.slice(HEADER);
  if (draw(3) > 0) return Uint8Array.from([...header, ...mutateBytes(body, draw)]);
  // Infinite, NaN or large, as f16.
  const at = draw(body.length - 2);
  new DataView(body.buffer).setUint16(at, [0x7c00, 0xfe00, 0x7bff, 0xffff][draw(4)], true);
  return Uint8Array.from([...header, ...body]);
}

/** The formats of a GGUF file. */
export const gguf: readonly Format[] = [
  { name: "GGUF header", count: 150, file: FILE, make, mutate: mutateHeader, load },
  { name: "GGUF body", count: 50, file: FILE, make, mutate: mutateBody, load },
];
