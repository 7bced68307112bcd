import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { normal, normalValues, threefry2x32, uniform, uniformValues } from "../../kernels/random.ts";
import { assertClose, blank, runKernel } from "./run_kernel.ts";

const ONES = 0xffffffff;

Deno.test("threefry2x32 gives the known answers of its authors", () => {
  assertEquals(threefry2x32([0, 0], [0, 0]), [0x6b200159, 0x99ba4efe]);
  assertEquals(threefry2x32([ONES, ONES], [ONES, ONES]), [0x1cb996fc, 0xbb002be7]);
  assertEquals(threefry2x32([0x13198a2e, 0x03707344], [0x243f6a88, 0x85a308d3]), [0xc4923a9c, 0x483df7a0]);
});

Deno.test("uniform and uniformValues give the same bits", async () => {
  const key = [0x13198a2e, ONES] as const;
  for (const size of [1, 7, 1024]) {
    for (const step of [0, 3]) {
      const eachStep = step > 0;
      const [out] = await runKernel(uniform({ size, eachStep }), {
        inputs: [new Uint32Array(key), ...(eachStep ? [new Float32Array([step])] : [])],
        outputs: [blank(size)],
      });
      assertEquals(out, uniformValues({ size, key, step }));
    }
  }
});

Deno.test("normal and normalValues agree", async () => {
  const key = [7, 0] as const;
  const size = 2001;
  const [out] = await runKernel(normal({ size }), {
    inputs: [new Uint32Array(key)],
    outputs: [blank(size)],
  });
  // WGSL grants sine and cosine an error of 2^-11; the radius is below 6.
  assertClose(out, normalValues({ size, key }), { tolerance: 6 / 2 ** 11, what: "normal" });
});

Deno.test("uniformValues fills [0, 1) evenly, and seeds, streams and steps differ", () => {
  const size = 20000;
  const draw = uniformValues({ size, key: [1, 2] });
  assert(draw.every((x) => x >= 0 && x < 1));
  const bins = new Array(10).fill(0);
  for (const x of draw) bins[Math.floor(10 * x)]++;
  // Each bin expects 2000 with a deviation of 42.
  assert(bins.every((count) => Math.abs(count - 2000) < 5 * 42), `${bins}`);
  assertNotEquals(draw, uniformValues({ size, key: [1, 3] }));
  assertNotEquals(draw, uniformValues({ size, key: [2, 2] }));
  assertNotEquals(draw, uniformValues({ size, key: [1, 2], step: 1 }));
});

Deno.test("normalValues has mean 0 and deviation 1", () => {
  const size = 40000;
  const draw = normalValues({ size, key: [3, 4] });
  const mean = draw.reduce((a, b) => a + b, 0) / size;
  const variance = draw.reduce((a, b) => a + (b - mean) ** 2, 0) / size;
  // Deviations of these estimates: 1 / sqrt(n) = 0.005 and sqrt(2 / n) = 0.007.
  assert(Math.abs(mean) < 5 * 0.005, `${mean}`);
  assert(Math.abs(variance - 1) < 5 * 0.0071, `${variance}`);
});
