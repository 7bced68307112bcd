/**
 * The report of the study, on runs that are made up.
 *
 * @module
 */

import { assert, assertAlmostEquals, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { DataError } from "@firn/train";
import { cacheLine, cacheNumbers } from "./study_cache.ts";
import { claimsOf } from "./study_claims.ts";
import { cacheLines, conclusionLines, progressLines } from "./study_conclusions.ts";
import type { StudyLine } from "./study_lines.ts";
import { madeUp } from "./study_made_up.ts";
import {
  finalRuns,
  isExploratory,
  PLAN,
  type PlannedRun,
  PRIMARY,
  type StudyPlan,
  tuningRuns,
} from "./study_plan.ts";
import { drawStudy } from "./study_plot.ts";
import { between, partsOf } from "./study_report.ts";
import { summarise, verdictOf } from "./study_summary.ts";
import { studyTable } from "./study_table.ts";
import { undisturbedCurve, undisturbedSeconds, wholeSeconds } from "./study_times.ts";

const NAMES = ["instruction-full", "instruction-lora", "banking77-smollm2"];
const SMALL: StudyPlan = { ...PLAN, tasks: PLAN.tasks.filter(({ name }) => NAMES.includes(name)) };
const [TASK] = SMALL.tasks;
const TUNED = tuningRuns(SMALL).map(madeUp);
const ALL = [...TUNED, ...finalRuns(SMALL, ({ rates }) => rates[1]).map(madeUp)];

Deno.test("summarise takes the tuned rate, pairs runs by seed, and compares at equal time with the best shorter training", () => {
  const summaries = summarise(SMALL, ALL);
  const of = (arm: string) => summaries.find((one) => one.task === TASK && one.arm === arm)!;
  assertEquals([of("auto").rate, of("auto").seeds, summaries.length], [
    TASK.rates[1],
    5,
    3 * PLAN.arms.length,
  ]);
  // 2.5 s lie between 60 steps (3.3) and 90 steps (3.1): 3.2.
  const equal = of("auto").atEqualTime!, wanted = 3.2 - 3.1;
  assert(Math.abs(equal.mean - wanted) < 0.005 && equal.low < wanted && wanted < equal.high);
  assertEquals([verdictOf(equal), equal.count], ["better", 5]);
  assert(equal.corrected > equal.p);
  // Without its changes it has 2.0 s.
  assert(Math.abs(of("auto").withoutChanges!.mean - 0.2) < 0.005);
  assertEquals(verdictOf(of("GradES").atEqualTime), "open");
  assertEquals(verdictOf(of("GradES").toFull), "worse");
  // Full training, which ends before it, is the best that takes no longer. Shorter training is no arm to be compared.
  assert(Math.abs(of("early stopping").atEqualTime!.mean) < 0.005);
  assertEquals([of("full").toFull, of("3/4 of the steps").atEqualTime], [null, null]);
  // Where longer training is worse, as its validation says, the shorter one is taken.
  const over = ALL.map((line) =>
    line.arm === "1/2 of the steps" ? { ...line, quality: -2.9, validation: line.validation + 1 } : line
  );
  const best = summarise(SMALL, over).find((one) => one.task === TASK && one.arm === "auto")!;
  assert(Math.abs(best.atEqualTime!.mean + 0.2) < 0.005);
  // So is full training that was stopped.
  const stop = ALL.map((line) =>
    line.arm === "stop at alpha T" ? { ...line, quality: -2.8, validation: line.validation + 1 } : line
  );
  const stopped = summarise(SMALL, stop).find((one) => one.task === TASK && one.arm === "auto")!;
  assert(Math.abs(stopped.atEqualTime!.mean + 0.3) < 0.005);
  // A stall of one seed moves no median.
  const stalled = ALL.map((line) => line.arm === "auto" && line.seed === 22 ? { ...line, seconds: 9 } : line);
  assertEquals(
    summarise(SMALL, stalled).find((one) => one.task === TASK && one.arm === "auto")!.atEqualTime,
    equal,
  );
  // What is faster than all shorter training is compared with the fastest, and cannot be worse than that.
  const fast = (quality: number) =>
    summarise(SMALL, ALL.map((line) => line.arm === "auto" ? { ...line, seconds: 1, quality } : line))
      .find((one) => one.task === TASK && one.arm === "auto")!.atEqualTime!;
  const [good, bad] = [fast(-3.1), fast(-3.5)];
  assert(good.slower && Math.abs(good.mean - 0.2) < 0.005 && bad.mean < -0.19);
  assertEquals([verdictOf(good), verdictOf(bad)], ["better", "open"]);
  // The primary arm is corrected for its three tasks alone: 3 times the smallest p at most.
  const own = summaries.filter(({ arm }) => arm === PRIMARY).map(({ atEqualTime }) => atEqualTime!);
  assertAlmostEquals(Math.min(...own.map((d) => d.corrected)), 3 * Math.min(...own.map(({ p }) => p)), 1e-12);
});

Deno.test("a stall of one part of one run lengthens that run, and nothing of an undisturbed machine", () => {
  const ends = [60, 60, 48],
    run = (stall: number, i: number) => ({
      seconds: ends[i] / 10 + stall,
      curve: [[0, 0, 0, 0], [3 + stall, 30, 0, 0], [ends[i] / 10 + stall, ends[i], 0, 0]] as const,
    });
  const runs = [run(0, 0), run(0, 1), run(9, 2)];
  assertAlmostEquals(wholeSeconds(runs), 6, 1e-12);
  assertAlmostEquals(undisturbedSeconds(runs), 6, 1e-12);
  const curve = undisturbedCurve(runs);
  [0, 3, 4.8].forEach((seconds, i) => assertAlmostEquals(curve(runs[2])[i], seconds, 1e-12));
  assertAlmostEquals(undisturbedSeconds(runs, 1), 3, 1e-12);
  assertEquals(undisturbedSeconds([]), NaN);
});

Deno.test("an arm without a final run is shown by its best tuning run, and says nothing of differences", () => {
  const summaries = summarise(SMALL, TUNED);
  assert(
    summaries.every(({ seeds, toFull, atEqualTime, lines }) =>
      seeds === 0 && toFull === null && atEqualTime === null && lines.length === 1
    ),
  );
  assertEquals(summaries[0].lines[0].rate, TASK.rates[1]);
  assertMatch(
    studyTable(summaries)[2],
    /^\| instruction-full, full \| 0\.00003 \| tuning \| 120 \| 3\.\d{4} \| {2}\| {2}\| {2}\| 4\.00 \|/,
  );
  const early = conclusionLines(SMALL, summaries).join("\n");
  assertMatch(early, /is not measured yet/);
  assert(
    claimsOf(SMALL, summaries).every(({ verdict }) => verdict !== "confirmed" && verdict !== "not confirmed"),
  );
  assertMatch(
    progressLines(SMALL, TUNED).join(),
    /^90 of 90 tuning runs and 0 of 150 final runs are finished\. What has no final run yet is shown by its tuning run,/,
  );
  // Where a seed alone is missing, each arm is shown by final runs.
  assertMatch(
    progressLines(SMALL, ALL.slice(0, -1)).join(),
    /^90 of 90 tuning runs and 149 of 150 final runs are finished\.$/,
  );
});

Deno.test("conclusions and verdicts are those of the runs", () => {
  const summaries = summarise(SMALL, ALL), text = conclusionLines(SMALL, summaries).join("\n");
  assertMatch(
    text,
    /\*\*auto beats “just train shorter” at equal wall-clock on 3 tasks\*\*: instruction-full, instruction-lora, banking77-smollm2\./,
  );
  assertMatch(
    text,
    /\*\*GradES\*\*, at equal wall-clock .* better on 0; worse on 0; not told from chance on 3\./,
  );
  const claims = claimsOf(SMALL, summaries);
  // 4 s in full, 2.5 by GradES, of which the time up to half of the steps is 0.625 of that of full training.
  assertEquals(claims.map(({ verdict }) => verdict), [
    "confirmed",
    "confirmed",
    "confirmed",
    "not confirmed",
    "confirmed",
    "confirmed",
    "confirmed",
    "confirmed",
    "not measured yet",
  ]);
  // A mean that is better by chance is not better.
  const luck = ALL.map((line) =>
    line.arm === "GradES" ? { ...line, quality: -3.35 - (line.seed % 2 === 0 ? 0.2 : -0.2) } : line
  );
  assertEquals(claimsOf(SMALL, summarise(SMALL, luck))[6].verdict, "not confirmed");
  // To stop full training is to train shorter: it is no policy that beats this.
  const stop = ALL.map((line) => line.arm.startsWith("stop") ? { ...line, quality: -2 } : line);
  assertEquals(/^\*\*stop/m.test(conclusionLines(SMALL, summarise(SMALL, stop)).join("\n")), false);
  assertMatch(claims[3].measured, / begins at -6\.\d\d % .*; supported by 0 of 3 tasks$/);
  // Not to be told from chance is not to be equal.
  const wide = ALL.map((line) =>
    line.arm === "GradES" ? { ...line, quality: -3 - (line.seed % 2 === 0 ? 0.2 : -0.2) } : line
  );
  assertEquals(claimsOf(SMALL, summarise(SMALL, wide))[3].verdict, "not confirmed");
  const equal = ALL.map((line) => line.arm === "GradES" ? { ...line, quality: -3.005 } : line);
  assertEquals(claimsOf(SMALL, summarise(SMALL, equal))[3].verdict, "confirmed");
  const half = ALL.filter(({ task, purpose }) => purpose === "tune" || task !== TASK.name);
  assertEquals(claimsOf(SMALL, summarise(SMALL, half))[0].verdict, "confirmed so far");
  // A task that is missing cannot help a claim that another one speaks against.
  const low = half.map((line) => line.arm === "GradES" ? { ...line, quality: -3.2 } : line);
  assertEquals(claimsOf(SMALL, summarise(SMALL, low))[3].verdict, "not confirmed");
  assertMatch(claims[0].measured, /^1\.60 times; supported by 2 of 2 tasks$/);
  // A small model from nothing tells nothing of one that was trained before.
  const vision = summaries.filter(({ task }) => task === TASK).map((one) => ({
    ...one,
    task: { ...TASK, name: "digits-smolvlm" },
  }));
  const { verdict, measured } = claimsOf(SMALL, [...summaries, ...vision])[8];
  assertEquals(verdict, "not testable here");
  assertMatch(measured, /^1\.60 times, with a small SmolVLM from nothing; supported by 1 of 1 task$/);
  const slow = ALL.map((line): StudyLine =>
    line.arm === "GradES" ? { ...line, seconds: 4.2, curve: [[0, 0, 0, -5], [4.2, 120, 3, -3]] } : line
  );
  assertEquals(claimsOf(SMALL, summarise(SMALL, slow))[0].verdict, "not confirmed");
  const weak = ALL.map((line) => line.arm === "auto" ? { ...line, quality: -3.3 } : line);
  assertMatch(
    conclusionLines(SMALL, summarise(SMALL, weak))[0],
    /^\*\*No arm that freezes beats “just train shorter” .*: 3 of 3 tasks have all runs of all arms\.$/,
  );
  const short = weak.filter(({ arm, seed }) => arm !== "random 50 %" || seed !== 25);
  assertMatch(conclusionLines(SMALL, summarise(SMALL, short))[0], /: 0 of 3 tasks have all runs/);
});

Deno.test("what auto does on the tasks that it was designed on counts for nothing", () => {
  const plan = { ...PLAN, tasks: PLAN.tasks.filter(({ data }) => data === "moby") };
  const runs = [...tuningRuns(plan), ...finalRuns(plan, ({ rates }) => rates[1])].map(madeUp);
  const summaries = summarise(plan, runs), text = conclusionLines(plan, summaries).join("\n");
  assertMatch(text, /^\*\*No arm that freezes beats/);
  assertMatch(
    text,
    /auto on moby-lora, where it was designed \(exploratory\), at equal wall-clock: \*\*\+0\.10\d\d \(.*\)\*\* nats\./,
  );
  assertMatch(studyTable(summaries).join("\n"), /\| moby-full, auto \(exploratory\) \|/);
  const seen = (arm: PlannedRun["arm"]) =>
    PLAN.tasks.filter((task) => isExploratory({ task, arm })).map(({ name }) => name);
  const five = ["moby-full", "moby-lora", "banking77-minilm", "spam-minilm", "spam-smollm2"];
  assertEquals([seen("auto"), seen("GradES"), seen("bottom 50 %")], [five, [], []]);
});

Deno.test("the cache's numbers are times of whole runs and of epochs behind the first", () => {
  const line = (seconds: number, first: number, loss: number) =>
    ({
      seconds,
      loss,
      rate: 0.001,
      planned: 6,
      flops: 3 * seconds,
      quality: 0.5,
      curve: [[0, 0, 0, 0], [first, 1, 0, 0], [seconds, 6, 0, 0]],
    }) as unknown as StudyLine;
  // Medians of times leave out the pair that something else delayed.
  const pairs = [12, 12, 60].map((full) => ({ full: line(full, 2, 2), cached: line(6, 2, 2.01) }));
  const result = { task: "t", epochs: 6, pairs }, { times, later, flops, loss } = cacheNumbers(result);
  assertEquals([times, later, flops], [2, 2.5, 2]);
  assertAlmostEquals(loss, 0.005, 1e-12);
  const said =
    /^t, 6 epochs, rate 0\.001, 3 seeds: 12\.00 s in full, 6\.00 s.*2\.00 times as fast, 2\.50 behind.*\(\+0\.50 %\), accuracy 50\.00 and 50\.00 %$/;
  assertMatch(cacheLine(result), said);
  assertMatch(
    cacheLines([result]).at(-1)!,
    /^At least 1\.8 times as fast with a loss at most 1 % higher: t, by 3 seeds\.$/,
  );
  const slow = [{ full: line(12, 2, 2), cached: line(8, 2, 2) }];
  assertMatch(cacheLines([{ ...result, pairs: slow }]).at(-1)!, /^No task is 1\.8 times/);
});

Deno.test("between replaces what stands between markers, and names a missing one", () => {
  const text = "a\n<!-- x -->\n\nold\n\n<!-- /x -->\nb\n";
  const once = between(text, { part: "x", lines: ["new"] });
  assertEquals(once, "a\n<!-- x -->\n\nnew\n\n<!-- /x -->\nb\n");
  assertEquals(between(once, { part: "x", lines: ["new"] }), once);
  assertThrows(() => between(text, { part: "y", lines: [] }), DataError, "<!-- y -->");
});

Deno.test("the breadth stands beside full training of the same seed and rate, with the columns of the other tables", () => {
  const run: PlannedRun = { task: TASK, arm: "auto", rate: TASK.rates[1], seed: 21, purpose: "final" };
  const prefix = { ...madeUp(run), arm: "prefix", peakBytes: 2e9, joules: 7 };
  const { breadth } = partsOf(SMALL, { lines: [...ALL, prefix], cache: [] }).parts;
  const [head, , ...rows] = breadth.map((row) => row.split("|").slice(1, -1).map((cell) => cell.trim()));
  assertEquals(rows.map(([name, seeds]) => `${name}: ${seeds}`), [
    "instruction-full, full: 1",
    "instruction-full, GradES: 1",
    "instruction-full, prefix: 1",
  ]);
  assertEquals(Object.fromEntries(head.map((name, i) => [name, rows[2][i]])), {
    "task, arm": "instruction-full, prefix",
    "seeds": "1",
    "steps": "120",
    "quality": "3.1010",
    // 2.5 s lie between 60 steps (3.303) and 90 steps (3.103) of that seed. One seed has no interval.
    "at equal time": "+0.1020",
    "s": "2.50",
    "changes, s": "0.50",
    "TFLOP": "2.5",
    "MB": "2000",
    "J": "7",
    "forgetting": "20.0 → 25.0",
    "frozen": "0 of 9",
  });
  // In the core a single seed tells no difference.
  const one = summarise(SMALL, ALL.filter(({ seed }) => seed === 21 || seed === PLAN.tuningSeed));
  assert(
    one.every(({ seeds, toFull, atEqualTime }) => seeds === 1 && toFull === null && atEqualTime === null),
  );
});

Deno.test("STUDY.md has the markers of all parts, and the plot has a line for each arm", async () => {
  const document = await Deno.readTextFile(new URL("STUDY.md", import.meta.url));
  const { parts, summaries } = partsOf(SMALL, { lines: ALL, cache: [] });
  for (const [part, lines] of Object.entries(parts)) between(document, { part, lines });
  const svg = await drawStudy(summaries);
  assertMatch(svg, /^<svg /);
  for (const arm of PLAN.arms) assert(svg.includes(arm), arm);
});
