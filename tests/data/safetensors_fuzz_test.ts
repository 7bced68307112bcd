import { assert } from "@std/assert";
import { threefry2x32 } from "../../kernels/random.ts";
import { openSafetensors } from "../../core/data/safetensors.ts";
import { writeSafetensors } from "../../core/data/safetensors_write.ts";
import { inFolder } from "./files.ts";

const SEED = 20;
const MUTATIONS = 1200;
/** Far above the 1 ms that a small file takes, far below what a header of impossible size would take to read. */
const LIMIT_MS = 2000;

type Draw = (below: number) => number;

function drawFrom(mutation: number): Draw {
  let index = 0;
  return (below) => threefry2x32([SEED, mutation], [index++, 0])[0] % below;
}

const NUMBERS = [
  "-1",
  "0",
  "1",
  "3",
  "1.5",
  "1e400",
  "-0",
  "4294967296",
  "9007199254740993",
  "null",
  '"4"',
  "[]",
  "1e308",
];
const WORDS = [
  "F64",
  "F8_E5M2",
  "",
  "shape",
  "dtype",
  "data_offsets",
  "__metadata__",
  "__proto__",
  "embed",
  "\\u0065mbed",
];

function replaceNth(
  text: string,
  pattern: RegExp,
  replacement: (found: string) => string,
  draw: Draw,
): string {
  const found = [...text.matchAll(pattern)];
  if (found.length === 0) return text;
  const { 0: match, index } = found[draw(found.length)];
  return text.slice(0, index) + replacement(match) + text.slice(index + match.length);
}

/** Edits of the header's text. */
const EDITS: readonly ((text: string, draw: Draw) => string)[] = [
  (text, draw) => replaceNth(text, /-?\d+/g, () => NUMBERS[draw(NUMBERS.length)], draw),
  (text, draw) => replaceNth(text, /\d+/g, (found) => String(Number(found) + 1 + draw(9)), draw),
  (text, draw) => replaceNth(text, /"[^"]*"/g, () => `"${WORDS[draw(WORDS.length)]}"`, draw),
  (text, draw) =>
    replaceNth(text, /"[^"]*":(\{[^{}]*\}|\[[^\]]*\]|"[^"]*")/g, (found) => `${found},${found}`, draw),
  (text, draw) =>
    replaceNth(text, /\[(\d+),(\d+)\]/g, (found) => found.replace(/(\d+),(\d+)/, "$2,$1"), draw),
  (text, draw) => replaceNth(text, /[{}[\]:,"]/g, () => '{}[]:," '[draw(8)], draw),
  (text, draw) => replaceNth(text, /[{}[\]:,"]/g, () => "", draw),
];

function editHeader(bytes: Uint8Array, draw: Draw): Uint8Array {
  const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const text = new TextDecoder().decode(bytes.subarray(8, 8 + length));
  const json = new TextEncoder().encode(EDITS[draw(EDITS.length)](text, draw));
  const result = new Uint8Array(8 + json.length + bytes.length - 8 - length);
  new DataView(result.buffer).setBigUint64(0, BigInt(json.length), true);
  result.set(json, 8);
  result.set(bytes.subarray(8 + length), 8 + json.length);
  return result;
}

/** Ways to damage a file. */
const DAMAGES: readonly ((bytes: Uint8Array<ArrayBuffer>, draw: Draw) => Uint8Array)[] = [
  (bytes, draw) => (bytes[draw(bytes.length)] ^= 1 << draw(8), bytes),
  (bytes, draw) => (bytes[draw(8)] ^= 1 << draw(8), bytes),
  (bytes, draw) => bytes.subarray(0, draw(bytes.length)),
  (bytes, draw) => new Uint8Array([...bytes, ...new Uint8Array(1 + draw(16))]),
  (bytes, draw) => {
    const lengths = [0n, 1n, 100_000_001n, 2n ** 32n, 2n ** 53n + 1n, 2n ** 64n - 1n];
    new DataView(bytes.buffer).setBigUint64(0, lengths[draw(lengths.length)], true);
    return bytes;
  },
  editHeader,
  editHeader,
  editHeader,
];

async function readFully(path: string): Promise<void> {
  await using file = await openSafetensors(path);
  for (const name of file.names) await file.read(name);
  for (const name of file.names) await file.readF32(name);
}

Deno.test("openSafetensors reads or refuses every damaged file, with its name and in time", async () => {
  await inFolder(async (folder) => {
    await writeSafetensors(`${folder}/whole`, [
      { name: "embed", dtype: "F32", shape: [4, 3], data: new Float32Array(12).fill(0.5) },
      { name: "norm", dtype: "BF16", shape: [5], data: new Uint16Array(5) },
      { name: "ids", dtype: "I64", shape: [2], data: new BigInt64Array([1n, 2n]) },
      { name: "empty", dtype: "U8", shape: [0], data: new Uint8Array() },
    ], { metadata: { format: "pt" } });
    const whole = await Deno.readFile(`${folder}/whole`);
    let refused = 0;
    for (let mutation = 0; mutation < MUTATIONS; mutation++) {
      const draw = drawFrom(mutation);
      const path = `${folder}/damaged`;
      await Deno.writeFile(path, DAMAGES[draw(DAMAGES.length)](whole.slice(), draw));
      const start = performance.now();
      try {
        await readFully(path);
      } catch (error) {
        refused++;
        assert(error instanceof Error && error.message.includes(path), `mutation ${mutation}: ${error}`);
        assert(error.message.startsWith("Cannot read "), `mutation ${mutation}: ${error}`);
      }
      const took = performance.now() - start;
      assert(took < LIMIT_MS, `mutation ${mutation} took ${took} ms`);
    }
    // Flipped bits of data and edits that change nothing are no damage; most of the rest must be seen.
    assert(refused > MUTATIONS / 2 && refused < MUTATIONS, `${refused} refused`);
  });
});
