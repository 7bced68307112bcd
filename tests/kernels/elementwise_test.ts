import { assertEquals } from "@std/assert";
import { elementwise } from "../../kernels/elementwise.ts";
import type { Step } from "../../kernels/expression.ts";

Deno.test("a kernel that sums many values waits at no more barriers than one that sums a single one", () => {
  const barriersOf = (sums: number): number => {
    const loads = Array.from({ length: sums }, (_, input): Step => ({ kind: "load", input }));
    const inputs = loads.map(() => ({ type: "f32", strides: [1] }) as const);
    const { code } = elementwise({
      expression: { shape: [4096], inputs, steps: loads },
      outputs: [],
      sums: loads.map((_, step) => step),
      label: "sums",
    });
    return code.match(/workgroupBarrier\(\)/g)?.length ?? 0;
  };
  assertEquals([0, 1, 4, 5, 8, 9].map(barriersOf), [0, 9, 9, 9, 9, 9]);
});
