import { assertEquals, assertThrows } from "@std/assert";
import type { Kernel } from "../../kernels/kernel.ts";
import { matmul } from "../../kernels/matmul/matmul.ts";
import { rmsNorm } from "../../kernels/rms_norm.ts";
import { rotary } from "../../kernels/rotary.ts";
import { sharedMemory, sideBySide } from "../../kernels/side_by_side.ts";
import { type ArrayType, arrayType, bytesOfArray, textParts } from "../../kernels/text_parts.ts";
import { blank, type Data, runKernel, values } from "./run_kernel.ts";

/** A kernel with its arrays. */
interface Case {
  readonly kernel: Kernel;
  readonly inputs: readonly Data[];
  readonly outputs: readonly number[];
}

/** Runs kernels alone and in one launch, and compares all bits. */
async function assertAlike(cases: readonly Case[]): Promise<void> {
  const alone = [];
  for (const { kernel, inputs, outputs } of cases) {
    alone.push(...await runKernel(kernel, { inputs, outputs: outputs.map(blank) }));
  }
  const arrays: Data[] = [];
  const numberOf = (data: Data): number =>
    arrays.includes(data) ? arrays.indexOf(data) : arrays.push(data) - 1;
  const made = cases.map(({ outputs }) => outputs.map(blank));
  const { kernel, bindings } = sideBySide(
    cases.map(({ kernel, inputs }, k) => ({ kernel, bindings: [...inputs, ...made[k]].map(numberOf) })),
  );
  // Here the outputs stand between the inputs: what is only read comes back unchanged.
  const all = await runKernel(kernel, { inputs: [], outputs: bindings.map((b) => arrays[b]) });
  assertEquals(made.flat().map((data) => all[bindings.indexOf(numberOf(data))]), alone);
}

const [x, gain, table] = [values(6 * 64, 1), values(64, 2), values(6 * 16, 3)];

Deno.test("sideBySide computes the same bits as its kernels alone: workgroup memory, equal names, a shared input", async () => {
  const norm = rmsNorm({ rows: 6, width: 64, eps: 1e-5, threads: 32, saveScale: true });
  const other = rmsNorm({ rows: 3, width: 128, eps: 1e-5, threads: 32, saveScale: true });
  await assertAlike([
    { kernel: norm, inputs: [x, gain], outputs: [6 * 64, 6] },
    { kernel: other, inputs: [x, values(128, 4)], outputs: [3 * 128, 3] },
  ]);
});

Deno.test("sideBySide computes the same bits as its kernels alone: matrix products with structs", async () => {
  const variant = { kind: "tiled", bm: 32, bn: 32, bk: 16, tm: 4, tn: 4, split: 1 } as const;
  const sizes = { batch: 1, k: 16, transposeA: false, transposeB: true, variant } as const;
  const a = values(40 * 16, 5);
  await assertAlike([36, 64].map((n) => ({
    kernel: matmul({ ...sizes, m: 40, n }),
    inputs: [a, values(n * 16, n)],
    outputs: [40 * n],
  })));
});

Deno.test("sideBySide gives kernels of one text the grids and buffers of each", async () => {
  const sizes = { batch: 2, time: 3, dim: 32 };
  await assertAlike([2, 1].map((heads) => ({
    kernel: rotary({ ...sizes, heads }),
    inputs: [values(6 * heads * 32, heads), table, values(6 * 16, 7)],
    outputs: [6 * heads * 32],
  })));
});

Deno.test("sideBySide refuses kernels whose workgroups differ", () => {
  const kernels = ([32, 64] as const).map((threads) =>
    rmsNorm({ rows: 2, width: 64, eps: 1e-5, threads, saveScale: false })
  );
  assertThrows(
    () => sideBySide(kernels.map((kernel, i) => ({ kernel, bindings: [0, 1, 2 + i] }))),
    RangeError,
    'Cannot launch "rms_norm 2x64" and "rms_norm 2x64" side by side as their workgroups or texts differ in form',
  );
});

Deno.test("textParts takes no text with what it does not know", () => {
  const code = "@compute @workgroup_size(32) fn main() {}";
  assertEquals(textParts(code)?.threads, [32, 1, 1]);
  assertEquals(textParts(`var<private> x: u32;\n${code}`), null);
  assertEquals(textParts(code.replace("main", "other")), null);
});

Deno.test("arrayType reads arrays, vectors and structs", () => {
  const structs = [{ name: "Group", fields: "row: array<vec4<f32>, 8>, pad: vec4<f32>" }];
  const group = arrayType("array<Group, 3>", structs);
  assertEquals(group, { element: structs[0].fields, bytes: 9 * 16, sizes: [3] });
  assertEquals(bytesOfArray(group), 3 * 9 * 16);
  assertEquals(arrayType("array<array<vec2u, 64>, 2>", []), { element: "vec2u", bytes: 8, sizes: [2, 64] });
  assertEquals(arrayType("array<f32, SIZE>", []).bytes, Infinity);
});

Deno.test("sharedMemory lets kernels share arrays of one element, each as large as the largest needs it", () => {
  const array = (...sizes: number[]): ArrayType => ({ element: "f32", bytes: 4, sizes });
  assertEquals(sharedMemory([array(2, 9), array(4, 4)], [array(2, 7), array(4, 5)]), {
    arrays: [array(2, 9), array(4, 5)],
    places: [0, 1],
  });
  // Two arrays of one kernel stay apart, and so do arrays that would be larger together.
  assertEquals(sharedMemory([array(2, 9)], [array(2, 9), array(2, 9)]).arrays.length, 2);
  assertEquals(sharedMemory([array(1, 9)], [array(9, 1)]).arrays.length, 2);
});
