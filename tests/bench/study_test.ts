/**
 * The study: which runs it makes, that it goes on where it stopped, and that its numbers are theirs.
 *
 * @module
 */

import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertMatch,
  assertRejects,
  assertThrows,
} from "@std/assert";
import { DataError, InputError, NotFoundError } from "@firn/train";
import { UsageError } from "../../examples/flags.ts";
import { withArms, withTasks } from "./study.ts";
import { compileClock, joulesOf } from "./study_clocks.ts";
import { keptLine, keptText, parseKept } from "./study_columns.ts";
import { everyBatch, kindOf, trainBatches } from "./study_data.ts";
import {
  checkAlike,
  joinLines,
  keyOf,
  keyOfPlanned,
  lineOf,
  openLines,
  parseLines,
  type StudyLine,
} from "./study_lines.ts";
import { openSubject, type Subject } from "./study_models.ts";
import {
  ARMS,
  beyond,
  finalRuns,
  lengthOf,
  OF_FULL,
  PLAN,
  plannedSteps,
  stopStep,
  TASKS,
  tuningRuns,
} from "./study_plan.ts";
import { bottomOf, grace, modulesOf, primary, randomTwinOf, tauOf } from "./study_policies.ts";
import { medianOf } from "./study_statistics.ts";
import { bestRate, DIVERGED, makeRuns, nextCourse } from "./study_run.ts";
import { TINY, tinySources } from "./study_tiny.ts";
import { planningOf, type StudyLab } from "./study_train.ts";
import { openTestGpu } from "../reference/open_gpu.ts";
import { auto, blocksOf } from "@firn/train/policies";
import { hostValues } from "../../core/sources.ts";
import type { Gpu, Tensor } from "@firn/train";

/** A finished run of the plan, with made-up numbers. */
function finished(run: Parameters<typeof keyOfPlanned>[0], more: Partial<StudyLine> = {}): StudyLine {
  const { task, ...rest } = run;
  return { ...rest, task: task.name, validation: 0, quality: 0, tau: null, ...more } as StudyLine;
}

Deno.test("the plan has eight tasks and no run twice, and final seeds that no tuning run uses", () => {
  const tuning = tuningRuns(PLAN), final = finalRuns(PLAN, ({ rates }) => rates[0]);
  assertEquals([TASKS.length, tuning.length, final.length], [8, 8 * 3 * ARMS.length, 8 * 5 * ARMS.length]);
  const all = [...tuning, ...final].map(keyOfPlanned);
  assertEquals(new Set(all).size, all.length);
  assert(!PLAN.finalSeeds.includes(PLAN.tuningSeed));
  for (const { rows, batch, rates } of TASKS) assert(rows % batch === 0 && rates.length === 3);
  assertEquals(ARMS.map((arm) => plannedSteps(arm, PLAN)), [120, 90, 60, ...Array(7).fill(120)]);
  assertEquals([stopStep("stop at alpha T", PLAN), stopStep("stop at 4/5 T", PLAN)], [66, 96]);
  for (const task of TASKS) {
    const length = lengthOf(PLAN, task), { steps, look, judge } = length;
    const ends = [...ARMS.map((arm) => plannedSteps(arm, length)), stopStep("stop at alpha T", length)!];
    assert(steps === 20 * look && judge === 4 * look && ends.every((step) => step % look === 0), task.name);
    assertEquals(stopStep("stop at 4/5 T", length), 0.8 * steps);
  }
});

Deno.test("an arm that is best at an edge of its rates is tuned once beyond it, and each arm by itself", () => {
  const [{ rates }] = TASKS, [low, middle, high] = rates;
  assertEquals([beyond({ rates: [1, 3, 10] }, 3), beyond({ rates: [1, 3, 10] }, 10)], [null, 33.3]);
  const plan = { ...PLAN, tasks: TASKS.slice(0, 1), arms: ["auto", "GradES"] as const },
    lines: StudyLine[] = [];
  const good: Record<string, Record<number, number>> = {
    auto: { [low]: 1, [middle]: 2, [high]: 2 },
    GradES: { [low]: 3, [middle]: 2, [high]: 1 },
  };
  let final = nextCourse(plan, lines)!;
  for (; final.run.purpose === "tune"; final = nextCourse(plan, lines)!) {
    lines.push(finished(final.run, { validation: good[final.run.arm][final.run.rate] ?? 2.5 }));
  }
  assertEquals(lines.map(({ arm, rate }) => [arm, rate]).slice(6), [[
    "GradES",
    Number((low * low / middle).toPrecision(3)),
  ]]);
  // The rate beyond is worse, and of two that are equally good the middle one is taken.
  const rateOf = (arm: string) => bestRate(lines, { task: plan.tasks[0], arm });
  assertEquals([rateOf("auto"), rateOf("GradES")], [middle, low]);
  const more = lines.with(-1, { ...lines.at(-1)!, validation: 9 });
  assertEquals(bestRate(more, { task: plan.tasks[0], arm: "GradES" }), more.at(-1)!.rate);
});

Deno.test("nextCourse finishes task by task, tunes all arms before a final run, reads several arms off one training, and gives each its best rate", () => {
  const lines: StudyLine[] = [];
  let trainings = 0;
  for (let next = nextCourse(PLAN, lines); next !== null; next = nextCourse(PLAN, lines)) {
    trainings++;
    for (const arm of next.arms) {
      const run = { ...next.run, arm };
      const { task, rate, purpose } = run, at = task.rates.indexOf(rate);
      const before = PLAN.tasks.slice(0, PLAN.tasks.indexOf(task)).map(({ name }) => name);
      assertEquals(lines.filter((line) => line.task !== task.name).length, before.length * 8 * ARMS.length);
      if (purpose === "final") {
        const own = lines.filter((line) => line.purpose === "tune" && line.task === task.name);
        assertEquals(own.length, 3 * ARMS.length);
        assertEquals(at, 1);
        assertEquals(next.tau, arm === "GradES" ? 1 : null);
      }
      // The middle rate is the best, so that none is tuned beyond the others.
      lines.push(
        finished(run, {
          validation: at === 1 ? 1 : 0,
          tau: arm === "GradES" ? (1 + at) / 2 : null,
        }),
      );
    }
  }
  assertEquals(new Set(lines.map(keyOf)).size, 8 * 8 * ARMS.length);
  // Arms of the full training share it.
  assertEquals(trainings, 8 * (3 + 5) * (ARMS.length - 3));
  const [task] = TASKS;
  assertEquals(bestRate(lines, { task, arm: "early stopping" }), task.rates[1]);
  assertEquals(bestRate(lines.slice(1), { task, arm: "full" }), null);
});

Deno.test("lines survive a cut: half a line is dropped, and a broken one within the file is named", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const line = finished(tuningRuns(PLAN)[0], { quality: 1 / 3 });
    const file = await openLines(`${folder}/new`);
    await file.add(line);
    await Deno.writeTextFile(`${folder}/new/lines.jsonl`, lineOf(line) + lineOf(line).slice(0, 20));
    const again = await openLines(`${folder}/new`);
    assertEquals(again.lines.map(({ quality }) => quality), [0.333333]);
    await again.add({ ...line, seed: 7 });
    assertEquals((await openLines(`${folder}/new`)).lines.map(({ seed }) => seed), [PLAN.tuningSeed, 7]);
    assertThrows(() => parseLines(`{"a\n${lineOf(line)}`, "f"), DataError, 'line 1 of "f"');
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("runs of two folders are joined, and none counts twice", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const [one, two] = tuningRuns(PLAN).map((run) => finished(run));
    const [a, b] = await Promise.all(["a", "b"].map((name) => openLines(`${folder}/${name}`)));
    await a.add(one);
    await b.add(two);
    const parts = [{ folder: "a", lines: a.lines }, { folder: "b", lines: b.lines }];
    assertEquals(joinLines(parts), [one, two]);
    const error = assertThrows(() => joinLines([...parts, { folder: "c", lines: [two] }]), InputError);
    assertMatch(error.message, /"b" and "c".*"moby-lora","full",0\.001,300,"tune"/);
    await Deno.writeTextFile(`${folder}/a/lines.jsonl`, lineOf(one) + lineOf(one));
    const twice = await assertRejects(() => openLines(`${folder}/a`), InputError);
    assertMatch(twice.message, /\/a" as none may count twice/);
    await assertRejects(() => openLines(`${folder}/none`, { make: false }), NotFoundError);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("runs of another primary policy, precision or GPU are refused", () => {
  const versions = { adapter: "H200" }, more = { precision: "f16", versions };
  const lines = tuningRuns(PLAN).map((run) =>
    finished(run, { ...more, policy: run.arm === "auto" ? primary().name : null })
  );
  const expected = { folder: "f", plan: PLAN, primary: primary().name, precision: null, adapter: null };
  checkAlike([], expected);
  checkAlike(lines, expected);
  checkAlike(lines, { ...expected, precision: "f16", adapter: "H200" });
  const refused = (line: Partial<StudyLine>, rule: RegExp): void => {
    const other = { ...lines.find(({ arm }) => arm === "auto")!, ...line };
    const error = assertThrows(() => checkAlike([...lines, other], expected), InputError);
    assertMatch(error.message, rule);
  };
  refused({ policy: auto({ share: 0.1 }).name }, /^Cannot use the runs in "f" as its runs of auto must be/);
  refused({ seed: 100 }, /its seeds must be of 300, 21, 22, 23, 24, 25: one is of 100;/);
  refused({ precision: "f32" }, /must be of one precision, here f16: one is of f32/);
  refused({ versions: { adapter: "A100" } }, /must be of one kind of GPU, here H200: one is of A100/);
  assertThrows(() => checkAlike(lines, { ...expected, precision: "f32" }), InputError, "here f32");
});

Deno.test("--tasks takes tasks in its order, and names those that there are", () => {
  assertEquals(withTasks(PLAN, null), PLAN);
  const { tasks } = withTasks(PLAN, "spam-minilm,moby-full");
  assertEquals(tasks.map(({ name }) => name), ["spam-minilm", "moby-full"]);
  assertThrows(() => withTasks(PLAN, "moby"), UsageError, "moby-full, moby-lora");
  assertEquals(withArms(PLAN, "auto,full").arms, ["full", "auto"]);
  assertThrows(
    () => withArms(PLAN, "full,none"),
    UsageError,
    'early stopping, GradES, auto, bottom 50 %, random 50 %: got "none"',
  );
});

Deno.test("the clock of compiling holds the measuring of products, and one that failed leaves it standing", async () => {
  const told: number[] = [], tuning = { onProgress: ({ done }: { done: number }) => void told.push(done) };
  const { compiled, tuned } = compileClock(
    { device: { createShaderModule() {}, createComputePipeline() {} }, tuning } as never,
  );
  const tell = (done: number) => tuning.onProgress({ done });
  tell(0);
  await new Promise((resolve) => setTimeout(resolve, 20));
  tell(1);
  const ms = tuned();
  assert(ms >= 15 && compiled() === ms);
  await new Promise((resolve) => setTimeout(resolve, 20));
  tell(0);
  assertEquals([tuned(), compiled(), told], [ms, ms, [0, 1, 0]]);
});

Deno.test("planning of changed sets is what their looks take beyond others", () => {
  const look = (ms: number, changed = false) => ({ ms, changed });
  assertEquals(
    planningOf([look(5), look(7), look(900), look(107, true), look(57, true), look(3, true)]),
    150,
  );
  assertEquals(planningOf([look(100, true)]), 0);
});

Deno.test("batches have each row once an epoch, learn from the index on, and have an order of each seed", () => {
  const rows = [[0, 1, 2], [1, 3, 4, 5], [2, 6, 7, 8], [1, 9, 9]],
    sizes = { batch: 2, length: 3, padding: 0, kind: "tokens" } as const;
  const [first] = everyBatch(rows, sizes);
  assertEquals([...hostValues(first.inputIds, "")], [1, 2, 0, 3, 4, 5]);
  assertEquals([...hostValues(first.labels, "")], [1, 2, -100, -100, 4, 5]);
  const heads = (seed: number): number[] => {
    const found: number[] = [];
    for (const { inputIds } of trainBatches(rows, { ...sizes, seed })) {
      const ids = hostValues(inputIds, "");
      found.push(ids[0], ids[3]);
      if (found.length === 8) return found;
    }
    return found;
  };
  assertEquals([heads(1).slice(0, 4).toSorted(), heads(1).slice(4).toSorted()], [[1, 3, 6, 9], [1, 3, 6, 9]]);
  assert([2, 3, 4].some((seed) => heads(seed).join() !== heads(1).join()));
});

Deno.test("batches of digits hold what is in their rows, and what fills them is not learned", () => {
  const black = Array<number>(784).fill(0), white = Array<number>(784).fill(255);
  const rows = [[7, ...black], [4, ...white], [3, ...black]], sizes = { batch: 4, length: 6, padding: 0 };
  const [images] = everyBatch(rows, { ...sizes, kind: kindOf("vit", { classes: ["0"] }) });
  assertEquals([...hostValues(images.labels, "")], [7, 4, 3, -100]);
  const pixels = hostValues((images as unknown as { pixelValues: Tensor }).pixelValues, "");
  assertEquals([pixels.length, pixels[0] < 0, pixels[784] > 2, pixels[3 * 784]], [4 * 784, true, true, 0]);
  const [asked] = everyBatch(rows, { ...sizes, kind: kindOf("smolvlm", { classes: null }) });
  const ids = [...hostValues(asked.inputIds, "")], labels = [...hostValues(asked.labels, "")];
  // Which digit: 3 and the digit. Whether it is even: 13 for yes.
  assertEquals(ids.slice(0, 12), [0, 0, 0, 0, 1, 10, 0, 0, 0, 0, 2, 13]);
  assertEquals(labels.filter((id) => id !== -100), [10, 13, 6]);
});

Deno.test("energy is power times time, each reading until the next", () => {
  const samples = [[0, 100], [100, 300], [200, 100]] as const;
  assertAlmostEquals(joulesOf(samples, { from: 50, to: 150 })!, 5 + 15, 1e-9);
  assertAlmostEquals(joulesOf(samples, { from: 150, to: 1150 })!, 15 + 95, 1e-9);
  assertEquals(joulesOf(samples, { from: -20, to: -10 }), null);
});

Deno.test("grace takes the median of the last tenth of the grace period as tau, and stops when all are frozen", () => {
  const policy = grace("gradNorm");
  const components = [1, 2, 3, 4].map((n) =>
    ({ path: `layers.0.${n}`, parameters: [], layer: 0, kind: "linear", size: 1 }) as const
  );
  const looked = (from: number, to: number, scale: number) => {
    const steps = Array.from({ length: to - from + 1 }, (_, i) => from + i);
    const gradNorm = Object.fromEntries(
      components.map(({ path }, i) => [path, steps.map(() => scale * (i + 1))]),
    );
    return { steps, loss: steps, learningRate: steps, readings: { gradNorm } };
  };
  let state = policy.next(policy.init(components, { steps: 100 } as never), looked(1, 49, 100));
  assertEquals(policy.frozen(state), []);
  // The grace period ends with step 55, its last tenth begins with 50.
  state = policy.next(state, looked(50, 56, 1));
  assertEquals([tauOf(state), policy.frozen(state)], [2.5, ["layers.0.1", "layers.0.2"]]);
  assertEquals(policy.stopped?.(state, []), false);
  state = policy.next(state, looked(57, 58, 0.5));
  assertEquals(policy.stopped?.(state, []), true);
  assertEquals([medianOf([3, 1, 2]), tauOf(null)], [2, null]);
});

Deno.test("the random twin of the bottom half freezes as many components, and never what lies above the layers", () => {
  const paths = [
    "embed.weight",
    "layers.0.a.weight",
    "layers.0.a.bias",
    "layers.0.b.weight",
    "layers.1.a.lora_A.weight",
  ]
    .concat(["layers.1.a.lora_B.weight", "layers.1.b.weight", "score.weight"]);
  const blocks = blocksOf(modulesOf(paths));
  assertEquals(bottomOf(blocks, 0.5), ["embed", "layers.0.a", "layers.0.b"]);
  const twins = [1, 2, 3, 4].map((seed) => randomTwinOf(blocks, { share: 0.5, seed }));
  assertEquals(twins.map((twin) => new Set(twin).size), [3, 3, 3, 3]);
  assert(!twins.flat().includes("score"));
  assert(new Set(twins.map((twin) => twin.toSorted().join())).size > 1);
});

/** The tiny study on a device. */
function labOf(gpu: Gpu): StudyLab {
  const power = {
    joules: (from: number, to: number) => to - from,
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
  return { ...TINY, gpu, power, precision: "f32", compiled: () => 0, versions: {} };
}

Deno.test("the tiny study goes on where it stopped, and arms of one training are that training", async () => {
  await using gpu = await openTestGpu();
  const folder = await Deno.makeTempDir();
  try {
    const [full] = TINY.tasks;
    const plan = { ...TINY, tasks: [full], arms: OF_FULL };
    const sources = tinySources(gpu),
      subject: Promise<Subject> = sources(full).then((one) => openSubject(gpu, one));
    const options = { plan, subjectOf: () => subject, seconds: 600 };
    assertEquals(await makeRuns(labOf(gpu), { ...options, file: await openLines(folder), most: 1 }), false);
    const file = await openLines(folder), [before] = file.lines;
    assertEquals(file.lines.map(({ arm, steps }) => [arm, steps]), [
      ["stop at alpha T", 6],
      ["early stopping", 8],
      ["stop at 4/5 T", 8],
      ["full", 8],
    ]);
    const bytes = gpu.counts.bytes;
    assertEquals(await makeRuns(labOf(gpu), { ...options, file, most: 2 }), false);
    // What a training made is freed.
    assertEquals(gpu.counts.bytes, bytes);
    assertEquals([file.lines.length, new Set(file.lines.map(keyOf)).size, file.lines[0] === before], [
      12,
      12,
      true,
    ]);
    for (const line of file.lines) {
      assert(line.seconds > 0 && line.joules! > 0 && line.peakBytes > 0 && line.flops > 0);
      assertEquals(line.validating > 0, line.arm === "early stopping");
      assert(line.wall! > line.seconds && line.together === 4);
      const points = line.purpose === "tune" ? [0] : [0, 4];
      assertEquals(line.curve.map(([, step]) => step), [...points, line.steps]);
      assertEquals([line.curve[0][3], line.curve.at(-1)![3]], [line.start, line.quality]);
      assert(line.perplexity![0] > 1 && line.perplexity![1] !== line.perplexity![0]);
    }
    assertEquals(await makeRuns(labOf(gpu), { ...options, file, most: 9 }), true);

    // A training whose numbers leave the finite has a line that says so, and frees what it held.
    const [low, middle] = full.rates, wild = { ...full, name: "wild", rates: [low, middle, 1e30] };
    const held = gpu.counts.bytes;
    const diverging = { ...options, plan: { ...plan, tasks: [wild], arms: ["GradES"] as const } };
    assertEquals(await makeRuns(labOf(gpu), { ...diverging, file, most: 3 }), false);
    assertEquals(gpu.counts.bytes, held);
    assertEquals(file.lines.filter(({ task }) => task === "wild").map((line) => line.quality === DIVERGED), [
      false,
      false,
      true,
    ]);

    // Where a task cannot be opened, the others go on.
    const other = TINY.tasks[1], told: string[] = [];
    const both = { ...options, plan: { ...plan, tasks: [other, full], arms: ["1/2 of the steps"] as const } };
    const subjectOf = (task: { name: string }) =>
      task.name === full.name ? subject : Promise.reject(new Error("none"));
    const onFailure = ({ task, rate }: { task: { name: string }; rate: number }) =>
      void told.push(`${task.name} ${rate}`);
    assertEquals(await makeRuns(labOf(gpu), { ...both, file, subjectOf, onFailure }), false);
    assertEquals(told, ["tiny-lora 0.003", "tiny-lora 0.001", "tiny-lora 0.01"]);
    const half = file.lines.filter(({ arm }) => arm === "1/2 of the steps");
    assertEquals(half.filter(({ purpose }) => purpose === "final").length, TINY.finalSeeds.length);

    // A training that would not end in time does not begin.
    const late = { ...options, plan: { ...plan, finalSeeds: [1, 2, 3] }, file, now: () => 600 - 1e-3 };
    const count = file.lines.length;
    assertEquals([await makeRuns(labOf(gpu), late), file.lines.length], [false, count]);

    // Real runs are kept as made-up ones are, those that left the finite, too.
    assertEquals(parseKept(keptText({ lines: file.lines, cache: [] }), "").lines, file.lines.map(keptLine));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
