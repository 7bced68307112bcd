import { assert, assertEquals } from "@std/assert";
import {
  add,
  divide,
  exp,
  grad,
  leaf,
  matmul,
  mean,
  multiply,
  subtract,
  sum,
  type Tensor,
  tensor,
} from "@firn/train";
import { silu } from "@firn/train/ops";
import { apply, type Op } from "../../core/tensor.ts";
import type { Plan, Prefix } from "../../core/plan/types.ts";
import { plan } from "../../core/plan/plan.ts";
import { samePrefix } from "../../core/plan/prefix/same_prefix.ts";

const target = { software: true, subgroups: false, workgroupBytes: 16384, maxBindings: 8 };
const ROWS = 4, WIDE = 64;
const weight = (path: string, shape: readonly number[]): Tensor => leaf(path, { shape, dtype: "f32" });

/** A step of SGD on `top`, above two products that do not change. */
function stepPlan(
  { bottom = "bottom", shift = [1, 2, 3, 4], twice = false, factor = 1 }: {
    readonly bottom?: string;
    readonly shift?: readonly number[];
    readonly twice?: boolean;
    readonly factor?: number;
  } = {},
): Plan {
  const x = weight("batch.x", [ROWS, 4]), top = weight("top", [4, 4]);
  const wide = silu(matmul(add(x, tensor(shift)), weight(bottom, [4, WIDE])));
  const narrow = matmul(twice ? multiply(wide, 2) : wide, weight("middle", [WIDE, 4]));
  const y = matmul(narrow, top);
  const loss = mean(multiply(y, multiply(y, factor)));
  const root = subtract(top, grad(loss, [top])[0]);
  const kindOf = (path: string) => path === "top" ? null : path.startsWith("batch.") ? "batch" : "fixed";
  return plan([root], { target, updates: new Map([[0, top]]), prefix: { samples: ROWS, kindOf } });
}

Deno.test("plan cuts where least has to be kept of what saves most, and runs that first", () => {
  const made = stepPlan(), prefix = made.prefix as Prefix;
  // Of each row the four numbers after the second product, not the 64 before it.
  assertEquals(prefix.kept.map(({ bytes }) => bytes), [4 * 4]);
  assertEquals(made.buffers[prefix.kept[0].buffer], { source: { kind: "kept" }, bytes: ROWS * 16 });
  assertEquals(prefix.reads.toSorted(), ["batch.x", "bottom", "middle"]);
  assertEquals(made.cost.matmulFlops - prefix.rest.matmulFlops, 2 * 2 * ROWS * 4 * WIDE);
  assertEquals(made.cost.launches - prefix.rest.launches, prefix.launches);
  // What is kept takes no part in the reuse of memory: the wide value, and one small value at a time, do.
  assertEquals(made.slots, [4 * ROWS * WIDE, 4 * ROWS * 4]);
  assertEquals(made.cost.memory, 4 * ROWS * (4 + WIDE + 4));
  // The rest neither reads nor writes what is shared in the memory of the prefix before it has written it.
  const written = new Set<number>();
  for (const { bindings } of made.launches.slice(prefix.launches)) {
    for (const b of bindings.slice(0, -1)) {
      assert(
        made.buffers[b].source.kind !== "slot" || written.has(b),
        `buffer ${b} is read before it is written`,
      );
    }
    written.add(bindings.at(-1)!);
  }
});

Deno.test("plan keeps a small value rather than a large one that saves less than a tenth more", () => {
  const x = weight("batch.x", [ROWS, WIDE]), top = weight("top", [WIDE, 4]);
  const small = matmul(matmul(x, weight("wide", [WIDE, WIDE])), weight("narrow", [WIDE, 4]));
  const large = matmul(small, weight("back", [4, WIDE]));
  const y = add(matmul(large, top), small);
  const root = subtract(top, grad(mean(multiply(y, y)), [top])[0]);
  const kindOf = (path: string) => path === "top" ? null : path.startsWith("batch.") ? "batch" : "fixed";
  const made = plan([root], { target, updates: new Map([[0, top]]), prefix: { samples: ROWS, kindOf } });
  assertEquals((made.prefix as Prefix).kept.map(({ bytes }) => bytes), [4 * 4]);
  assertEquals((made.prefix as Prefix).launches, 2);
});

Deno.test("plan cuts where an early launch counts samples for what is above, and leaves that launch there", () => {
  const wide = 2048, x = weight("batch.x", [ROWS, 4]), top = weight("top", [4, 4]);
  const below = matmul(silu(matmul(x, weight("bottom", [4, wide]))), weight("middle", [wide, 4]));
  const count = sum(exp(weight("batch.labels", [ROWS])));
  const y = matmul(below, top), loss = divide(sum(multiply(y, y)), count);
  const root = subtract(top, grad(loss, [top])[0]);
  const kindOf = (path: string) => path === "top" ? null : path.startsWith("batch.") ? "batch" : "fixed";
  const made = plan([root], { target, updates: new Map([[0, top]]), prefix: { samples: ROWS, kindOf } });
  const { kept, reads } = made.prefix as Prefix;
  assertEquals(kept.map(({ bytes }) => bytes), [4 * 4]);
  assertEquals(reads.toSorted(), ["batch.x", "bottom", "middle"]);
});

Deno.test("samePrefix is true of plans that differ above the prefix alone", () => {
  assert(samePrefix(stepPlan(), stepPlan()));
  assert(samePrefix(stepPlan(), stepPlan({ factor: 3 })));
});

Deno.test("samePrefix is false where a kernel, a leaf or a constant differs", () => {
  assertEquals(samePrefix(stepPlan(), stepPlan({ twice: true })), false);
  assertEquals(samePrefix(stepPlan(), stepPlan({ bottom: "other" })), false);
  assertEquals(samePrefix(stepPlan(), stepPlan({ shift: [1, 2, 3, 5] })), false);
});

/** Two ops of one name and one shape, of which a plan reads the result both below and above the frozen bottom. */
const [plainOp, otherOp] = ["1", "2"].map((factor): Op<number> => ({
  name: "own",
  infer: ([{ shape }]) => [{ shape, dtype: "f32" }],
  kernel: () => ({ kernel: { name: "own", code: `// times ${factor}`, grid: [1, 1, 1], flops: 0 } }),
}));

Deno.test("samePrefix is false where another op of the same name, or with another number, makes what the prefix reads", () => {
  const planWith = (op: Op<number>, attrs = 0): Plan => {
    const x = weight("batch.x", [ROWS, 4]), top = weight("top", [4, 4]);
    const made = apply(op, [weight("bottom", [4, 4])], attrs);
    const y = matmul(matmul(matmul(x, made), top), made);
    const root = subtract(top, grad(mean(multiply(y, y)), [top])[0]);
    const kindOf = (path: string) => path === "top" ? null : path.startsWith("batch.") ? "batch" : "fixed";
    return plan([root], { target, updates: new Map([[0, top]]), prefix: { samples: ROWS, kindOf } });
  };
  assertEquals((planWith(plainOp).prefix as Prefix).given.size, 1);
  assert(samePrefix(planWith(plainOp), planWith(plainOp)));
  assert(!samePrefix(planWith(plainOp), planWith(otherOp)));
  // JSON has one text for both.
  assert(samePrefix(planWith(plainOp, NaN), planWith(plainOp, NaN)));
  for (const [a, b] of [[NaN, Infinity], [0, -0]]) {
    assert(!samePrefix(planWith(plainOp, a), planWith(plainOp, b)));
  }
});
