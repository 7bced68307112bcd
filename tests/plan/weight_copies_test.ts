/**
 * Copies of weights as f16: a plan that knows which weights stay makes those once, and updates write the others.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { adamW, leaf, nextTokenLoss, type Path, type Tensor, unflatten } from "@firn/train";
import { describeModel, families, type LlamaParams, modelParams, type TokenBatch } from "@firn/train/models";
import { pathOf } from "../../core/plan/predicates.ts";
import { plan } from "../../core/plan/plan.ts";
import type { Launch, Plan, WeightKind } from "../../core/plan/types.ts";
import { tracePart } from "../../core/train/step/part.ts";
import { traceStep } from "../../core/train/step/trace.ts";

const source = {
  model_type: "llama",
  hidden_size: 64,
  intermediate_size: 96,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 128,
  max_position_embeddings: 16,
  tie_word_embeddings: true,
};
const model = describeModel(source, { families, file: "config.json" });
const leaves = new Map(
  [...modelParams(model)].map(([path, { shape }]) => [path, leaf(path, { shape, dtype: "f32" })]),
);

/** The plan of a step, or of a part of one, that trains some parameters; `keeps`: whether it may keep copies. */
function planOf(
  { trains = () => true, keeps = true, part = false }: {
    readonly trains?: (path: Path) => boolean;
    readonly keeps?: boolean;
    readonly part?: boolean;
  },
): Plan {
  const ids = (name: string): Tensor => leaf(`batch.${name}`, { shape: [2, 16], dtype: "i32" });
  const batch: TokenBatch = { inputIds: ids("inputIds"), labels: ids("labels") };
  const params = unflatten(leaves) as object as LlamaParams;
  const active = new Map([...leaves].filter(([path]) => trains(path)));
  const { roots, updates } = (part ? tracePart : traceStep)({
    loss: nextTokenLoss({ ...model, params })(params, batch),
    active,
    optimizer: adamW({ learningRate: 1e-3 }),
    signals: [],
    ring: [1, 2],
    precision: "f16",
  });
  const target = { software: false, subgroups: true, workgroupBytes: 49152, maxBindings: 32 };
  const weightKind: WeightKind = (path) =>
    !leaves.has(path) ? null : !active.has(path) ? "fixed" : part ? "changing" : null;
  return plan(roots, { target, updates, precision: "f16", ...(keeps && { weightKind }) });
}

/** Paths of the leaves that launches bind. */
function boundBy(launches: readonly Launch[], { buffers }: Plan): Set<Path> {
  const sources = launches.flatMap(({ bindings }) => bindings.map((b) => buffers[b].source));
  return new Set(sources.flatMap((source) => source.kind === "leaf" ? [pathOf(source.node)] : []));
}

const copying = ({ launches }: Plan): string[] =>
  launches.map(({ kernel }) => kernel.name).filter((name) => /^f16 |\| f16 /.test(name));
const isMatrix = (path: Path): boolean => leaves.get(path)!.shape.length === 2;

Deno.test("a step has no launch that only copies weights: updates write the copies", () => {
  const before = planOf({ keeps: false }), after = planOf({});
  assert(copying(before).length > 0);
  assertEquals(copying(after), []);
  assertEquals(before.copies, { fixed: [], changing: [] });
  assert(after.cost.launches < before.cost.launches, `${after.cost.launches} of ${before.cost.launches}`);
  assert(after.cost.bytes < before.cost.bytes, `${after.cost.bytes} of ${before.cost.bytes}`);
  assertEquals(after.copies.fixed, []);
  assertEquals(boundBy(after.copies.changing, after), new Set([...leaves.keys()].filter(isMatrix)));
});

Deno.test("a frozen weight is not copied again: no launch of a step reads it but through its copy", () => {
  const trains = (path: Path): boolean => path.startsWith("model.layers.2.");
  const step = planOf({ trains });
  assertEquals(copying(step), []);
  const read = boundBy(step.launches, step), copied = boundBy(step.copies.fixed, step);
  // Rows of the embedding are read as they are.
  const frozen = [...leaves.keys()].filter((path) => isMatrix(path) && !trains(path) && !/embed/.test(path));
  assert(frozen.length > 0);
  for (const path of frozen) assertEquals([read.has(path), copied.has(path)], [false, true], path);
  for (const path of boundBy(step.copies.changing, step)) assert(trains(path), path);
});

Deno.test("parts of a step copy no weight: what the step before changed is copied once, and what is frozen not again", () => {
  const trains = (path: Path): boolean => path.startsWith("model.layers.2.");
  assert(copying(planOf({ trains, part: true, keeps: false })).length > 0);
  const part = planOf({ trains, part: true });
  assertEquals(copying(part), []);
  const { fixed, changing } = part.copies;
  for (const path of boundBy(fixed, part)) assert(!trains(path), path);
  assertEquals(boundBy(changing, part), new Set([...leaves.keys()].filter((p) => isMatrix(p) && trains(p))));
});

Deno.test("copies that are kept have memory of their own, which the plan counts", () => {
  const { buffers, copies, slots, cost, launches } = planOf({});
  const kept = new Set(
    copies.changing.flatMap(({ bindings }) => bindings).flatMap((b) => {
      const { source } = buffers[b];
      return source.kind === "slot" ? [source.slot] : [];
    }),
  );
  const others = new Set(launches.flatMap(({ bindings }) => bindings));
  for (const slot of kept) {
    const users = [...others].filter((b) => {
      const { source } = buffers[b];
      return source.kind === "slot" && source.slot === slot;
    });
    assertEquals(users.length, 1, `slot ${slot}`);
  }
  assertEquals(kept.size, [...leaves.keys()].filter(isMatrix).length);
  assertEquals(cost.memory, slots.reduce((n, bytes) => n + bytes, 0));
});
