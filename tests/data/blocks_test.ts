import { assert, assertEquals, assertThrows } from "@std/assert";
import { DataError } from "@firn/train";
import { fromBlocks, toBlocks } from "@firn/train/data";
import { SCALE_CODES } from "../../core/data/nf4.ts";
import { NF4, rowLayout } from "../../kernels/blocks.ts";

const ROWS = 10, WIDTH = 70;
const recorded = JSON.parse(await Deno.readTextFile("tests/fixtures/blocks.json"));
const x = Float32Array.from({ length: ROWS * WIDTH }, (_, i) => {
  const row = Math.floor(i / WIDTH);
  return row === 3 ? 0 : (i * 7919 % 1009 - 504) / 512 * 2 ** (row % 5);
});
const rows = <T>(all: ArrayLike<T>, width: number): T[][] =>
  Array.from({ length: all.length / width }, (_, r) => Array.from(all).slice(r * width, (r + 1) * width));

Deno.test("codes and scales of int8 are those of Q8_0 that gguf computes with numpy", () => {
  const words = toBlocks(x, { stored: "int8", width: WIDTH }),
    { words: size, scales } = rowLayout("int8", WIDTH);
  assertEquals(
    rows(new Int8Array(words.buffer), 4 * size).map((row) => row.slice(0, WIDTH)),
    recorded.int8.codes,
  );
  const halves = rows(new Uint16Array(words.buffer), 2 * size);
  assertEquals(halves.map((row) => row.slice(2 * scales, 2 * scales + 3)), recorded.int8.scales);
});

Deno.test("codes, scales and their scales of nf4 are those of bitsandbytes in numpy", () => {
  const words = toBlocks(x, { stored: "nf4", width: WIDTH });
  const { words: size, scales, offset } = rowLayout("nf4", WIDTH),
    bytes = rows(new Uint8Array(words.buffer), 4 * size);
  const codes = bytes.map((row) => row.slice(0, WIDTH / 2).flatMap((byte) => [byte & 15, byte >> 4]));
  assertEquals(codes, recorded.nf4.codes);
  assertEquals(bytes.map((row) => row.slice(4 * scales, 4 * scales + 2)), recorded.nf4.scales);
  for (const row of rows(new Float32Array(words.buffer), size)) {
    assertEquals(row.slice(offset, offset + 2), [recorded.nf4.offset, recorded.nf4.top]);
  }
});

/** The nearest of some values, by trying all in float64. */
const nearest = (values: ArrayLike<number>, x: number): number =>
  Array.from(values).reduce((best, value) => Math.abs(value - x) < Math.abs(best - x) ? value : best);

Deno.test("values of blocks are those of a float64 reference, for rows that end amid a block", () => {
  // 384 blocks of nf4, which share two scales: the second from the middle of a row on.
  const width = 200,
    values = Float32Array.from({ length: 96 * width }, (_, i) => Math.sin(i * i) * (1 + i % 7));
  const blocksOf = (size: number): Float32Array[] =>
    rows(values, width).flatMap((row) =>
      Array.from(
        { length: Math.ceil(width / size) },
        (_, b) => Float32Array.from(row.slice(b * size, (b + 1) * size)),
      )
    );
  const top = (block: Float32Array): number => Math.max(...block.map(Math.abs));
  const int8 = blocksOf(32).flatMap((block) => {
    const scale = Math.f16round(top(block) / 127);
    return Array.from(block, (v) => Math.sign(v) * Math.round(Math.abs(v) / (top(block) / 127)) * scale);
  });
  const close = (seen: Float32Array, expected: readonly number[], share: number): void => {
    assertEquals(seen.length, expected.length);
    // A value between two codes may fall to either.
    const off = expected.filter((value, i) => Math.abs(value - seen[i]) > 1e-6).length;
    assert(off <= share * expected.length, `${off} of ${expected.length}`);
  };
  close(fromBlocks(toBlocks(values, { stored: "int8", width }), { stored: "int8", width }), int8, 0.001);

  const all = blocksOf(64), tops = all.map(top), mean = tops.reduce((a, b) => a + b) / tops.length;
  const scales = tops.map((value, i) => {
    const first = i - i % 256,
      most = Math.max(...tops.slice(first, first + 256).map((t) => Math.abs(t - mean)));
    return nearest(SCALE_CODES, (value - mean) / most) * most + mean;
  });
  const nf4 = all.flatMap((block, i) => Array.from(block, (v) => nearest(NF4, v / top(block)) * scales[i]));
  close(fromBlocks(toBlocks(values, { stored: "nf4", width }), { stored: "nf4", width }), nf4, 0.001);
});

Deno.test("int8 is stored again as the same words, and refuses magnitudes that its scales do not hold", () => {
  const options = { stored: "int8", width: WIDTH } as const, words = toBlocks(x, options);
  assertEquals(toBlocks(fromBlocks(words, options), options), words);
  const large = new Float32Array(3).fill(9e6);
  assertThrows(
    () => toBlocks(large, { stored: "int8", width: 3, name: "w" }),
    DataError,
    'Cannot store "w" as int8 as magnitudes must be below 8321040: value 0 is 9000000; load the model with another storage',
  );
});
