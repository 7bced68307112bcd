/**
 * Which works run where, and what they measure in a size that takes no time.
 *
 * @module
 */

import { assertEquals, assertGreater, assertLess, assertMatch, assertThrows } from "@std/assert";
import { InputError, openGpu } from "@firn/train";
import type { Memory } from "./allocated.ts";
import { measureEntry } from "./bench.ts";
import { firnModel, watching } from "./contenders.ts";
import { alternating, changesOf } from "./refreeze.ts";
import { fairness, HEADS, line, memoryLines, ratioOf, rowLines, sideResult, summary } from "./results.ts";
import { FIRN_MODEL, firnModelSide } from "./sides.ts";
import { chooseWorks, type Entry, productEntry, WORKS, worksIn } from "./works.ts";

const SOFTWARE = { name: "llvmpipe", software: true }, GPU = { name: "H200", software: false };
const LENGTHS = { rounds: 2, turn: 20, warmUp: 10 };
const SHAPE = { hidden: 32, mlp: 64, layers: 1, heads: 2, kvHeads: 1, vocabulary: 64 };

Deno.test("chooseWorks takes what suits the adapter", () => {
  assertEquals(chooseWorks(null, SOFTWARE), ["layer-128"]);
  assertEquals(chooseWorks("freezing", SOFTWARE), ["freezing"]);
  const unasked = ["layer-128", "lora", "halves", "tiny", "checks", "providers"];
  assertEquals(chooseWorks(null, GPU), Object.keys(WORKS).filter((name) => !unasked.includes(name)));
  assertEquals(chooseWorks(null, GPU, "f16"), [
    "matmul",
    "gpt2",
    "gpt2-b1",
    "smollm2",
    "smollm2-b1",
    "lora",
    "monitoring",
    "checks",
    "providers",
    "halves",
  ]);
  assertEquals(chooseWorks("matmul,layer-128", GPU), ["matmul", "layer-128"]);
});

Deno.test("chooseWorks refuses work made for a GPU on a software adapter, and names the mend", () => {
  const refused = assertThrows(() => chooseWorks("layer-128,gpt2", SOFTWARE), InputError).message;
  assertMatch(
    refused,
    /^Cannot run the work "gpt2" as "llvmpipe" is a software adapter .* --work layer-128,freezing,halves,tiny or/,
  );
  assertThrows(
    () => chooseWorks("gpt3", GPU),
    InputError,
    'Cannot run the work "gpt3" as the works are layer-128',
  );
});

Deno.test("measureEntry fills a row: times of all rounds, spread, memory, loss and what each side does", async () => {
  await using gpu = await openGpu();
  const size = { shape: SHAPE, batch: 2, length: 8 };
  const entry: Entry = {
    work: "tiny",
    lossAt: 3,
    tolerance: 1e-4,
    flops: null,
    averaged: false,
    twin: null,
    open: async () => [
      await firnModel(gpu, size),
      await firnModel(gpu, {
        ...size,
        name: "watched",
        policy: watching(["gradNorm", "gradDelta", "weightDelta"]),
      }),
    ],
  };
  const product = productEntry({ m: 64, n: 32, k: 48, layout: "TN" }, { recorded: 1e6 });
  const row = JSON.parse(JSON.stringify(await measureEntry(gpu, entry, LENGTHS)));
  const rate = JSON.parse(JSON.stringify(await measureEntry(gpu, product, LENGTHS)));
  assertEquals(Object.keys(row), ["work", "flops", "averaged", "lossAt", "sides"]);
  const [firn, watched] = row.sides;
  assertEquals(Object.keys(firn).toSorted(), [
    "allocated",
    "first",
    "loss",
    "memory",
    "ms",
    "name",
    "side",
    "times",
    "unclipped",
  ]);
  assertEquals([firn.times.length, firn.side, firn.unclipped], [2, FIRN_MODEL, null]);
  assertGreater(firn.ms.median, 0);
  // Weights and moments of 64 x 32 embeddings and one layer, and room for a step.
  assertGreater(firn.memory, 12 * 64 * 32);
  // The gradients of the step before.
  assertGreater(watched.memory, firn.memory + 4 * 64 * 32);
  assertEquals(
    [firn, watched].map((
      { allocated, memory },
    ) => [allocated.planned, allocated.held, allocated.peak, memory]),
    [
      Array(4).fill(firn.memory),
      Array(4).fill(watched.memory),
    ],
  );
  assertEquals(firn.loss, watched.loss);
  assertEquals([rate.flops, rate.sides[0].loss, rate.sides.length], [2 * 64 * 32 * 48, null, 1]);
});

Deno.test("the tiny work runs a product of each layout and a training of LoRA, and gives all memory back", async () => {
  await using gpu = await openGpu();
  const before = gpu.counts.bytes, { entries } = worksIn("f32").tiny;
  for (const entry of entries.filter(({ twin }) => twin!.kind !== "model")) {
    const { work, sides: [firn], averaged } = await measureEntry(gpu, entry, {
      rounds: 1,
      turn: 1,
      warmUp: 1,
    });
    assertEquals(averaged, /^product/.test(work));
    assertGreater(firn.ms.median, 0);
    if (firn.loss !== null) assertGreater(firn.loss, 1);
    if (firn.allocated !== null) assertEquals(firn.allocated.held, firn.allocated.planned);
  }
  assertEquals(entries.map(({ twin }) => twin!.kind), ["product", "product", "product", "model", "adapter"]);
  assertEquals(gpu.counts.bytes - before <= 65536, true);
});

Deno.test("measureEntry refuses contenders whose losses differ", async () => {
  await using gpu = await openGpu();
  const entry: Entry = {
    work: "unlike",
    lossAt: 1,
    tolerance: 1e-4,
    flops: null,
    averaged: false,
    twin: null,
    open: async () => [
      await firnModel(gpu, { shape: SHAPE, batch: 2, length: 8 }),
      await firnModel(gpu, { shape: { ...SHAPE, vocabulary: 128 }, batch: 2, length: 8, name: "other" }),
    ],
  };
  const refused = await measureEntry(gpu, entry, LENGTHS).catch((e) => e.message);
  assertMatch(refused, /^Cannot compare "Firn" and "other" as their losses must agree to 0.0001: /);
});

const side = (name: string, ms: number) =>
  sideResult({
    name,
    side: FIRN_MODEL,
    first: 1234,
    times: [ms, ms + 1, ms + 2],
    unclipped: name === "PyTorch" ? [ms - 1] : null,
    memory: 2 ** 30,
    allocated: name === "PyTorch" ? null : { planned: 2 ** 30, held: 2 ** 30, peak: 1.5 * 2 ** 30 },
    loss: 1,
  });
const ROW = {
  work: "w",
  flops: null,
  averaged: false,
  lossAt: 1,
  sides: [side("Firn", 99), side("PyTorch", 199)],
};

Deno.test("rowLines shows medians with their ends, memory, and the peer's time over Firn's", () => {
  assertEquals(rowLines(ROW), [
    [
      "w",
      "100.0 (99.0..101.0)",
      "1.00",
      "1.50",
      "1234",
      "PyTorch",
      "200.0 (199.0..201.0)",
      "198.0",
      "1.00",
      "2.000",
    ],
  ]);
  assertEquals(ratioOf(ROW, ROW.sides[1]), 2);
  // 1e12 operations in 100 ms.
  assertEquals(rowLines({ ...ROW, flops: 1e12 })[0][1], "10.0 TF (9.90..10.1)");
  assertEquals(line(["a", "1"]).startsWith("a   "), true);
  assertEquals(rowLines(ROW)[0].length, HEADS.length);
  assertLess(line(HEADS).length, 150);
});

Deno.test("memoryLines counts trainings that allocated what was planned, and says of others what differs", () => {
  const trained = (name: string, allocated: Memory) => ({ ...side(name, 1), allocated });
  const row = {
    ...ROW,
    sides: [
      trained("Firn", { planned: 100, held: 100, peak: 100 }),
      side("PyTorch", 1),
      trained("tuned", { planned: 100, held: 100, peak: 130 }),
      trained("leaky", { planned: 100, held: 108, peak: 108 }),
      trained("thrifty", { planned: 100, held: 92, peak: 100 }),
    ],
  };
  const [counted, ...apart] = memoryLines([row]);
  assertMatch(counted, /what was planned, to the byte, in 1 of 4 trainings of Firn/);
  assertEquals(apart, [
    "  w, tuned: planned 100 bytes, peak 130: 30 bytes were given back before the second step: tuning's, or weights as they were given",
    "  w, leaky: planned 100 bytes, peak 108: steps hold 8 bytes more than planned",
    "  w, thrifty: planned 100 bytes, peak 100: steps hold 8 bytes less than planned, 8 bytes were given back before the second step: tuning's, or weights as they were given",
  ]);
  assertEquals(memoryLines([{ ...ROW, sides: [side("PyTorch", 1)] }]), []);
});

Deno.test("fairness tells f16 storage from f32", async () => {
  assertEquals([firnModelSide(), firnModelSide("f32")], [FIRN_MODEL, FIRN_MODEL]);
  assertEquals(firnModelSide("f16"), { ...FIRN_MODEL, precision: "f16 storage, f32 sums" });
  await using gpu = await openGpu();
  if (!gpu.features.has("shader-f16")) return;
  const half = await firnModel(gpu, { shape: SHAPE, batch: 2, length: 8, precision: "f16", name: "f16" });
  await half.step();
  const { planned, held, peak } = half.memory()!;
  assertEquals([held, peak], [planned, planned]);
  assertMatch(
    fairness([{ ...ROW, sides: [{ ...side("f16", 1), side: half.side }] }])[0],
    /^f16: f16 storage, f32 sums;/,
  );
  half.close();
});

Deno.test("summary says how often Firn is ahead, and fairness who does what", () => {
  const behind = { ...ROW, sides: [side("Firn", 99), side("PyTorch", 49)] };
  assertEquals(summary([ROW, behind]), [
    "PyTorch takes 1.000 times as long as Firn (2 works, geometric mean; Firn is ahead in 1)",
  ]);
  assertEquals(fairness([ROW, behind]), [
    "Firn, PyTorch: f32; AdamW, fused; clipping global norm 1; attention fused; recomputes attention's probabilities; head tied; batch one, uploaded each step",
  ]);
});

Deno.test("every work says what Firn does in each respect", () => {
  assertEquals(Object.values(FIRN_MODEL).filter((said) => said === "").length, 0);
  assertEquals(Object.keys(FIRN_MODEL), [
    "precision",
    "optimizer",
    "clipping",
    "attention",
    "recompute",
    "head",
    "batch",
  ]);
});

Deno.test("alternating freezes half, thaws, and freezes again", () => {
  const policy = alternating(3);
  const parts = ["a", "b", "c", "d"].map((path) =>
    ({ path, parameters: [], layer: 0, kind: "linear", size: 4 }) as const
  );
  let state = policy.init(parts, { steps: 12 });
  const counts = Array.from({ length: 12 }, (_, i) => {
    state = policy.next(state, { steps: [i + 1], loss: [1], learningRate: [1], readings: {} });
    return policy.frozen(state).length;
  });
  assertEquals(counts, [0, 0, 2, 2, 2, 0, 0, 0, 2, 2, 2, 0]);
});

Deno.test("changesOf takes ordinary steps off the two steps of a change", () => {
  const all = [50, 10, 10, 10], half = [6, 6, 6, 6];
  const times = [...all, ...half, ...all, ...half, ...all];
  times[3] = 14; // planned: 4 more
  times[4] = 9; // recorded: 3 more
  const { step, frozenStep, extra } = changesOf(times, 4);
  assertEquals([step, frozenStep], [10, 6]);
  assertEquals(extra, { "freeze": 7, "thaw": 40, "freeze again": 0, "thaw again": 40 });
});
