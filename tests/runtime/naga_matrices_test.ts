/**
 * Matrix units in naga's dialect, which Deno refuses so far: its compiler knows the words, and all else in the kernels.
 *
 * @module
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { openGpu } from "@firn/train";
import { NAGA_MATRICES } from "../../core/runtime/features.ts";
import { nagaMatrices } from "../../core/runtime/naga_matrices.ts";
import { attentionTiling } from "../../kernels/attention/tiling.ts";
import { matmul } from "../kernels/matmul_reference.ts";
import type { Matmul } from "../../kernels/matmul/types.ts";
import { matmulVariants } from "../../kernels/matmul/variants.ts";
import { matrixWords } from "../../kernels/matrix_words.ts";
import { matrixProducts } from "../../kernels/matmul/matrix_products.ts";
import { requestDevice } from "../../core/runtime/features.ts";

const VARIANT = {
  kind: "matrix",
  ...{ bm: 32, bn: 32, bk: 32, wm: 16, wn: 16, um: 16, un: 16, uk: 16, lanes: 32, dialect: "naga" },
} as const;

/** Kernels with all that they may hold: one tile and two on their way into registers, shared sums, operands of f16, f32 and bf16, odd sizes. */
const KERNELS = ([
  [{ transposeB: true, storedA: "f16", storedB: "f16" }, { ahead: 1, split: 1 }],
  [{ transposeA: true, storedA: "f16", storedB: "f16" }, { ahead: 2, split: 1 }],
  [{ storedA: "f32", storedB: "bf16" }, { ahead: 1, split: 2 }],
  [{ m: 33, n: 17, k: 53, storedA: "f16", storedB: "f32" }, { ahead: 1, split: 1 }],
] as const).map(([product, choice]) => {
  const whole = { batch: 2, m: 64, n: 64, k: 64, transposeA: false, transposeB: false, ...product };
  return matmul({ ...whole, variant: { ...VARIANT, ...choice } } as Matmul).code;
});

const TYPE = "coop_mat16x16<(f16|f32), [ABC]>";

/** The same kernel with plain words: vectors for matrices, loads and stores of one for those of many. */
function plain(code: string): string {
  return code.replace("enable wgpu_cooperative_matrix;\n", "")
    .replaceAll(new RegExp(`coopLoadT?<${TYPE}>\\(&(.*), (\\d+u?)\\);`, "g"), "$2 + vec4<f16>(f16($3));")
    .replaceAll(/coopStoreT\(value, &(.*), stride\);/g, "$1 = value + f32(stride);")
    .replaceAll(new RegExp(TYPE, "g"), "vec4<$1>")
    .replaceAll(/coopMultiplyAdd\((\w+), (\w+), (\w+)\)/g, "vec4<f32>($1 * $2) + $3");
}

async function errorOf(device: GPUDevice, code: string): Promise<string> {
  device.pushErrorScope("validation");
  device.createShaderModule({ label: "probe", code });
  return (await device.popErrorScope())?.message ?? "";
}

Deno.test("Deno's compiler refuses kernels in naga's dialect for the feature alone: it knows the directive, and all else compiles", async () => {
  await using gpu = await openGpu();
  if (gpu.features.has(NAGA_MATRICES)) return;
  const unknown = await errorOf(gpu.device, "enable wgpu_no_such_thing;");
  assertMatch(unknown, /unknown enable-extension/);
  for (const code of KERNELS) {
    assertMatch(
      await errorOf(gpu.device, code),
      /`wgpu_cooperative_matrix` extension is not supported in the current environment/,
    );
    if (!gpu.features.has("shader-f16")) continue;
    const text = plain(code);
    assertEquals(text.match(/coop/g), null);
    assertEquals(await errorOf(gpu.device, text), "");
  }
});

Deno.test("naga's words are cubes of 8 and 16 whose places count vec4<f16>, and stores are given names", () => {
  const words = matrixWords("naga"), unit = { m: 8, n: 8, k: 8, operands: "f16", sums: "f32" } as const;
  assertEquals(words.type("left", unit), "coop_mat8x8<f16, A>");
  assertEquals(
    words.load({ role: "right", unit, byColumns: true }, { array: "&panels[i]", offset: 3, stride: 2 }),
    "coopLoad<coop_mat8x8<f16, B>>(&panels[i][6u], 4u)",
  );
  assertEquals(
    words.store("c", { array: "&sums[i]", offset: 3, stride: 2 }),
    "{ let value = c; let stride = 2u; coopStoreT(value, &sums[i][3u], stride); }",
  );
  let refused = "";
  try {
    words.type("sums", { ...unit, n: 16 });
  } catch (error) {
    refused = (error as Error).message;
  }
  assertMatch(refused, /naga has cubes of 8 and 16/);
});

Deno.test("products are planned in the dialect of the unit, and attention stays on threads where that is naga's", () => {
  const unit = { m: 16, n: 16, k: 16, operands: "f16", sums: "f32" } as const;
  const chosen = (dialect: "tint" | "naga") => {
    const target = {
      ...{ software: false, subgroups: true, wideSubgroups: true, subgroupSize: 32 },
      ...{ workgroupBytes: 49152, matrices: [{ ...unit, dialect }], units: matrixProducts },
    };
    const sizes = { batch: 1, m: 1024, n: 768, k: 768, transposeA: false, transposeB: true } as const;
    const variants = matmulVariants({ ...sizes, storedA: "f16", storedB: "f16" }, target);
    const shape = { batch: 1, time: 64, heads: 2, kvHeads: 2, dim: 64, scale: 1, causal: true };
    const { matrix } = attentionTiling(shape, { ...target, half: true, pass: "forward" });
    const dialects = variants.flatMap((variant) =>
      variant.kind === "matrix" ? variant.dialect ?? "tint" : []
    );
    return [[...new Set(dialects)], matrix !== undefined];
  };
  assertEquals(chosen("tint"), [["tint"], true]);
  assertEquals(chosen("naga"), [["naga"], false]);
});

Deno.test("requestDevice asks for naga's matrices where f16 is listed and no other matrix unit is, and goes on without", async () => {
  const adapter = (await navigator.gpu.requestAdapter())!;
  const askedBy = async (...features: string[]): Promise<string[]> => {
    const asked: string[] = [];
    const { limits } = adapter, listed = new Set(features);
    const fake = {
      limits,
      features: listed,
      requestDevice({ requiredFeatures = [] }: { requiredFeatures?: string[] }) {
        asked.push(requiredFeatures.join(" "));
        throw new DOMException("experimental features are not enabled", "OperationError");
      },
    };
    await requestDevice(fake as unknown as GPUAdapter).catch(() => {});
    return asked;
  };
  const [first, second] = await askedBy("shader-f16");
  assertEquals(first, `timestamp-query subgroups ${NAGA_MATRICES} shader-f16`);
  assertEquals(second, "timestamp-query subgroups shader-f16");
  const others = [
    ...await askedBy(),
    ...await askedBy("shader-f16", "chromium-experimental-subgroup-matrix"),
  ];
  assert(others.every((asked) => !asked.includes(NAGA_MATRICES)));
});

Deno.test("nagaMatrices tries cubes, and gives none where the compiler refuses them", async () => {
  await using gpu = await openGpu();
  if (gpu.features.has(NAGA_MATRICES)) {
    const [unit] = gpu.target.matrices!;
    assertEquals([unit.m === unit.n, unit.operands, unit.sums, unit.dialect], [true, "f16", "f32", "naga"]);
  } else {
    assertEquals(await nagaMatrices(gpu.device, 8), []);
    gpu.check();
  }
});
