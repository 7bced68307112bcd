import { assert, assertEquals } from "@std/assert";
import { add, leaf, matmul, openGpu, readAll, type Tensor, tensor } from "@firn/train";
import { rmsNorm, softmax } from "@firn/train/ops";
import { rmsNorm as rmsNormText } from "../../kernels/rms_norm.ts";
import { rebuild } from "../../core/graph.ts";
import type { Target } from "../../core/kernel_call.ts";
import { plan } from "../../core/plan/plan.ts";
import { textCache } from "../../core/plan/lower/kernel_cache.ts";
import { shareLaunches } from "../../core/plan/memory/share_launches.ts";
import type { Plan, Unit } from "../../core/plan/types.ts";
import { assertNear, random } from "../reference/values.ts";

const SIZE = 16;
const target: Target = { software: false, subgroups: true, workgroupBytes: 16384, maxBindings: 16 };

/** Layers with two norms that do not depend on each other, between products. */
function layers(count: number): Tensor {
  const input = (path: string, shape = [SIZE, SIZE]): Tensor => leaf(path, { shape, dtype: "f32" });
  let x = input("x");
  for (let i = 0; i < count; i++) {
    const [left, right] = [softmax(x), rmsNorm(x, input("gain", [SIZE]), { eps: 1e-5 })];
    x = add(matmul(left, input("w1")), matmul(right, input("w2")));
  }
  return x;
}

const namesOf = ({ launches }: Plan): string[] => launches.map(({ kernel }) => kernel.name);
const shared = (planned: Plan): string[] => namesOf(planned).filter((name) => name.includes(" | "));

Deno.test("plan puts small launches that do not depend on each other into one", () => {
  const planned = plan([layers(4)], { target });
  assertEquals(shared(planned).length, 4, namesOf(planned).join("\n"));
  // The same kernels as where launches are not shared.
  const parts = planned.launches.flatMap(({ parts, kernel }) =>
    parts?.map((part) => part.kernel) ?? [kernel]
  );
  const alone = plan([layers(2)], { target }).launches.map(({ kernel }) => kernel.code);
  assertEquals(new Set(parts.map(({ code }) => code)), new Set(alone));
});

Deno.test("plan shares a launch only where many have the same kernels, and never on a software adapter", () => {
  assertEquals(shared(plan([layers(2)], { target })), []);
  assertEquals(shared(plan([layers(4)], { target: { ...target, software: true } })), []);
});

Deno.test("plan shares a launch only where bindings and workgroup memory suffice", () => {
  const kernel = rmsNormText({ rows: 4, width: SIZE, eps: 1e-5, threads: 32, saveScale: false });
  // Each norm reads its own rows and gain, and needs less than 192 bytes, which those that share a launch share.
  const units = Array.from({ length: 12 }, (_, i): Unit => {
    const bindings = [3 * i, 3 * i + 1, 3 * i + 2];
    const [reads, writes] = [bindings.slice(0, 2), bindings.slice(2)];
    return {
      kernel,
      bindings,
      reads,
      writes,
      overwrites: [],
      priority: i,
      matmulFlops: 0,
    };
  });
  const ends: Unit = {
    ...units[0],
    bindings: [99],
    reads: units.flatMap(({ writes }) => writes),
    writes: [99],
    matmulFlops: 1,
  };
  const buffers = Array.from({ length: 100 }, () => ({ source: null, bytes: 64 }));
  const count = (limits: Partial<Target>): number =>
    shareLaunches([...units, ends], {
      buffers,
      target: { ...target, ...limits },
      texts: textCache(),
      window: 48,
    })
      .length - 1;
  assertEquals([12, 9, 6, 5].map((maxBindings) => count({ maxBindings })), [3, 4, 6, 12]);
  assertEquals([192, 64].map((workgroupBytes) => count({ workgroupBytes, maxBindings: 12 })), [3, 12]);
});

Deno.test("launches that are shared compute what they do alone", async () => {
  await using gpu = await openGpu({ tune: false });
  const root = rebuild([layers(4)], (node) => {
    if (node.op.name !== "leaf") return node;
    const { path } = node.attrs as { path: string };
    return tensor(Float32Array.from(random(node.shape, { seed: path.length }).data), node.shape);
  });
  const device = { ...gpu, target: { ...gpu.target, software: false } };
  assert(shared(plan(root, { target: device.target })).length > 0);
  const [[alone], [together]] = [await readAll(gpu, root), await readAll(device, root)];
  // Sums of 16 terms of a few units, in another order.
  assertNear(together, alone, { tolerance: 1e-4, what: "result" });
});
