/**
 * What the measurement of frozen sets freezes, and how it holds time against FLOPs.
 *
 * @module
 */

import { assertAlmostEquals, assertEquals, assertGreater } from "@std/assert";
import type { Component } from "@firn/train";
import { freezingLines, measureFreezing, rowsOf, setsOf, takingTurns } from "./freezing.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const part = (path: string, kind: Component["kind"], layer: number | null): Component => ({
  path,
  kind,
  layer,
  parameters: [`${path}.weight`],
  size: 4,
});
const COMPONENTS = [
  part("embed", "embedding", null),
  ...[0, 1, 2, 3].flatMap((n) => [part(`${n}.norm`, "norm", n), part(`${n}.linear`, "linear", n)]),
  part("norm", "norm", null),
];

Deno.test("setsOf scatters shares of the layers' matrices, each within the next, and closes bottoms", () => {
  const sets = setsOf(COMPONENTS);
  assertEquals(sets.map(({ kind, share }) => `${kind} ${share}`), [
    "nothing 0",
    "scattered 0.25",
    "scattered 0.5",
    "scattered 0.75",
    "scattered 1",
    "bottom 0.25",
    "bottom 0.5",
    "bottom 0.75",
  ]);
  const scattered = sets.slice(1, 5).map(({ paths }) => paths);
  assertEquals(scattered.map(({ length }) => length), [1, 2, 3, 4]);
  for (const [i, paths] of scattered.entries()) {
    assertEquals(paths.filter((path) => !path.endsWith(".linear")), []);
    assertEquals(scattered[i + 1]?.slice(0, paths.length) ?? paths, paths);
  }
  assertEquals(sets[6].paths, ["embed", "0.norm", "0.linear", "1.norm", "1.linear"]);
  assertEquals(setsOf(COMPONENTS), sets);
  assertEquals(setsOf(COMPONENTS, [0.5]), [sets[0], sets[2], sets[6]]);
});

Deno.test("takingTurns goes through the sets, each for a turn, again and again", () => {
  const policy = takingTurns(3), sets = setsOf(COMPONENTS);
  let state = policy.init(COMPONENTS, { steps: 100 });
  for (let step = 1; step <= 27; step++) {
    state = policy.next(state, { steps: [step], loss: [1], learningRate: [1], readings: {} });
    assertEquals(policy.frozen(state), sets[Math.floor(step / 3) % 8].paths);
  }
});

Deno.test("rowsOf holds the saved time against that of the FLOPs removed", () => {
  const [base, half] = rowsOf([
    { kind: "nothing", share: 0, frozen: 0, times: [9, 10, 20], matmulFlops: 300 },
    { kind: "scattered", share: 0.5, frozen: 2, times: [8, 7, 9], matmulFlops: 225 },
  ]);
  assertEquals([base.saved, base.predicted, base.ms.median], [0, 0, 10]);
  assertEquals([half.saved, half.predicted], [2, 2.5]);
  const lines = freezingLines({ work: "tiny", components: 4, rows: [base, half] });
  assertEquals(lines.at(-1)!.split(/ {2,}/).slice(1), [
    "2",
    "8.00 (7.00..9.00)",
    "0.0",
    "2.00",
    "2.50",
    "80 %",
  ]);
});

Deno.test("measureFreezing times every set in every round, and its FLOPs fall as sets grow", async () => {
  await using gpu = await openTestGpu();
  const shape = { hidden: 32, mlp: 64, layers: 4, heads: 2, kvHeads: 1, vocabulary: 64 };
  const before = gpu.counts.bytes;
  const { rows, components } = await measureFreezing(gpu, {
    name: "tiny",
    shape,
    batch: 2,
    length: 8,
    rounds: 2,
    turn: 4,
  });
  assertEquals(rows.length, 9);
  for (const { times, ms } of rows) {
    assertEquals(times.length, 2);
    assertGreater(ms.min, 0);
  }
  for (const [from, to] of [[0, 5], [5, 9]]) {
    const flops = [rows[0], ...rows.slice(Math.max(1, from), to)].map(({ matmulFlops }) => matmulFlops);
    for (let i = 1; i < flops.length; i++) assertGreater(flops[i - 1], flops[i]);
  }
  // Embedding, last norm, and per layer seven matrices and two norms.
  assertEquals([components, rows[4].frozen, rows[8].frozen], [2 + 4 * 9, 4 * 7, components]);
  // Three products a linear; scattered freezing of all takes away one of the three.
  const rowsOfTokens = 16, perLayer = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64;
  assertAlmostEquals(rows[0].matmulFlops - rows[4].matmulFlops, 4 * 2 * rowsOfTokens * perLayer, 1e-6);
  // The buffer through which all looks are read stays.
  assertEquals(gpu.counts.bytes - before, 65536);
});
