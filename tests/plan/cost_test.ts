import { assertEquals } from "@std/assert";
import { type Cost, leaf, matmul, sum } from "@firn/train";
import type { ComponentCost, Json } from "@firn/train/policies";
import { allocatedBytes, costOf } from "../../core/plan/cost.ts";
import { plan } from "../../core/plan/plan.ts";
import { findComponents } from "../../core/train/freeze/components.ts";

const target = { software: false, subgroups: true, workgroupBytes: 49152, maxBindings: 8 };
const x = leaf("x", { shape: [8, 8], dtype: "f32" }), w = leaf("w.weight", { shape: [8, 8], dtype: "f32" });

/** What a policy does with its state. */
const saved = <S extends Json>(state: S): S => JSON.parse(JSON.stringify(state));

Deno.test("costs of a step and of a component are JSON that a policy can keep", () => {
  const cost: Cost = plan([matmul(x, w)], { target }).cost;
  assertEquals(saved(cost), cost);
  const [{ cost: own }] = findComponents(sum(matmul(x, w)), {
    leaves: new Map([["w.weight", w]]),
    trainable: () => true,
  });
  const component: ComponentCost = own!;
  assertEquals(saved({ step: cost, component }), { step: cost, component });
  assertEquals(component.forward, 2 * 8 ** 3);
});

Deno.test("costOf adds up launches, and allocatedBytes counts slots, kept values and constants that are read", () => {
  const made = plan([matmul(x, matmul(x, w))], { target });
  const { launches, buffers, slots } = made;
  assertEquals(made.cost, costOf(launches, allocatedBytes(launches, { buffers, slots })));
  assertEquals([made.cost.launches, made.cost.matmulFlops], [2, 4 * 8 ** 3]);
  assertEquals(
    allocatedBytes(launches, {
      slots: [100],
      buffers: buffers.map((buffer, i) => i === 0 ? { source: { kind: "kept" }, bytes: 7 } : buffer),
    }),
    { memory: 107, constants: 0 },
  );
});
