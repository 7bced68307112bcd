import { assertEquals } from "@std/assert";
import { leaf } from "@firn/train";
import { layoutMemory } from "../../core/plan/memory/layout.ts";
import type { Buffer, Unit } from "../../core/plan/types.ts";

function unit(reads: readonly number[], writes: readonly number[], inPlace?: number): Unit {
  const kernelOf = (name: string) => ({ name, code: "", grid: [1, 1, 1] as const, flops: 0 });
  return {
    kernel: kernelOf("plain"),
    bindings: [...reads, ...writes],
    reads,
    writes,
    overwrites: [],
    priority: 0,
    matmulFlops: 0,
    ...(inPlace !== undefined && { inPlace: { input: inPlace, kernel: () => kernelOf("in place") } }),
  };
}

const temporary = (bytes: number): Buffer => ({ source: null, bytes });
const given: Buffer = { source: { kind: "leaf", node: leaf("x", { shape: [4], dtype: "f32" }) }, bytes: 16 };
/** A chain: buffer 0 is a leaf, and each unit makes the next buffer of the one before. */
const chain = [unit([0], [1]), unit([1], [2]), unit([2], [3])];
const buffers = [given, temporary(64), temporary(64), temporary(64)];
const options = { buffers, roots: [3], kept: new Set<number>(), swapped: new Map<number, number>() };

Deno.test("layoutMemory lets values share a slot that are never alive at the same time", () => {
  const { slots, buffers } = layoutMemory(chain, options);
  assertEquals(slots, [64, 64]);
  assertEquals(buffers[0].source.kind, "leaf");
  assertEquals(buffers[1].source, buffers[3].source);
});

Deno.test("layoutMemory writes over an input whose last reader a unit is, in one slot", () => {
  const { slots, texts, buffers } = layoutMemory([chain[0], unit([1], [2], 1), chain[2]], options);
  assertEquals(texts.map(({ kernel }) => kernel.name), ["plain", "in place", "plain"]);
  assertEquals([texts[1].bindings, buffers[1].source], [[1], buffers[2].source]);
  assertEquals(slots, [64, 64]);
  const read = layoutMemory([chain[0], unit([1], [2], 1), unit([1, 2], [3])], options);
  assertEquals(read.texts[1].kernel.name, "plain");
});

Deno.test("layoutMemory keeps values of a prefix out of the slots, and swapped buffers from the start of the step", () => {
  const kept = layoutMemory(chain, { ...options, kept: new Set([1]) });
  assertEquals([kept.buffers[1].source.kind, kept.slots], ["kept", [64, 64]]);
  const swapped = layoutMemory(chain, { ...options, swapped: new Map([[3, 0]]) });
  assertEquals(swapped.slots.length, 3);
  assertEquals(swapped.doubleBuffers, [{
    slot: (swapped.buffers[3].source as { slot: number }).slot,
    leaf: 0,
  }]);
});
