/**
 * Reading the log of a run: all of it, or what was added since the last time.
 *
 * @module
 */

import { DataError } from "../errors.ts";
import type { FileSystemOptions, OpenFile } from "../host/file_system.ts";
import { hostFileSystem } from "../host/host_file_system.ts";
import { lineFault, measuredOnly } from "./log_line.ts";
import type { Line } from "./types.ts";

const NEWLINE = 10;

/**
 * Reads a log, of a finished run or of one that is under way.
 *
 * @param path The file
 * @param options The file system
 * @returns Its lines
 * @throws {DataError} When it is no log of a run
 */
export async function readLog(
  path: string,
  { fileSystem = hostFileSystem() }: FileSystemOptions = {},
): Promise<Line[]> {
  // A line that is being written, or was cut short by the end of the process, has no newline.
  const rows = new TextDecoder().decode(await fileSystem.read(path)).split("\n").slice(0, -1);
  if (rows.length === 0) {
    throw new DataError(
      `Cannot read the log "${path}" as it must begin with the start of a run: it is empty; wait until the run has begun`,
    );
  }
  return rows.map((row, i) => lineOf(row, { path, number: i + 1 }));
}

/** A log that is being written. */
export interface FollowedLog {
  /**
   * Reads what is new.
   *
   * @returns All lines so far, none before the run has begun; the same list where nothing changed
   * @throws {DataError} When it is no log of a run
   */
  read(): Promise<readonly Line[]>;
}

/**
 * Follows the log of a run that is under way. Each time it reads only what was added, and all of it once a run that goes on has
 * written it anew.
 *
 * @param path The file; it may come later
 * @param options The file system
 * @returns The log
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { memoryFileSystem } from "@firn/train/data";
 * import { followLog, openLog } from "@firn/train/report";
 *
 * const fileSystem = memoryFileSystem(), followed = followLog("metrics.jsonl", { fileSystem });
 * assertEquals(await followed.read(), []);
 * const log = await openLog("metrics.jsonl", { fileSystem });
 * await log.add([{ kind: "start", config: {}, adapter: "a GPU" }]);
 * assertEquals(await followed.read(), log.lines);
 * ```
 */
export function followLog(
  path: string,
  { fileSystem = hostFileSystem() }: FileSystemOptions = {},
): FollowedLog {
  let lines: readonly Line[] = [], known: Known = { end: 0, last: new Uint8Array() };
  return {
    async read() {
      if (await fileSystem.stat(path) === null) {
        [lines, known] = [[], { end: 0, last: new Uint8Array() }];
        return lines;
      }
      await using file = await fileSystem.open(path);
      const goesOn = await holds(file, known), from = goesOn ? known.end : 0;
      const bytes = await file.read(from, file.size), whole = bytes.lastIndexOf(NEWLINE) + 1;
      const before = goesOn ? lines : [];
      if (whole === 0) return lines = before.length === lines.length ? lines : before;
      const rows = new TextDecoder().decode(bytes.subarray(0, whole - 1)).split("\n");
      lines = [...before, ...rows.map((row, i) => lineOf(row, { path, number: before.length + i + 1 }))];
      const begin = bytes.subarray(0, whole - 1).lastIndexOf(NEWLINE) + 1;
      known = { end: from + whole, last: bytes.slice(begin, whole) };
      return lines;
    },
  };
}

/** How far a log was read: where the last whole line ended, and that line. */
interface Known {
  readonly end: number;
  readonly last: Uint8Array;
}

/** Whether a file still has what was read of it. */
async function holds(file: OpenFile, { end, last }: Known): Promise<boolean> {
  if (file.size < end) return false;
  const seen = await file.read(end - last.length, end);
  return seen.every((byte, i) => byte === last[i]);
}

function lineOf(row: string, { path, number }: { readonly path: string; readonly number: number }): Line {
  const refuse = (seen: string, cause?: unknown): never => {
    const rule = `line ${number} must be ${
      number === 1 ? "the start" : "a step, a freeze or the end"
    } of a run`;
    throw new DataError(`Cannot read the log "${path}" as ${rule}: ${seen}; take the line back from a copy`, {
      cause,
    });
  };
  let line: Line | null = null;
  try {
    line = JSON.parse(row);
  } catch (error) {
    refuse(`it is no JSON, ${JSON.stringify(row.slice(0, 40))}`, error);
  }
  const fault = lineFault(line);
  if (fault !== null) refuse(fault);
  if ((line!.kind === "start") !== (number === 1)) refuse(`kind is "${line!.kind}"`);
  return measuredOnly(line!);
}
