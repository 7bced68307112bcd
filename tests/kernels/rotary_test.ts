import { assertThrows } from "@std/assert";
import { rotary } from "../../kernels/rotary.ts";
import { assertClose, blank, runKernel, values } from "./run_kernel.ts";

interface Turn {
  readonly time: number;
  readonly heads: number;
  readonly dim: number;
  readonly turned: number;
  readonly offset: number;
}

/** Turns element pairs (i, i + turned / 2) by position / 10000^(2i / turned), in float64. */
function reference(x: ArrayLike<number>, { time, heads, dim, turned, offset }: Turn): Float64Array {
  const y = Float64Array.from(x);
  for (let head = 0; head < x.length / dim; head++) {
    const position = Math.floor(head / heads) % time + offset;
    for (let i = 0; i < turned / 2; i++) {
      const angle = position / 10000 ** (2 * i / turned);
      const [low, high] = [head * dim + i, head * dim + i + turned / 2];
      y[low] = x[low] * Math.cos(angle) - x[high] * Math.sin(angle);
      y[high] = x[high] * Math.cos(angle) + x[low] * Math.sin(angle);
    }
  }
  return y;
}

function tables(positions: number, turned: number) {
  const angles = Array.from(
    { length: positions * turned / 2 },
    (_, n) => Math.floor(n / (turned / 2)) / 10000 ** (2 * (n % (turned / 2)) / turned),
  );
  return { cos: Float32Array.from(angles, Math.cos), sin: Float32Array.from(angles, Math.sin) };
}

for (const [time, dim, turned] of [[5, 8, 8], [33, 10, 10], [5, 10, 4], [3, 24, 8], [1, 6, 2]] as const) {
  Deno.test(`rotary turns ${turned} of ${dim} elements, and back`, async () => {
    const [batch, heads] = [2, 3];
    const size = batch * time * heads * dim;
    const x = values(size, 1);
    const { cos, sin } = tables(time + 2, turned);
    const options = { batch, time, heads, dim, rotaryDim: turned };
    const [y] = await runKernel(rotary({ ...options, offset: 2 }), {
      inputs: [x, cos, sin],
      outputs: [blank(size)],
    });
    // Two products of numbers below one: a few units of 6e-8.
    assertClose(y, reference(x, { ...options, turned, offset: 2 }), { tolerance: 1e-6, what: "y" });
    const [back] = await runKernel(rotary({ ...options, offset: "input", inverse: true }), {
      inputs: [y, cos, sin, new Uint32Array([2])],
      outputs: [blank(size)],
    });
    assertClose(back, x, { tolerance: 2e-6, what: "turned back" });
  });
}

Deno.test("rotary refuses an odd count of turned elements", () => {
  assertThrows(() => rotary({ batch: 1, time: 1, heads: 1, dim: 7 }), RangeError, '"rotaryDim"');
});
