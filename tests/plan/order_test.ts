import { InputError } from "@firn/train";
import { assert, assertEquals, assertThrows } from "@std/assert";
import type { Unit } from "../../core/plan/types.ts";
import { planMemory } from "../../core/plan/memory/slots.ts";
import { schedule } from "../../core/plan/memory/order.ts";
import { randomFrom } from "../train/tiny.ts";

/** A unit that needs no kernel. */
function unit(
  name: string,
  { reads = [], writes = [], overwrites = [] }: Partial<Pick<Unit, "reads" | "writes" | "overwrites">>,
): Unit {
  const bindings = [...new Set([...reads, ...writes, ...overwrites])];
  const kernel = { name, code: "", grid: [1, 1, 1] as const, flops: 0 };
  return {
    kernel,
    bindings,
    reads,
    writes: [...writes, ...overwrites],
    overwrites,
    priority: 0,
    matmulFlops: 0,
  };
}

function namesOf(units: readonly Unit[], roots: readonly number[], bytes: readonly number[]): string[] {
  return schedule(units, { roots, bytesOf: (b) => bytes[b] }).map(({ kernel }) => kernel.name);
}

Deno.test("schedule runs a unit that frees as much as it takes before the chain goes on", () => {
  // Activations 0, 1 and 2; gradients 3 and 4; weights' gradients 5, 6 and 7 are roots.
  const units = [
    unit("x1", { writes: [0] }),
    unit("x2", { reads: [0], writes: [1] }),
    unit("x3", { reads: [1], writes: [2] }),
    unit("dx2", { reads: [2], writes: [3] }),
    unit("dx1", { reads: [3], writes: [4] }),
    unit("dw1", { reads: [0, 4], writes: [5] }),
    unit("dw2", { reads: [1, 3], writes: [6] }),
    unit("dw3", { reads: [2], writes: [7] }),
  ];
  assertEquals(namesOf(units, [5, 6, 7], [8, 8, 8, 8, 8, 2, 2, 2].map((n) => n * 2 ** 20)), [
    "x1",
    "x2",
    "x3",
    "dx2",
    "dw2",
    "dx1",
    "dw1",
    "dw3",
  ]);
});

Deno.test("schedule with prompt overwrites each leaf as soon as it can, whatever memory that takes", () => {
  // A backward pass through 8 layers; weights' gradients are far larger than activations, and are added to sums.
  const layers = Array.from({ length: 8 }, (_, i) => 8 - i), [dx, dw, sum] = [0, 100, 200];
  const units = [
    unit("dx8", { writes: [dx + 8] }),
    ...layers.slice(1).map((i) => unit(`dx${i}`, { reads: [dx + i + 1], writes: [dx + i] })),
    ...layers.toReversed().flatMap((i) => [
      unit(`dw${i}`, { reads: [dx + i], writes: [dw + i] }),
      unit(`add${i}`, { reads: [dw + i], overwrites: [sum + i] }),
    ]),
  ];
  const roots = layers.map((i) => sum + i), bytesOf = (b: number): number => b < dw ? 2 ** 20 : 2 ** 26;
  const order = (prompt: boolean): string[] =>
    schedule(units, { roots, bytesOf, prompt }).map(({ kernel: { name } }) => name);
  assertEquals(order(false).slice(0, 8), layers.map((i) => `dx${i}`));
  const prompt = order(true), top = [8, 7, 6, 5].flatMap((i) => [`dx${i}`, `dw${i}`, `add${i}`]);
  assertEquals(prompt.slice(0, top.length), top);
  assertEquals(prompt.toSorted(), order(false).toSorted());
});

Deno.test("schedule runs what takes next to nothing first", () => {
  const units = [
    unit("scores 1", { writes: [0] }),
    unit("loss 1", { reads: [0], writes: [1] }),
    unit("scores 2", { writes: [2] }),
    unit("loss 2", { reads: [2], writes: [3] }),
    unit("loss", { reads: [1, 3], writes: [4] }),
    unit("scale", { writes: [5] }),
    unit("slope 1", { reads: [0, 5], writes: [6] }),
    unit("slope 2", { reads: [2, 5], writes: [7] }),
  ];
  const large = 2 ** 20;
  assertEquals(namesOf(units, [4, 6, 7], [large, 4, large, 4, 4, 4, large, large]), [
    "scale",
    "scores 1",
    "loss 1",
    "slope 1",
    "scores 2",
    "loss 2",
    "loss",
    "slope 2",
  ]);
});

Deno.test("schedule leaves out what no root needs", () => {
  const units = [
    unit("used", { writes: [0] }),
    unit("unused", { reads: [0], writes: [1] }),
    unit("root", { reads: [0], writes: [2] }),
  ];
  assertEquals(namesOf(units, [2], [4, 4, 4]), ["used", "root"]);
});

Deno.test("schedule waits for every unit that writes a part of a buffer", () => {
  const units = [
    unit("reader", { reads: [0], writes: [1] }),
    unit("first half", { writes: [0] }),
    unit("second half", { writes: [0] }),
  ];
  assertEquals(namesOf(units, [1], [4, 4]).at(-1), "reader");
});

Deno.test("schedule refuses two updates that need each other's old value", () => {
  const units = [unit("a", { reads: [1], overwrites: [0] }), unit("b", { reads: [0], overwrites: [1] })];
  assertThrows(() => namesOf(units, [0, 1], [0, 0]), InputError, "each need the other's old value");
});

Deno.test("schedule keeps every dependency of 50 random graphs", () => {
  const random = randomFrom(3);
  for (let round = 0; round < 50; round++) {
    const leaves = 4, count = 40;
    const units = Array.from({ length: count }, (_, i) => {
      const reads = [0, 1].map(() => Math.floor(random() * (leaves + i)));
      return unit(`${i}`, { reads, writes: [leaves + i] });
    });
    const updates = [0, 1, 2, 3].map((leaf) =>
      unit(`update ${leaf}`, { reads: [leaves + Math.floor(random() * count)], overwrites: [leaf] })
    );
    const bytes = Array.from({ length: leaves + count }, (_, b) => b < leaves ? 0 : Math.ceil(random() * 9));
    const order = schedule([...units, ...updates], { roots: [0, 1, 2, 3], bytesOf: (b) => bytes[b] });
    const written = new Map(order.flatMap(({ writes }, at) => writes.map((b) => [b, at] as const)));
    order.forEach(({ reads, overwrites }, at) => {
      for (const b of reads) {
        if (b >= leaves) assert(written.get(b)! < at, "a value is read before it is written");
        else if (!overwrites.includes(b)) assert(written.get(b)! > at, "an old value is read too late");
      }
    });
  }
});

Deno.test("planMemory gives values of one size as many buffers as live at once", () => {
  const values = [[4, 5], [0, 1], [2, 3], [1, 2], [3, 4]].map(([first, last]) => ({
    bytes: 16,
    first,
    last,
  }));
  assertEquals(planMemory(values).sizes, [16, 16]);
});
