/**
 * Trainings of the study on tiny models: the breadth, models from nothing, the cache, and runs that share a training.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import type { Gpu } from "@firn/train";
import { openTestGpu } from "../reference/open_gpu.ts";
import { measureCache } from "./study_cache.ts";
import { keptLine, keptText, parseKept } from "./study_columns.ts";
import { openLines, type StudyLine } from "./study_lines.ts";
import { openSubject, type Subject } from "./study_models.ts";
import { BREADTH_ARMS, type StudyTask } from "./study_plan.ts";
import { readCache } from "./study_report.ts";
import { makeRuns } from "./study_run.ts";
import { TINY, TINY_BREADTH, TINY_SCRATCH, tinySources } from "./study_tiny.ts";
import { type StudyLab, trainCourse } from "./study_train.ts";

/** The tiny study on a device. */
function labOf(gpu: Gpu): StudyLab {
  const power = {
    joules: (from: number, to: number) => to - from,
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
  return { ...TINY, gpu, power, precision: "f32", compiled: () => 0, versions: {} };
}

Deno.test("every arm of the breadth trains an adapter, and every arm of models from nothing an image, a text and a question", async () => {
  await using gpu = await openTestGpu();
  const folder = await Deno.makeTempDir();
  try {
    const open = tinySources(gpu), file = await openLines(folder);
    const lora = { ...TINY_BREADTH, tasks: TINY.tasks.filter(({ rank }) => rank !== null) };
    const fresh = { ...TINY_SCRATCH, arms: ["GradES", "bottom 50 %"] as const };
    for (const plan of [lora, fresh]) {
      const failed: unknown[] = [], subjects = new Map<string, Promise<Subject>>();
      const subjectOf = (task: StudyTask): Promise<Subject> => {
        if (!subjects.has(task.name)) {
          subjects.set(task.name, open(task).then((source) => openSubject(gpu, source)));
        }
        return subjects.get(task.name)!;
      };
      const onFailure = (run: unknown, error: unknown) => void failed.push([run, error]);
      assertEquals(await makeRuns(labOf(gpu), { plan, file, seconds: 600, subjectOf, onFailure }), true);
      assertEquals(failed, []);
    }
    // An adapter has no biases.
    assertEquals(file.lines.length, BREADTH_ARMS.length - 1 + 3 * fresh.arms.length);
    assert(file.lines.every(({ quality, flops }) => Number.isFinite(quality) && flops > 0));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("the cache of a frozen half is timed on a model that classifies, and its later epochs compute less", async () => {
  await using gpu = await openTestGpu();
  const folder = await Deno.makeTempDir(), said: string[] = [];
  try {
    const open = tinySources(gpu), tasks = TINY.tasks.filter(({ model }) => model === "minilm");
    const subject = open(tasks[0]).then((source) => openSubject(gpu, source));
    await measureCache(labOf(gpu), {
      ...{ tasks, subjectOf: () => subject, rateOf: () => 1e-3, out: folder, seconds: 600 },
      say: (line) => said.push(line),
    });
    const cache = await readCache(folder), [{ pairs }] = cache, [{ full, cached }] = pairs;
    const kept = parseKept(keptText({ lines: [], cache }), "").cache;
    assertEquals(kept[0].pairs.map((pair) => pair.cached), pairs.map((pair) => keptLine(pair.cached)));
    assertEquals([said.length, pairs.length, full.frozen, cached.frozen > 0], [3, 3, 0, true]);
    assert(2 * cached.flops < full.flops, `${cached.flops} of ${full.flops}`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("runs that share a training are the runs that they are alone, to the byte", async () => {
  await using gpu = await openTestGpu();
  const [task] = TINY.tasks, lab = labOf(gpu), source = await tinySources(gpu)(task);
  const runs = (["full", "1/2 of the steps", "bottom 50 %", "full"] as const).map((arm, i) =>
    ({ task, arm, rate: task.rates[i % 2], seed: 1 + i, purpose: "tune" }) as const
  );
  const [together, alone] = [[], []] as [StudyLine[], StudyLine[]];
  const shared = await openSubject(gpu, source);
  // What the device makes once is there.
  await trainCourse(lab, {
    run: runs[0],
    arms: ["full"],
    tau: null,
    subject: await openSubject(gpu, source),
  });
  for (const run of runs) {
    const course = { run, arms: [run.arm], tau: null };
    together.push(...await trainCourse(lab, { ...course, subject: shared }));
    alone.push(...await trainCourse(lab, { ...course, subject: await openSubject(gpu, source) }));
  }
  assertEquals(shared.trainings.size, 2);
  const told = (lines: readonly StudyLine[]) =>
    lines.map((
      { loss, steps, flops, peakBytes, curve },
    ) => [loss, steps, flops, peakBytes, curve.at(-1)![3]]);
  assertEquals(told(together), told(alone));
});

Deno.test("full training takes the same memory whether early stopping copies its best weights beside it, or not", async () => {
  await using gpu = await openTestGpu();
  const lab = labOf(gpu), sources = tinySources(gpu);
  for (const task of TINY.tasks.slice(0, 2)) {
    const subject = await openSubject(gpu, await sources(task));
    const run = { task, arm: "full", rate: task.rates[0], seed: 1, purpose: "tune" } as const;
    const bytes: number[] = [];
    for (const arms of [["full"], ["full"], ["early stopping", "full"]] as const) {
      const lines = await trainCourse(lab, { run, arms, tau: null, subject });
      bytes.push(lines.find(({ arm }) => arm === "full")!.peakBytes);
    }
    // The device makes something once, in the first of them.
    assertEquals(bytes[2], bytes[1], task.name);
  }
});
