/**
 * Runs that the repository keeps, so that everybody can check the report, and another machine goes on where they stop.
 *
 * @module
 */

import { hostFileSystem } from "@firn/train/data";
import type { CacheResult } from "./study_cache.ts";
import { keptText, parseKept, type StudyRuns } from "./study_columns.ts";
import { joinLines, type LineFile, openLines, type StudyLine } from "./study_lines.ts";

/** Runs, and where they are from. */
export interface RunsOf extends StudyRuns {
  readonly folder: string;
}

/**
 * Reads the runs that are kept.
 *
 * @param path The file
 * @param options `make`: whether it is about to be made, so that a missing one has no runs; false by default
 * @returns Them
 * @throws {NotFoundError} When there is no such file
 */
export async function readKept(
  path: string,
  { make = false }: { readonly make?: boolean } = {},
): Promise<RunsOf> {
  const files = hostFileSystem();
  if (make && await files.stat(path) === null) return { folder: path, lines: [], cache: [] };
  return { folder: path, ...parseKept(new TextDecoder().decode(await files.read(path)), path) };
}

/**
 * Adds runs to those that are kept. One that is kept already counts once.
 *
 * @param kept Kept runs
 * @param more Others
 * @returns All, the kept ones first, and results of the cache by task
 * @throws {InputError} When a run is there twice, with other numbers
 */
export function joinKept(kept: RunsOf, more: RunsOf): StudyRuns {
  const pairsIn = ({ cache }: StudyRuns): CacheResult["pairs"] => cache.flatMap(({ pairs }) => pairs);
  const timed = (runs: StudyRuns): StudyLine[] => pairsIn(runs).flatMap(({ full, cached }) => [full, cached]);
  const textOf = (line: StudyLine): string => keptText({ lines: [line], cache: [] });
  const known = new Set([...kept.lines, ...timed(kept)].map(textOf));
  const isNew = (line: StudyLine): boolean => !known.has(textOf(line));
  const fresh: RunsOf = {
    folder: more.folder,
    lines: more.lines.filter(isNew),
    cache: more.cache.map((result) => ({
      ...result,
      pairs: result.pairs.filter(({ full, cached }) => isNew(full) || isNew(cached)),
    })),
  };
  const parts = [kept, fresh];
  joinLines(parts.map((runs) => ({ folder: runs.folder, lines: timed(runs) })));
  const tasks = Map.groupBy(parts.flatMap(({ cache }) => cache), ({ task, epochs }) => `${task} ${epochs}`);
  return {
    lines: joinLines(parts),
    cache: [...tasks.values()].map((results) => ({
      ...results[0],
      pairs: results.flatMap(({ pairs }) => pairs),
    })),
  };
}

/**
 * Opens a folder that goes on behind kept runs: none of these is made again, and its file has new ones alone.
 *
 * @param folder The folder
 * @param kept Kept runs
 * @returns All runs
 */
export async function openBehind(folder: string, kept: RunsOf): Promise<LineFile> {
  const file = await openLines(folder), own: RunsOf = { folder, lines: file.lines, cache: [] };
  const lines = joinKept(kept, own).lines.slice();
  return {
    lines,
    async add(line) {
      await file.add(line);
      lines.push(line);
    },
  };
}
