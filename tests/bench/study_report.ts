/**
 * Writes what the study shows into STUDY.md, between markers, and its plot beside it.
 *
 * @module
 */

import { DataError } from "@firn/train";
import { hostFileSystem } from "@firn/train/data";
import type { CacheResult } from "./study_cache.ts";
import { claimsOf } from "./study_claims.ts";
import { cacheLines, conclusionLines, progressLines } from "./study_conclusions.ts";
import { f32Lines } from "./study_f32.ts";
import type { StudyLine } from "./study_lines.ts";
import { BREADTH, type StudyPlan } from "./study_plan.ts";
import { drawStudy } from "./study_plot.ts";
import { SCRATCH } from "./study_scratch.ts";
import { summarise, summariseBeside, type Summary } from "./study_summary.ts";
import { markdownTable, studyTable } from "./study_table.ts";

/**
 * Replaces what stands between the markers of a part.
 *
 * @param text A document with `<!-- part -->` and `<!-- /part -->`
 * @param part Its name, and the lines to put there
 * @returns The document
 * @throws {DataError} When it lacks a marker
 */
export function between(
  text: string,
  { part, lines }: { readonly part: string; readonly lines: readonly string[] },
): string {
  const [begin, end] = [`<!-- ${part} -->`, `<!-- /${part} -->`];
  const from = text.indexOf(begin), to = text.indexOf(end);
  if (from < 0 || to < from) {
    throw new DataError(`Cannot write "${part}" as the document must have ${begin} and ${end}: add them`);
  }
  return `${text.slice(0, from + begin.length)}\n\n${lines.join("\n")}\n\n${text.slice(to)}`;
}

/** Runs that are no part of the core, beside the core's full training and GradES of the same seeds and rate. */
function breadthTable(plan: StudyPlan, lines: readonly StudyLine[]): string[] {
  const final = lines.filter(({ purpose, seed }) => purpose === "final" && BREADTH.finalSeeds.includes(seed));
  const own = final.filter(({ arm }) => BREADTH.arms.some((name) => name === arm));
  if (own.length === 0) return ["Not measured yet."];
  const beside = final.filter((line) =>
    ["full", "GradES"].includes(line.arm) &&
    own.some(({ task, rate, seed }) => task === line.task && rate === line.rate && seed === line.seed)
  );
  const groups = Map.groupBy([...beside, ...own], ({ task, arm, rate }) => JSON.stringify([task, arm, rate]));
  const sorted = [...groups.values()].toSorted(([a], [b]) => a.task.localeCompare(b.task));
  // All of a task have one rate, and a single seed tells no stall.
  return studyTable(summariseBeside(plan, { lines, groups: sorted }), {
    without: ["rate", "to full", "undisturbed", "s, undisturbed"],
  });
}

/** Where and how it ran. */
function machineLines(lines: readonly StudyLine[]): string[] {
  const said = new Set(lines.map(({ precision, versions }) => {
    const parts = Object.entries(versions).flatMap(([name, version]) =>
      version === null ? [] : [name === "adapter" ? version : `${name} ${version}`]
    );
    return `${parts.join(", ")}, precision ${precision}`;
  }));
  const dates = lines.map(({ date }) => date.slice(0, 10)).toSorted();
  if (lines.length === 0) return ["Not measured yet."];
  return [`${[...said].join("; ")}; ${dates[0]}${dates.at(-1) === dates[0] ? "" : ` to ${dates.at(-1)}`}.`];
}

/** The parts of the document by their markers. */
export function partsOf(
  plan: StudyPlan,
  { lines, cache, f32 = [] }: {
    readonly lines: readonly StudyLine[];
    readonly cache: readonly CacheResult[];
    readonly f32?: readonly StudyLine[];
  },
): { readonly summaries: readonly Summary[]; readonly parts: Readonly<Record<string, readonly string[]>> } {
  const summaries = summarise(plan, lines), fresh = summarise(SCRATCH, lines);
  const claims = claimsOf(plan, [...summaries, ...fresh]);
  return {
    summaries,
    parts: {
      progress: [...machineLines(lines), "", ...progressLines(plan, lines)],
      conclusions: conclusionLines(plan, summaries),
      claims: markdownTable(
        ["claim", "verdict", "measured"],
        claims.map(({ claim, verdict, measured }) => [claim, verdict, measured]),
      ),
      table: summaries.length === 0
        ? ["Not measured yet."]
        : [...studyTable(summaries), "", "![Quality over time](study.svg)"],
      cache: cacheLines(cache),
      f32: f32Lines(plan, { lines, f32 }),
      breadth: breadthTable(plan, lines),
      scratch: fresh.length === 0 ? ["Not measured yet."] : studyTable(fresh),
    },
  };
}

/**
 * Writes the report.
 *
 * @param plan The plan
 * @param options Finished runs, results of the cache, runs in f32, and the document; the plot lies beside it as `study.svg`
 */
export async function writeReport(
  plan: StudyPlan,
  { lines, cache, f32, document }: {
    readonly lines: readonly StudyLine[];
    readonly cache: readonly CacheResult[];
    readonly f32: readonly StudyLine[];
    readonly document: string;
  },
): Promise<void> {
  const files = hostFileSystem(), { summaries, parts } = partsOf(plan, { lines, cache, f32 });
  const text = new TextDecoder().decode(await files.read(document));
  const written = Object.entries(parts).reduce(
    (before, [part, own]) => between(before, { part, lines: own }),
    text,
  );
  await files.write(document, written);
  if (summaries.length === 0) return;
  // A tuning run has no curve.
  const final = summaries.filter(({ seeds }) => seeds > 0), drawn = final.length > 0 ? final : summaries;
  await files.write(document.replace(/[^/\\]*$/, "study.svg"), await drawStudy(drawn));
}

/** Reads results of the cache; none where the folder has no file of them. */
export async function readCache(folder: string): Promise<CacheResult[]> {
  const files = hostFileSystem(), names = (await files.list(folder)).map(({ name }) => name);
  if (!names.includes("cache_prefix.jsonl")) return [];
  const text = new TextDecoder().decode(await files.read(`${folder}/cache_prefix.jsonl`));
  return text.split("\n").filter((line) => line !== "").map((line) => JSON.parse(line));
}
