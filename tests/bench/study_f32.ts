/**
 * Runs in f32 beside those in mixed precision, of the same seeds and rate.
 *
 * @module
 */

import { readKept } from "./study_kept.ts";
import { checkAlike, type StudyLine } from "./study_lines.ts";
import type { StudyPlan } from "./study_plan.ts";
import { primary } from "./study_policies.ts";
import { meanOf } from "./study_statistics.ts";
import { markdownTable, meanText } from "./study_table.ts";
import { undisturbedSeconds, wholeSeconds } from "./study_times.ts";

const HEAD = [
  "task, arm",
  "rate",
  "seeds",
  "quality, f32",
  "f16",
  "s, f32",
  "f16",
  "times as fast as full, f32",
  "f16",
  "undisturbed, f32",
  "f16",
  "MB, f32",
  "f16",
];

/** Runs of an arm in one precision, and those of full training there. */
interface Side {
  readonly own: readonly StudyLine[];
  readonly full: readonly StudyLine[];
}

/**
 * Where runs in f32 are kept.
 *
 * @param kept The file of runs in mixed precision, or their own
 * @returns The file beside it
 */
export function f32Beside(kept: string): string {
  return `${kept.replace(/(_f32)?\.jsonl$/, "")}_f32.jsonl`;
}

/**
 * Reads the runs in f32 that are kept.
 *
 * @param plan The plan
 * @param options `kept`: the file of runs in mixed precision; `lines`: these, whose GPU the others must have, too
 * @returns Them; none where there is no such file
 * @throws {InputError} When one is of another precision or GPU, or of a seed that the plan has not
 */
export async function readF32(
  plan: StudyPlan,
  { kept, lines }: { readonly kept: string; readonly lines: readonly StudyLine[] },
): Promise<readonly StudyLine[]> {
  const f32 = await readKept(f32Beside(kept), { make: true });
  checkAlike(f32.lines, {
    folder: f32.folder,
    plan,
    primary: primary().name,
    precision: "f32",
    adapter: lines[0]?.versions.adapter ?? null,
  });
  return f32.lines;
}

/** Final runs of an arm in f32 and f16, of the seeds and the rate that both have. */
function pairsOf(
  { lines, f32 }: { readonly lines: readonly StudyLine[]; readonly f32: readonly StudyLine[] },
  { task, arm }: Pick<StudyLine, "task" | "arm">,
): readonly (readonly [f32: StudyLine, f16: StudyLine])[] {
  const isOwn = (line: StudyLine): boolean =>
    line.task === task && line.arm === arm && line.purpose === "final";
  const others = lines.filter(isOwn);
  return f32.filter(isOwn).toSorted((a, b) => a.seed - b.seed).flatMap((line) => {
    const other = others.find(({ seed, rate }) => seed === line.seed && rate === line.rate);
    return other === undefined ? [] : [[line, other] as const];
  });
}

/** Whether all runs tell time and memory: one whose numbers left the finite has neither. */
function isMeasured(runs: readonly StudyLine[]): boolean {
  return runs.every(({ steps }) => steps > 0);
}

/** How many times as fast as full training of the same seeds; nothing where one of these has no run, or none that is measured. */
function timesText({ own, full }: Side, clock: (runs: readonly StudyLine[]) => number): string {
  const beside = full.filter(({ seed }) => own.some((line) => line.seed === seed));
  return beside.length < own.length || !isMeasured([...own, ...beside])
    ? ""
    : (clock(beside) / clock(own)).toFixed(2);
}

/** Names the runs in f32 that stand in no row. */
function leftOutLines(f32: readonly StudyLine[], shown: ReadonlySet<StudyLine>): string[] {
  const names = f32.filter((line) => !shown.has(line)).map(({ task, arm, rate, seed, purpose }) =>
    `${task}, ${arm}, ${purpose === "tune" ? "tuning" : "seed"} ${seed}, rate ${rate}`
  );
  return names.length === 0
    ? []
    : ["", `In f32 alone, without a final run in f16 of the same seed and rate: ${names.join("; ")}.`];
}

/**
 * The table of runs in f32.
 *
 * @param plan The plan
 * @param runs `lines`: runs in mixed precision; `f32`: those in f32
 * @returns Lines of Markdown; below the table the runs in f32 that none in mixed precision stands beside
 */
export function f32Lines(
  plan: StudyPlan,
  runs: { readonly lines: readonly StudyLine[]; readonly f32: readonly StudyLine[] },
): string[] {
  const shown = new Set<StudyLine>();
  // Those of the plan first, in its order.
  const tasks = new Set([...plan.tasks.map(({ name }) => name), ...runs.f32.map(({ task }) => task)]);
  const arms = new Set<string>([...plan.arms, ...runs.f32.map(({ arm }) => arm)]);
  const rows = [...tasks].flatMap((task) => {
    const fulls = pairsOf(runs, { task, arm: "full" });
    return [...arms].flatMap((arm) => {
      const pairs = pairsOf(runs, { task, arm });
      if (pairs.length === 0) return [];
      for (const [own] of pairs) shown.add(own);
      const sides = [0, 1].map((at): Side => ({
        own: pairs.map((pair) => pair[at]),
        full: fulls.map((pair) => pair[at]),
      }));
      const [{ rate }] = sides[0].own, both = (of: (side: Side) => string): string[] => sides.map(of);
      return [[
        `${task}, ${arm}`,
        `${rate}`,
        pairs.map(([{ seed }]) => seed).join(", "),
        ...both(({ own }) => meanText(own)),
        ...both(({ own }) => isMeasured(own) ? wholeSeconds(own).toFixed(2) : ""),
        ...both((side) => timesText(side, wholeSeconds)),
        ...both((side) => timesText(side, undisturbedSeconds)),
        ...both(({ own }) =>
          isMeasured(own) ? (meanOf(own.map(({ peakBytes }) => peakBytes)) / 1e6).toFixed(0) : ""
        ),
      ]];
    });
  });
  const table = rows.length === 0 ? ["Not measured yet."] : markdownTable(HEAD, rows);
  return [...table, ...leftOutLines(runs.f32, shown)];
}
