/**
 * Runs in f32 at the rates and tau of others, and their table.
 *
 * @module
 */

import { assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { InputError, openGpu } from "@firn/train";
import { UsageError } from "../../examples/flags.ts";
import { machineOf } from "./machine.ts";
import { main, withSeeds, withTuned } from "./study.ts";
import { f32Beside, f32Lines, readF32 } from "./study_f32.ts";
import { lineOf, type StudyLine } from "./study_lines.ts";
import { madeUp } from "./study_made_up.ts";
import { BREADTH, finalRuns, PLAN, type StudyPlan, tuningRuns } from "./study_plan.ts";
import { DIVERGED, nextCourse } from "./study_run.ts";
import { TINY } from "./study_tiny.ts";

const SMALL: StudyPlan = { ...PLAN, tasks: PLAN.tasks.slice(2, 4), arms: ["full", "GradES", "bottom 50 %"] };
const [TASK] = SMALL.tasks;
/** Runs in f16: GradES is best at the lowest rate, so that it is tuned beyond, and its tau is ten times the rate. */
const F16 = [
  ...tuningRuns(SMALL),
  ...SMALL.tasks.map((task) => ({
    ...tuningRuns(SMALL)[0],
    task,
    arm: "GradES" as const,
    rate: beyondOf(task),
  })),
  ...finalRuns(SMALL, ({ rates }, arm) => rates[arm === "GradES" ? 0 : 1]),
].map((run): StudyLine => {
  const line = madeUp(run), own = run.arm === "GradES";
  return own ? { ...line, tau: 10 * run.rate, validation: run.rate === run.task.rates[0] ? 1 : 0 } : line;
});

function beyondOf({ rates: [low, middle] }: StudyPlan["tasks"][number]): number {
  return Number((low * low / middle).toPrecision(3));
}

Deno.test("with runs that are tuned no tuning run is made: rates and tau are theirs, and seeds those that are named", () => {
  const plan = withTuned(withSeeds(SMALL, "22,21"), { folder: "kept", lines: F16, cache: [] });
  const made: StudyLine[] = [], taus: (number | null)[] = [];
  for (let next = nextCourse(plan, made); next !== null; next = nextCourse(plan, made)) {
    taus.push(next.tau);
    for (const arm of next.arms) made.push({ ...madeUp({ ...next.run, arm }), precision: "f32" });
  }
  assertEquals(
    made.map(({ task, arm, rate, seed, purpose }) => [task, arm, rate, seed, purpose]),
    SMALL.tasks.flatMap(({ name, rates: [low, middle] }) =>
      [21, 22].flatMap((seed) => [
        [name, "full", middle, seed, "final"],
        [name, "GradES", low, seed, "final"],
        [name, "bottom 50 %", middle, seed, "final"],
      ])
    ),
  );
  assertEquals(taus, made.map(({ arm, rate }) => arm === "GradES" ? 10 * rate : null));
  assertThrows(
    () => withSeeds(SMALL, "21,300"),
    UsageError,
    '--seeds must be of 21, 22, 23, 24, 25: got "300"',
  );
  const less = F16.filter(({ arm, rate, purpose }) =>
    purpose === "final" || arm !== "GradES" || rate !== TASK.rates[2]
  );
  assertThrows(
    () => withTuned(SMALL, { folder: "kept", lines: less, cache: [] }),
    UsageError,
    '"kept" lacks some of instruction-full, GradES',
  );
  const breadth: StudyPlan = { ...BREADTH, tasks: SMALL.tasks }, [low] = TASK.rates;
  assertEquals(withTuned(breadth, { folder: "kept", lines: less, cache: [] }).tuned, less);
  const none = less.filter(({ arm, rate }) => arm !== "full" || rate !== low);
  assertThrows(
    () => withTuned(breadth, { folder: "kept", lines: none, cache: [] }),
    UsageError,
    '"kept" lacks some of instruction-full, full',
  );
});

/** Two runs of an arm in f32, half as fast as in f16, and GradES as fast as full training. */
const F32 = F16.filter(({ task, seed, purpose }) => task === TASK.name && purpose === "final" && seed <= 22)
  .map((line): StudyLine => {
    const times = line.arm === "GradES" ? 3.2 : 2;
    return {
      ...line,
      precision: "f32",
      seconds: times * line.seconds,
      quality: line.quality - 1,
      peakBytes: 2e9,
      curve: line.curve.map(([seconds, ...rest], i, all) =>
        [times * seconds, ...rest.slice(0, 2), i === all.length - 1 ? line.quality - 1 : rest[2]] as const
      ) as unknown as StudyLine["curve"],
    };
  });

Deno.test("the table has runs in f32 beside those in f16 of the same seeds and rate", () => {
  const rows = f32Lines(SMALL, { lines: F16, f32: F32.toReversed() }).slice(2);
  const cells = rows.map((row) => row.split(" | ").map((cell) => cell.replace(/^\| | \|$/, "")));
  assertEquals(cells.map(([name]) => name), SMALL.arms.map((arm) => `${TASK.name}, ${arm}`));
  const mean = (line: StudyLine[]) =>
    (line.reduce((sum, { loss }) => sum + loss, 0) / line.length).toFixed(4);
  const own = F16.filter(({ task, arm, seed, purpose }) =>
    task === TASK.name && arm === "GradES" && purpose === "final" && seed <= 22
  );
  const quality = mean(own), lower = (Number(quality) + 1).toFixed(4);
  assertEquals(cells[1].slice(1), [
    ...[
      `${TASK.rates[0]}`,
      "21, 22",
      lower,
      quality,
      "8.00",
      "2.50",
      "1.00",
      "1.60",
      "1.00",
      "1.60",
      "2000",
      "1000",
    ],
  ]);
  assertEquals(cells[0].slice(5, 9), ["8.00", "4.00", "1.00", "1.00"]);
  // A run at another rate, or of a seed that f16 has not, stands beside none, and is named.
  const odd = F32.filter(({ arm }) => arm === "full")
    .map((line) => ({ ...line, ...line.seed === 21 ? { rate: 1 } : { seed: 26 } }));
  const alike = F32.filter(({ arm }) => arm !== "full"), left = `${TASK.name}, full, seed `;
  const said = "In f32 alone, without a final run in f16 of the same seed and rate: " +
    `${left}21, rate 1; ${left}26, rate ${TASK.rates[1]}.`;
  assertEquals(f32Lines(SMALL, { lines: F16, f32: odd }), ["Not measured yet.", "", said]);
  assertEquals(f32Lines(SMALL, { lines: F16, f32: [...alike, ...odd] }), [
    ...f32Lines(SMALL, { lines: F16, f32: alike }),
    "",
    said,
  ]);
  // So does an arm of the breadth, and a task that the plan has not.
  const further = (line: StudyLine): StudyLine => ({ ...line, task: "vit", arm: "costAware" });
  const pair = [F32[0], { ...F32[0], precision: "f16" }].map(further);
  const more = f32Lines(SMALL, { lines: pair.slice(1), f32: pair.slice(0, 1) });
  assertMatch(more[2], /^\| vit, costAware \|/);
  // Without full training there is nothing to be as fast as.
  const alone = f32Lines(SMALL, { lines: F16, f32: F32.filter(({ arm }) => arm !== "full") });
  assertMatch(alone[2], / \| 8\.00 \| 2\.50 \|( {2}\|){4} 2000 \| 1000 \|$/);
  // A run whose numbers left the finite tells neither time nor memory.
  const wild = F32.map((line): StudyLine =>
    line.arm === "GradES" && line.seed === 22
      ? { ...line, seconds: 0, steps: 0, curve: [], quality: DIVERGED, peakBytes: 0 }
      : line
  );
  assertMatch(
    f32Lines(SMALL, { lines: F16, f32: wild })[3],
    / \| diverged \| [\d.]+ \| {2}\| 2\.50 \| {2}\| 1\.60 \| {2}\| 1\.60 \| {2}\| 1000 \|$/,
  );
});

/** What the command prints. */
async function printed(args: readonly string[]): Promise<string> {
  const { log } = console, lines: string[] = [];
  console.log = (line: string) => lines.push(line);
  try {
    await main(args);
  } finally {
    console.log = log;
  }
  return lines.join("\n");
}

Deno.test("runs in f32 are kept beside those in f16, reported with them, and never mixed", async () => {
  const folder = await Deno.makeTempDir(), kept = `${folder}/runs.jsonl`, document = `${folder}/STUDY.md`;
  try {
    for (const [name, lines] of [["a", F16], ["b", F32]] as const) {
      await Deno.mkdir(`${folder}/${name}`);
      await Deno.writeTextFile(`${folder}/${name}/lines.jsonl`, lines.map(lineOf).join(""));
    }
    await main(["--keep", "--kept", kept, "--out", `${folder}/a`]);
    assertEquals(await readF32(PLAN, { kept, lines: F16 }), []);
    assertEquals(f32Beside(f32Beside(kept)), f32Beside(kept));
    // Runs in f16 are none of those in f32 that take their rates.
    const estimate = ["--estimate", "--tuned", kept, "--kept", kept, "--seeds", "21,22,23"]
      .concat(["--tasks", TASK.name, "--arms", SMALL.arms.join()]);
    assertEquals(await printed(estimate), `${TASK.name}: 9 trainings left`);
    await main(["--keep", "--kept", f32Beside(kept), "--out", `${folder}/b`]);
    assertMatch(await printed(estimate), new RegExp(`^${TASK.name}: 3 trainings left`));
    await assertRejects(
      () => main([...estimate, "--out", `${folder}/a`]),
      InputError,
      "of one precision, here f32",
    );
    await Deno.copyFile(new URL("STUDY.md", import.meta.url), document);
    await main(["--report", "--kept", kept, "--document", document]);
    const table = f32Lines(PLAN, { lines: F16, f32: F32 }).join("\n");
    assertEquals((await Deno.readTextFile(document)).includes(`<!-- f32 -->\n\n${table}\n`), true);
    await assertRejects(
      () => main(["--report", "--kept", f32Beside(kept), "--document", document]),
      InputError,
      'runs_f32.jsonl" as all must be of one precision, here f16: one is of f32',
    );
    const mixed = await assertRejects(
      () => main(["--keep", "--kept", kept, "--out", `${folder}/b`]),
      InputError,
    );
    assertMatch(mixed.message, /as none may count twice|as all must be of one precision/);
    await Deno.copyFile(kept, f32Beside(kept));
    await assertRejects(() => readF32(PLAN, { kept, lines: F16 }), InputError, "of one precision, here f32");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("a run with --seeds goes on in a folder that has runs of other seeds of its plan, and of no others", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const { adapter } = await (async () => {
      await using gpu = await openGpu({ gpu: "deno", tune: false });
      return machineOf(gpu);
    })();
    const line = { ...F32[0], task: TINY.tasks[0].name, versions: { adapter } };
    const goesOn = async (seed: number): Promise<void> => {
      await Deno.writeTextFile(`${folder}/lines.jsonl`, lineOf({ ...line, seed }));
      await main(["--tiny", "--gpu", "deno", "--out", folder, "--seeds", "1", "--seconds", "1e-9"]);
    };
    await goesOn(2);
    await assertRejects(() => goesOn(3), InputError, "its seeds must be of 100, 1, 2: one is of 3");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
