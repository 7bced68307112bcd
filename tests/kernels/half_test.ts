import { assertEquals } from "@std/assert";
import { f16Codes, numberOf, roundToHalf } from "../../kernels/half.ts";

/** Bits of float32: all ends of ranges and ties, and some in between. */
function samples(): Float32Array<ArrayBuffer> {
  const bits: number[] = [];
  for (let exponent = 0x60; exponent <= 0x90; exponent++) {
    for (
      const low of [
        0,
        1,
        0xfff,
        0x1000,
        0x1001,
        0x1fff,
        0x2fff,
        0x3000,
        0x3001,
        0x400000,
        0x7fefff,
        0x7ff000,
        0x7fffff,
      ]
    ) {
      bits.push(exponent << 23 | low);
    }
  }
  for (let i = 0; i < 20_000; i++) bits.push(Math.imul(i, 2654435761) & 0x7fffffff);
  const both = bits.flatMap((word) => [word, word | 0x80000000]);
  return new Float32Array(Uint32Array.from([0, 0x80000000, 0x7f800000, 0xff800000, 1, ...both]).buffer);
}

Deno.test("float16 without Float16Array rounds as that does, of every range and every tie", () => {
  const values = samples().filter((x) => !Number.isNaN(x));
  assertEquals(f16Codes(values), new Uint16Array(new Float16Array(values).buffer));
  for (const x of values) {
    const rounded = roundToHalf(x);
    if (!Object.is(rounded, Math.f16round(x))) assertEquals([x, rounded], [x, Math.f16round(x)]);
  }
  assertEquals(Number.isNaN(numberOf(f16Codes(new Float32Array([NaN]))[0])), true);
  for (const x of [1 + 2 ** -11, 1 + 2 ** -11 + 2 ** -40, 65519.999, 2 ** -25, 2 ** -25 * 1.0001]) {
    assertEquals(roundToHalf(x), Math.f16round(x));
  }
});

Deno.test("every code of float16 is the number that a Float16Array has for it", () => {
  const codes = Uint16Array.from({ length: 0x10000 }, (_, i) => i), native = new Float16Array(codes.buffer);
  assertEquals(Float32Array.from(codes, numberOf), Float32Array.from(native));
});
