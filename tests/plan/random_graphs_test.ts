/**
 * That plans of random graphs compute what the graphs mean, at all limits of bindings.
 *
 * Every plan is run on the host, launch by launch on the plan's own memory, and compared with the value of each node by
 * itself in float64. The shaders of a few of the graphs run on a device too.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { openGpu, readAll, type Tensor, tensor } from "@firn/train";
import { rebuild } from "../../core/graph.ts";
import { plan } from "../../core/plan/plan.ts";
import type { Plan } from "../../core/plan/types.ts";
import type { Target } from "../../core/kernel_call.ts";
import { evaluate } from "../reference/evaluate.ts";
import { assertNear, type Values } from "../reference/values.ts";
import { KIND_NAMES, type RandomGraph, randomGraph } from "./random_graphs.ts";
import { type KnownTexts, knownTexts, runPlan } from "./run_plan.ts";

/** Graphs of each kind: 506 in all. */
const EACH = 46;
const LIMITS = [8, 10, 32];

const pathOf = ({ attrs }: Tensor): string => (attrs as { path: string }).path;

function targetOf(maxBindings: number, seed: number): Target {
  return { software: seed % 2 === 0, subgroups: true, workgroupBytes: 16384, maxBindings };
}

/** Checks what a device would refuse, and that no launch reads what none before it wrote. */
function checkLaunches({ launches, buffers }: Plan, { maxBindings, workgroupBytes }: Target): void {
  const written = new Set<number>();
  for (const { kernel: { code, name, grid }, bindings } of launches) {
    const modes = [...code.matchAll(/@binding\(\d+\)\s+var<storage,\s*(read_write|read)>/g)].map((m) => m[1]);
    assertEquals(modes.length, bindings.length, name);
    assert(bindings.length <= maxBindings, `"${name}" binds ${bindings.length} buffers`);
    assert(grid.every((groups) => groups <= 65535), `"${name}" has too many workgroups`);
    const places = bindings.map((b) => {
      const { source } = buffers[b];
      return source.kind === "slot" ? `slot ${source.slot}` : `${b}`;
    });
    places.forEach((place, i) => {
      const { kind } = buffers[bindings[i]].source;
      if (modes[i] === "read") assert(kind !== "slot" || written.has(bindings[i]), `"${name}" reads nothing`);
      else assert(places.indexOf(place) === places.lastIndexOf(place), `"${name}" writes what it also binds`);
    });
    bindings.forEach((b, i) => modes[i] === "read_write" && written.add(b));
    const memory = [...code.matchAll(/var<workgroup> \w+: array<(f32|vec(\d)<f32>), (\d+)>/g)]
      .reduce((bytes, [, , lanes = "1", count]) => bytes + 4 * (lanes === "3" ? 4 : +lanes) * +count, 0);
    assert(memory <= workgroupBytes, `"${name}" needs ${memory} bytes of workgroup memory`);
  }
}

/** Runs a plan and compares all roots and leaves with what they must be. */
function checkValues(
  made: Plan,
  { graph, expected, texts }: {
    readonly graph: RandomGraph;
    readonly expected: readonly Values[];
    readonly texts: KnownTexts;
  },
): void {
  const leaves = new Map(
    [...graph.leaves].map(([path, { shape, data }]) => [path, { shape, data: data.slice() }]),
  );
  // Rounding of float64, where cancellation leaves a small part of the terms.
  const tolerance = 1e-9;
  runPlan(made, { asked: texts.asked, leaves }).forEach((values, i) => {
    const { data } = expected[i];
    assertNear(values.subarray(0, data.length), data, { tolerance, what: `root ${i}` });
  });
  const overwritten = new Map([...graph.updates].map(([i, x]) => [pathOf(x), expected[i]]));
  for (const [path, { data }] of leaves) {
    const { data: wanted } = overwritten.get(path) ?? graph.leaves.get(path)!;
    assertNear(data, wanted, { tolerance, what: `leaf ${path}` });
  }
}

KIND_NAMES.forEach((kind, k) => {
  Deno.test(`plans of ${EACH} random graphs with 8, 10 and 32 bindings compute what the graphs mean: ${kind}`, () => {
    const texts = knownTexts();
    for (let i = 0; i < EACH; i++) {
      const seed = i * KIND_NAMES.length + k, graph = randomGraph(seed);
      const expected = evaluate(graph.roots, graph.leaves);
      for (const maxBindings of LIMITS) {
        const target = targetOf(maxBindings, seed);
        try {
          const made = plan(graph.roots, { target, updates: graph.updates, texts });
          checkLaunches(made, target);
          checkValues(made, { graph, expected, texts });
        } catch (cause) {
          throw new Error(`${graph.name} with ${maxBindings} bindings: ${(cause as Error).message}`, {
            cause,
          });
        }
      }
    }
  });
});

/** A graph whose leaves are values. */
function withValues({ roots, leaves }: Pick<RandomGraph, "roots" | "leaves">): Tensor[] {
  return rebuild(roots, (node) => {
    if (node.op.name !== "leaf") return node;
    const { shape, data } = leaves.get(pathOf(node))!;
    return tensor(Float32Array.from(data), shape);
  });
}

Deno.test("readAll of random graphs with 8 and 10 bindings gives what the graphs mean", async () => {
  await using gpu = await openGpu();
  for (let seed = 0; seed < KIND_NAMES.length; seed++) {
    const graph = randomGraph(seed), expected = evaluate(graph.roots, graph.leaves);
    const limited = { ...gpu, target: { ...gpu.target, maxBindings: seed % 2 === 0 ? 8 : 10 } };
    const seen = await readAll(limited, withValues(graph));
    // Some hundred roundings of f32.
    seen.forEach((values, i) =>
      assertNear(values, expected[i].data, { tolerance: 1e-4, what: `root ${i} of ${graph.name}` })
    );
  }
});
