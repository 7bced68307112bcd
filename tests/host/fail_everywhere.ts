/**
 * Fails every operation of a save in turn, and looks at what is left.
 *
 * @module
 */

import { FirnError } from "@firn/train";
import { type FileSystem, hostFileSystem, lockFolder } from "@firn/train/data";
import { inFolder } from "../data/files.ts";
import { type Fault, faultyFiles, KilledError } from "./faulty_deno.ts";

/** Something that is saved again and again. */
export interface Save {
  /** Saves a version below a folder: 1 and 2 before, 3 when an operation fails. */
  readonly write: (folder: string, version: number, fileSystem: FileSystem) => Promise<void>;
  /** What a reader finds below the folder; all its files when absent. */
  readonly read?: (folder: string) => Promise<string>;
  /** Whether a reader may find something between two versions, which are whole; only these when absent. */
  readonly between?: (found: string, before: string, after: string) => boolean;
}

/** What must not be. */
export interface Damage {
  /** Which operation failed, counted from 1. */
  readonly at: number;
  readonly kind: "lost" | "torn" | "raw";
  readonly seen: string;
}

/** Beside what is saved. */
const LOCK = ".firn.lock", LEFTOVER = /\.(tmp|old)(\/|$)/;

/**
 * Fails every operation of a save in turn.
 *
 * @param save What is saved
 * @param fault How its operations fail
 * @returns How many operations it has, and what failures damaged
 */
export async function failEverywhere(
  save: Save,
  fault: Fault,
): Promise<{ readonly operations: number; readonly damage: readonly Damage[] }> {
  const damage: Damage[] = [];
  for (let at = 1;; at++) {
    let done = false;
    await inFolder(async (folder) => {
      const found = await failOnce(save, { folder, fault, at });
      done = found === "done";
      if (found !== "done" && found !== null) damage.push({ at, ...found });
    });
    if (done) return { operations: at - 1, damage };
  }
}

type Found = Pick<Damage, "kind" | "seen">;

async function failOnce(
  save: Save,
  { folder, fault, at }: { readonly folder: string; readonly fault: Fault; readonly at: number },
): Promise<Found | null | "done"> {
  const read = save.read ?? contentOf, host = hostFileSystem();
  for (const version of [1, 2]) await save.write(folder, version, host);
  const before = await read(folder);
  const { fileSystem, operations } = faultyFiles(fault, at);
  const error = await save.write(folder, 3, fileSystem).then(() => null, (error: unknown) => error);
  if (operations() < at) return error === null ? "done" : { kind: "raw", seen: String(error) };
  const wrong = error === null ? null : faultOf(error, { fault, folder });
  if (wrong !== null) return wrong;
  const leftovers = (await namesBelow(folder)).filter((name) => LEFTOVER.test(name));
  if (fault !== "kill" && error !== null && leftovers.length > 0) {
    return { kind: "torn", seen: `${error} leaves ${leftovers[0]}` };
  }
  // The next start puts the folder in order.
  await (await lockFolder(folder))[Symbol.asyncDispose]();
  const left = await tried(() => read(folder)),
    stray = (await namesBelow(folder)).find((n) => LEFTOVER.test(n));
  if (stray !== undefined) return { kind: "torn", seen: `the next start leaves ${stray}` };
  await save.write(folder, 3, host);
  const after = await read(folder);
  if (left instanceof Error) return { kind: "lost", seen: left.message };
  if (left === before || left === after || save.between?.(left, before, after)) return null;
  return { kind: "torn", seen: `it holds ${left.slice(0, 200)}` };
}

function faultOf(
  error: unknown,
  { fault, folder }: { readonly fault: Fault; readonly folder: string },
): Found | null {
  if (fault === "kill") return error instanceof KilledError ? null : { kind: "raw", seen: String(error) };
  return error instanceof FirnError && error.message.includes(folder)
    ? null
    : { kind: "raw", seen: String(error) };
}

async function tried<T>(work: () => Promise<T>): Promise<T | Error> {
  try {
    return await work();
  } catch (error) {
    return error as Error;
  }
}

/** The paths of all files below a folder but its lock, in order. */
async function namesBelow(folder: string): Promise<string[]> {
  const names: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    if (name === LOCK) continue;
    names.push(
      ...isDirectory ? (await namesBelow(`${folder}/${name}`)).map((inner) => `${name}/${inner}`) : [name],
    );
  }
  return names.sort();
}

/** The content of every file below a folder. */
export async function contentOf(folder: string): Promise<string> {
  const names = await namesBelow(folder);
  const files = names.map(async (name) => `${name} ${(await Deno.readFile(`${folder}/${name}`)).toHex()}`);
  return (await Promise.all(files)).join("\n");
}
