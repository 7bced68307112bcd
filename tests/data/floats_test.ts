import { assert, assertEquals } from "@std/assert";
import { fromBf16, fromF16, toBf16, toF16 } from "../../core/data/floats.ts";

const CODES = Uint16Array.from({ length: 65536 }, (_, code) => code);

/** The value of a code by the definition of the formats: sign, exponent, fraction. */
function valueOf(
  code: number,
  { exponentBits, fractionBits }: Record<"exponentBits" | "fractionBits", number>,
): number {
  const sign = code >>> 15 === 1 ? -1 : 1;
  const exponent = (code >>> fractionBits) & (2 ** exponentBits - 1);
  const fraction = (code & (2 ** fractionBits - 1)) / 2 ** fractionBits;
  const bias = 2 ** (exponentBits - 1) - 1;
  if (exponent === 2 ** exponentBits - 1) return fraction === 0 ? sign * Infinity : NaN;
  return exponent === 0 ? sign * fraction * 2 ** (1 - bias) : sign * (1 + fraction) * 2 ** (exponent - bias);
}

const FORMATS = [
  { name: "Bf16", to: toBf16, from: fromBf16, exponentBits: 8, fractionBits: 7 },
  { name: "F16", to: toF16, from: fromF16, exponentBits: 5, fractionBits: 10 },
];

for (const { name, to, from, ...format } of FORMATS) {
  Deno.test(`from${name} widens all 65536 codes to their value`, () => {
    const values = from(CODES);
    for (const code of CODES) {
      assert(Object.is(values[code], valueOf(code, format)), `code ${code}: ${values[code]}`);
    }
  });

  Deno.test(`to${name} gives back all 65536 codes, and NaN for NaN`, () => {
    const values = from(CODES);
    const codes = to(values);
    for (const code of CODES) {
      if (Number.isNaN(values[code])) {
        assert(Number.isNaN(from(codes.subarray(code, code + 1))[0]), `code ${code}`);
      } else assertEquals(codes[code], code);
    }
  });

  Deno.test(`to${name} rounds halves to even and the rest to nearest, between all neighbours`, () => {
    const infinity = (2 ** format.exponentBits - 1) << format.fractionBits;
    const values = from(CODES);
    for (let code = 0; code < infinity - 1; code++) {
      // Half of two neighbours has one bit more than either, so float32 holds it and its own neighbours.
      const half = (values[code] + values[code + 1]) / 2;
      const bits = new Uint32Array(new Float32Array([half]).buffer)[0];
      const [below, above] = new Float32Array(new Uint32Array([bits - 1, bits + 1]).buffer);
      const even = code % 2 === 0 ? code : code + 1;
      assertEquals([...to(new Float32Array([below, half, above, -half]))], [
        code,
        even,
        code + 1,
        even + 0x8000,
      ]);
    }
  });

  Deno.test(`to${name} makes values out of range infinite and keeps NaN with any payload`, () => {
    const infinity = (2 ** format.exponentBits - 1) << format.fractionBits;
    const largest = new Float32Array([3.4028234663852886e38, -3.4028234663852886e38, Infinity, -Infinity]);
    assertEquals([...to(largest)], [infinity, infinity + 0x8000, infinity, infinity + 0x8000]);
    const payloads = new Float32Array(
      new Uint32Array([0x7f800001, 0xffffffff, 0x7fc00000, 0x7f80ffff]).buffer,
    );
    assert(from(to(payloads)).every(Number.isNaN));
  });
}

Deno.test("toBf16 and fromF16 read views that begin inside their buffer", () => {
  assertEquals([...toBf16(new Float32Array([0, 1, 2]).subarray(1))], [0x3f80, 0x4000]);
  assertEquals([...fromF16(new Uint16Array([0, 0x3c00]).subarray(1))], [1]);
});
