/**
 * Values in fewer bits for other ranks, against the same in float64.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { fromBf16, toBf16 } from "../../core/data/floats.ts";
import {
  packChange,
  packMean,
  unpackChange,
  WIRE_BLOCK,
  WIRE_WORDS,
  type WireCode,
} from "../../kernels/wire.ts";
import { assertClose, blank, runKernel, values } from "./run_kernel.ts";

type Floats = Float32Array<ArrayBuffer>;
const BLOCKS = 3, ITEMS = BLOCKS * WIRE_BLOCK, CODES: readonly WireCode[] = ["bf16", "int8"];

/** What codes stand for: of each block by itself. */
function sentOf(code: WireCode, all: Floats): Floats {
  if (code === "bf16") return fromBf16(toBf16(all));
  return Float32Array.from(all, (value, i) => {
    const block = all.subarray(i - i % WIRE_BLOCK, i - i % WIRE_BLOCK + WIRE_BLOCK);
    const scale = block.reduce((top, other) => Math.max(top, Math.abs(other)), 0) / 127;
    return scale === 0 ? 0 : Math.round(value / scale) * scale;
  });
}

const plus = (a: Floats, b: Floats, sign = 1): Floats => a.map((value, i) => value + sign * b[i]);

async function pack(
  code: WireCode,
  { start, now, residual }: Readonly<Record<"start" | "now" | "residual", Floats>>,
) {
  const words = new Uint32Array(start.length / WIRE_BLOCK * WIRE_WORDS[code]);
  const kernel = packChange({ code, blocks: start.length / WIRE_BLOCK });
  const [left, blocks] = await runKernel(kernel, { inputs: [start, now], outputs: [residual, words] });
  return { left, blocks };
}

async function unpack(
  code: WireCode,
  { blocks, start }: { readonly blocks: Uint32Array<ArrayBuffer>; readonly start: Floats },
) {
  const kernel = unpackChange({ code, blocks: start.length / WIRE_BLOCK });
  const [now] = await runKernel(kernel, { inputs: [blocks, start], outputs: [blank(start.length)] });
  return now;
}

for (const code of CODES) {
  Deno.test(`${code}: a change and its residual are those of float64, and arrive at another rank`, async () => {
    const start = values(ITEMS, 1), now = values(ITEMS, 2), residual = values(ITEMS, 3);
    // A block of zeros, and one that is far smaller than the others.
    for (let i = 0; i < WIRE_BLOCK; i++) {
      now[i] = start[i],
        residual[i] = 0,
        now[WIRE_BLOCK + i] = 1e-3 * i,
        start[WIRE_BLOCK + i] = residual[WIRE_BLOCK + i] = 0;
    }
    const value = plus(plus(start, now, -1), residual), sent = sentOf(code, value);
    const { left, blocks } = await pack(code, { start, now, residual });
    assertClose(left, plus(value, sent, -1), { tolerance: 1e-6, what: "residual" });
    const zero = new Float32Array(ITEMS);
    assertClose(await unpack(code, { blocks, start: zero }), sent.map((x) => -x), {
      tolerance: 1e-6,
      what: "sent",
    });
    assertClose(await unpack(code, { blocks, start }), plus(start, sent, -1), {
      tolerance: 1e-6,
      what: "now",
    });
  });

  Deno.test(`${code}: the mean of three ranks, and what its code leaves for the next one`, async () => {
    const zero = new Float32Array(ITEMS), ranks = [1, 2, 3].map((seed) => values(ITEMS, seed));
    const packed = await Promise.all(
      ranks.map((now) => pack(code, { start: zero, now, residual: new Float32Array(ITEMS) })),
    );
    const all = new Uint32Array(packed.flatMap(({ blocks }) => [...blocks]));
    const sents = ranks.map((now) => sentOf(code, now));
    const mean = zero.map((_, i) => -sents.reduce((sum, sent) => sum + sent[i], 0) / 3);
    const before = values(ITEMS, 4), kernel = packMean({ code, blocks: BLOCKS, ranks: 3 });
    const words = new Uint32Array(BLOCKS * WIRE_WORDS[code]);
    const [left, blocks] = await runKernel(kernel, { inputs: [all], outputs: [before, words] });
    const sent = await unpack(code, { blocks, start: zero });
    const off = { tolerance: code === "int8" ? 1 / 127 : 1 / 256, what: "mean" };
    assertClose(sent, mean.map((x) => -x), off);
    assertClose(left, before.map((x, i) => x + 3 * (mean[i] + sent[i])), {
      tolerance: 1e-5,
      what: "residual",
    });
  });

  Deno.test(`${code}: a number that is not finite does not become one that is`, async () => {
    for (const bad of [NaN, Infinity, -Infinity]) {
      const zero = new Float32Array(WIRE_BLOCK), now = values(WIRE_BLOCK, 1);
      now[7] = bad;
      const { blocks } = await pack(code, { start: zero, now, residual: zero.slice() });
      const arrived = await unpack(code, { blocks, start: zero });
      assert(!Number.isFinite(arrived[7]), `${bad} became ${arrived[7]}`);
    }
  });
}

Deno.test("int8 takes a quarter of the bytes of f32, and bf16 half", () => {
  assertEquals(CODES.map((code) => WIRE_WORDS[code] / WIRE_BLOCK), [0.5, 65 / 256]);
});
