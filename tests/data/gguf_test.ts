import { assertEquals, assertRejects } from "@std/assert";
import { DataError, InputError } from "@firn/train";
import { loadTokenizer, memoryFileSystem } from "@firn/train/data";
import { dequantize } from "../../core/data/gguf/dequantize.ts";
import { openGguf } from "../../core/data/gguf/open_gguf.ts";
import { quantize } from "../../core/data/gguf/quantize.ts";
import type { BlockDType } from "../../core/data/gguf/types.ts";
import { type TypedValue, writeGguf } from "../../core/data/gguf/write_gguf.ts";

const FOLDER = `${import.meta.dirname}/../fixtures/gguf`;

interface Recorded {
  readonly bytes: string;
  readonly values: string;
}

const BLOCKS: {
  readonly dequantized: Readonly<Record<BlockDType, Recorded>>;
  readonly quantized: { readonly Q8_0: Recorded };
} = JSON.parse(Deno.readTextFileSync(`${FOLDER}/blocks.json`));

const bytesOf = (base64: string): Uint8Array<ArrayBuffer> =>
  Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
const bitsOf = (values: Float32Array): Uint32Array =>
  new Uint32Array(values.buffer, values.byteOffset, values.length);

for (const [dtype, { bytes, values }] of Object.entries(BLOCKS.dequantized)) {
  Deno.test(`blocks of ${dtype} have the values of the package gguf, bit for bit`, () => {
    const expected = new Float32Array(bytesOf(values).buffer);
    assertEquals(bitsOf(dequantize(bytesOf(bytes), dtype as BlockDType)), bitsOf(expected));
  });
}

Deno.test("values become the blocks of Q8_0 of the package gguf, bit for bit", () => {
  const { bytes, values } = BLOCKS.quantized.Q8_0;
  assertEquals(quantize(new Float32Array(bytesOf(values).buffer), "Q8_0"), bytesOf(bytes));
});

Deno.test("the tokenizer of a GGUF file cuts, merges and begins texts as its metadata says", async () => {
  const tokenizer = await loadTokenizer(`${FOLDER}/model.gguf`);
  const { bos, eos, stop, before, after, vocabSize } = tokenizer;
  assertEquals({ bos, eos, stop, before, after, vocabSize }, {
    bos: 0,
    eos: 0,
    stop: [0],
    before: [0],
    after: [],
    vocabSize: 36,
  });
  const text = "in the <tool>inn12", ids = tokenizer.encode(text);
  // Digits stand alone, and an added token is found in the text.
  assertEquals(ids, [35, 34, 28, 1, 35, 15, 30, 31]);
  assertEquals(tokenizer.decode(ids), text);
  assertEquals(tokenizer.encode("<|end|>[PAD38]".slice(0, 7)), [0]);
});

interface Written {
  readonly metadata?: Readonly<Record<string, TypedValue>>;
  readonly spoil?: (bytes: Uint8Array<ArrayBuffer>, view: DataView) => Uint8Array;
}

/** Opens a file with two tensors, damaged. */
async function open({ metadata = {}, spoil = (bytes) => bytes }: Written) {
  const fileSystem = memoryFileSystem();
  const data = (count: number) => () => new Uint8Array(new Float32Array(count).fill(count).buffer);
  await writeGguf("x.gguf", {
    metadata: { "general.architecture": ["string", "llama"], ...metadata },
    tensors: [
      { name: "a", dtype: "F32", shape: [3, 2], data: data(6) },
      { name: "b", dtype: "F32", shape: [5], data: data(5) },
    ],
    fileSystem,
  });
  const bytes = await fileSystem.read("x.gguf");
  await fileSystem.write("x.gguf", spoil(bytes, new DataView(bytes.buffer)));
  return await openGguf("x.gguf", { fileSystem });
}

Deno.test("what writeGguf writes is what openGguf reads: every type of metadata, shapes, values", async () => {
  const metadata: Record<string, TypedValue> = {
    u8: ["u8", 200],
    i8: ["i8", -100],
    u16: ["u16", 60000],
    i16: ["i16", -30000],
    u32: ["u32", 4e9],
    i32: ["i32", -2e9],
    u64: ["u64", 2 ** 53 - 1],
    i64: ["i64", -(2 ** 53 - 1)],
    f32: ["f32", 0.5],
    f64: ["f64", 0.1],
    bool: ["bool", true],
    string: ["string", "Größe \u0000 🙂"],
    strings: ["string", ["", "a", "é"]],
    numbers: ["i32", [1, -2, 3]],
    flags: ["bool", [true, false]],
    none: ["f32", []],
  };
  await using file = await open({ metadata });
  const { "general.architecture": _, ...read } = file.metadata;
  assertEquals(read, Object.fromEntries(Object.entries(metadata).map(([key, [, value]]) => [key, value])));
  assertEquals([...file.specs].map(([name, { dtype, shape }]) => [name, dtype, shape]), [
    ["a", "F32", [3, 2]],
    ["b", "F32", [5]],
  ]);
  assertEquals(await file.readF32("a", { from: 1, to: 3 }), new Float32Array(4).fill(6));
  assertEquals(await file.readF32("b"), new Float32Array(5).fill(5));
  await assertRejects(() => file.read("c"), InputError, '"c"');
});

// 24 bytes of header, then the key: its length, "general.architecture", type, length, "llama"; then the tensors.
const KEY = 24, TYPE = KEY + 8 + 20, VALUE = TYPE + 4, A = VALUE + 8 + 5, B = A + 8 + 1 + 4 + 16 + 4 + 8;
const HUGE = 2n ** 60n;

const BROKEN: readonly (readonly [string, Written, string])[] = [
  ["other first bytes", { spoil: (b) => b.with(0, 0x50) }, "GGUF"],
  ["version 1", { spoil: (b) => b.with(4, 1) }, "version"],
  ["another byte order", { spoil: (b) => b.with(4, 0).with(7, 3) }, "big-endian"],
  ["2^60 tensors", { spoil: (b, v) => (v.setBigUint64(8, HUGE, true), b) }, "tensors"],
  ["2^60 keys", { spoil: (b, v) => (v.setBigUint64(16, HUGE, true), b) }, "keys"],
  ["a key of 4 GB", { spoil: (b, v) => (v.setBigUint64(KEY, 2n ** 32n, true), b) }, "bytes"],
  ["a text of 4 GB", { spoil: (b, v) => (v.setBigUint64(VALUE, 2n ** 32n, true), b) }, "bytes"],
  ["a text that is no UTF-8", { spoil: (b) => b.with(VALUE + 8, 0xff) }, "UTF-8"],
  ["a type of metadata that there is not", { spoil: (b) => b.with(TYPE, 13) }, "type"],
  ["a list in a list", {
    metadata: { list: ["u32", [1, 2, 3]] },
    spoil: (b, v) => (v.setUint32(A + 8 + 4 + 4, 9, true), b),
  }, "list of plain values"],
  ["a list of 2^60", {
    metadata: { list: ["u32", [1, 2, 3]] },
    spoil: (b, v) => (v.setBigUint64(A + 8 + 4 + 4 + 4, HUGE, true), b),
  }, "elements"],
  ["five axes", { spoil: (b) => b.with(A + 9, 5) }, "axes"],
  ["a size of 0", { spoil: (b, v) => (v.setBigUint64(A + 13, 0n, true), b) }, "whole blocks"],
  ["a size of 2^60", { spoil: (b, v) => (v.setBigUint64(A + 13, HUGE, true), b) }, "whole blocks"],
  ["a type of blocks that rows do not fit", { spoil: (b) => b.with(A + 29, 8) }, "whole blocks of 32"],
  ["a type of tensors that is not read", { spoil: (b) => b.with(A + 29, 10) }, "Q2_K; convert"],
  ["a tensor at another place", { spoil: (b) => b.with(B + 8 + 1 + 4 + 8 + 4, 64) }, "gap or an overlap"],
  ["two tensors of one name", { spoil: (b) => b.with(B + 8, 0x61) }, "twice"],
  ["fewer tensors than it has", { spoil: (b) => b.with(8, 1) }, "fill the file"],
  ["its end cut off", { spoil: (b) => b.subarray(0, b.length - 13) }, "cut short"],
  ["its header cut off", { spoil: (b) => b.subarray(0, A + 10) }, "cut short"],
  ["nothing", { spoil: () => new Uint8Array() }, "cut short"],
  ["an odd alignment", { metadata: { "general.alignment": ["u32", 12] } }, "multiple of 8"],
  ["one of several parts", { metadata: { "split.count": ["u16", 3] } }, "llama-gguf-split"],
];

for (const [what, written, seen] of BROKEN) {
  Deno.test(`openGguf refuses a file with ${what}`, async () => {
    const error = await assertRejects(() => open(written), DataError, seen);
    assertEquals(error.message.includes('"x.gguf"'), true);
  });
}

Deno.test("openGguf refuses a header cut anywhere, and never takes it for a shorter one", async () => {
  const metadata: Record<string, TypedValue> = { list: ["string", ["ab", "c"]], number: ["f64", 1] };
  const whole = (await (async () => {
    let length = 0;
    await using _ = await open({ metadata, spoil: (bytes) => (length = bytes.length, bytes) });
    return length;
  })()) - 12;
  for (let end = 0; end < whole; end++) {
    await assertRejects(() => open({ metadata, spoil: (bytes) => bytes.subarray(0, end) }), DataError);
  }
});
