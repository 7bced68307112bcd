/**
 * The file system of the machine, one operation of which fails.
 *
 * @module
 */

import { type SystemFiles, systemFileSystem } from "../../core/host/system_file_system.ts";
import type { FileSystem } from "@firn/train/data";

/** How an operation fails: with an error of the system, or as if the process were killed there. */
export type Fault = "ENOSPC" | "EIO" | "kill";

/** The process is gone: from now on nothing can be done. */
export class KilledError extends Error {
  override name = "KilledError";
}

/** A file system, and how many operations that change something it was asked for. */
export interface FaultyFiles {
  readonly fileSystem: FileSystem;
  /** Operations so far. */
  operations(): number;
}

/**
 * Makes a file system whose n-th operation that changes something fails. A write that fails has written half of its bytes.
 *
 * @param fault How
 * @param at Which operation, counted from 1
 * @returns The file system
 */
export function faultyFiles(fault: Fault, at: number): FaultyFiles {
  let count = 0, dead = false;
  /** Does an operation, unless it is the one that fails; `half` is what it does all the same. */
  async function change<T>(
    work: () => Promise<T>,
    half: () => Promise<unknown> = async () => {},
  ): Promise<T> {
    if (dead) throw new KilledError("killed");
    if (++count !== at) return await work();
    await half();
    if (fault !== "kill") throw Object.assign(new Error(`${fault} (os error 0)`), { code: fault });
    dead = true;
    throw new KilledError("killed");
  }
  const faulty: SystemFiles = {
    ...Deno,
    mkdir: (path, options) => change(() => Deno.mkdir(path, options)),
    rename: (from, to) => change(() => Deno.rename(from, to)),
    remove: (path, options) => change(() => Deno.remove(path, options)),
    async open(path, options) {
      if (options === undefined || !(options.write || options.append)) return await Deno.open(path, options);
      const file = await change(() => Deno.open(path, options));
      const half = (bytes: Uint8Array) => file.write(bytes.subarray(0, bytes.length >> 1));
      return new Proxy(file, {
        get(target, key) {
          if (key === "write") {
            return (bytes: Uint8Array) => change(() => file.write(bytes), () => half(bytes));
          }
          if (key === "sync") return () => change(() => file.sync());
          if (key === "truncate") return (size?: number) => change(() => file.truncate(size));
          const value: unknown = Reflect.get(target, key, target);
          return typeof value === "function" ? value.bind(target) : value;
        },
      });
    },
  };
  return { fileSystem: systemFileSystem(faulty), operations: () => count };
}
