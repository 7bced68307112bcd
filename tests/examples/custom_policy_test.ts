/**
 * The example of a custom freeze policy.
 *
 * @module
 */

import { assertEquals, assertLess } from "@std/assert";
import type { Component, TrainingState } from "@firn/train";
import { anyOf, gradES } from "@firn/train/policies";
import { bottomUp, settled, train } from "../../examples/custom_policy.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

function component(path: string, kind: Component["kind"], layer: number | null): Component {
  return { path, kind, layer, parameters: [`${path}.weight`], size: 4 };
}

Deno.test("bottomUp freezes the embedding, then the layers in order, and never what lies above them", () => {
  const components = [
    component("embed", "embedding", null),
    component("layers.0.up", "linear", 0),
    component("layers.0.norm", "norm", 0),
    component("layers.1.up", "linear", 1),
    component("norm", "norm", null),
    component("head", "linear", null),
  ];
  const policy = bottomUp(5);
  const at = (step: number): readonly string[] => {
    const start = policy.init(components, { steps: 1000 });
    const look = { steps: [step], loss: [1], learningRate: [0.1], readings: {} };
    return policy.frozen(policy.next(start, look));
  };
  assertEquals(at(4), []);
  assertEquals(at(5), ["embed"]);
  assertEquals(at(9), ["embed"]);
  assertEquals(at(10), ["embed", "layers.0.up", "layers.0.norm"]);
  assertEquals(at(15), ["embed", "layers.0.up", "layers.0.norm", "layers.1.up"]);
  assertEquals(at(1000), at(15));
});

Deno.test("settled freezes a matrix for good once a step moves it by less than a share of its largest move", () => {
  const policy = settled(0.5),
    components = [component("layers.0.up", "linear", 0), component("norm", "norm", null)];
  const moves = [0.2, 0.4, 0.3, 0.1, NaN];
  let state = policy.init(components, { steps: 9 });
  const sets = moves.map((moved, i) => {
    const readings = { relativeUpdate: { "layers.0.up": [moved], norm: [1e-9] } };
    state = policy.next(state, { steps: [i + 1], loss: [1], learningRate: [0.1], readings });
    return policy.frozen(state).join();
  });
  assertEquals(sets, ["", "", "", "layers.0.up", "layers.0.up"]);
});

Deno.test("train with bottomUp and gradES learns, and a step loses half of its cost", async () => {
  await using gpu = await openTestGpu();
  // Nothing falls below this threshold, so that only bottomUp decides: at the look of step 10, four layers of five.
  const policy = anyOf(gradES({ tau: 1e-9 }), bottomUp(2));
  const states: TrainingState<object>[] = await Array.fromAsync(train(gpu, { policy, steps: 11 }));
  assertEquals(states.length, 11);
  const { event, look } = states[9];
  assertEquals(states.filter((state) => state.event !== null), [states[9]]);
  assertEquals(event!.frozen.length, 1 + 4 * 9);
  // Of the backward pass only the top layer and the gradient through the head are left: 1.89 becomes 0.95 GFLOP.
  assertLess(event!.after.matmulFlops, 0.51 * event!.before.matmulFlops);
  assertLess(event!.after.launches, 0.5 * event!.before.launches);
  assertEquals(states[10].cost, event!.after);
  // Batches differ, so this compares means over five steps: 5.02 and 4.84 were measured.
  const mean = (losses: readonly number[]): number => losses.reduce((a, b) => a + b, 0) / losses.length;
  assertLess(mean(look!.loss.slice(5)), mean(look!.loss.slice(0, 5)) - 0.1);
});
