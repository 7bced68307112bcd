/**
 * What the command line asks of the machine before a command runs: paths, variables, and what lies where. All of it is an
 * argument, so that what is done on Windows and macOS is tested on any system.
 *
 * @module
 */

import { type PlatformPath, posix, win32 } from "node:path";
import process from "node:process";

/** A machine. */
export interface Machine {
  /** `Deno.build.os`. */
  readonly os: string;
  /** The current folder. */
  readonly folder: string;
  /** A variable of the environment; undefined when it is not set, or empty. */
  env(name: string): string | undefined;
  /** What a path leads to; null when there is nothing. */
  kindOf(path: string): "file" | "folder" | null;
  /** The path without links, of something that is there. */
  realPath(path: string): string;
  /** What the kernel says of its NVIDIA driver; null without one. */
  nvidia(): string | null;
  /** The GPUs of the machine, and what gives a process one of them. */
  gpus(): Promise<Gpus>;
  /** Whether a file can be opened: a job of a cluster may see devices that it may not open. */
  opens(path: string): boolean;
  /** Whether a program succeeds. */
  succeeds(words: readonly string[]): boolean;
}

/** A GPU of a machine; see `core/host/pci_gpus.ts`. */
export interface MachineGpu {
  readonly address: string;
  readonly model: string;
  readonly driver: string;
  readonly nodes: readonly string[];
  readonly visible: boolean;
}

/** The GPUs of a machine. */
export interface Gpus {
  readonly all: readonly MachineGpu[];
  /** An address as the kernel writes it; null of a text that is none. */
  pciAddress(text: string): string | null;
  /** What gives a process one GPU and no other. */
  handingOf(gpu: MachineGpu, all: readonly MachineGpu[]): {
    readonly env: Readonly<Record<string, string>>;
    readonly hidden: readonly string[];
  };
}

/** The file that knows GPUs. It is imported by its path, as commands are planned without a map of imports. */
const GPUS = "../core/host/pci_gpus.ts";

/** How paths are written on a machine. */
export function pathsOf({ os }: Pick<Machine, "os">): PlatformPath {
  return os === "windows" ? win32 : posix;
}

/** This machine. */
export function thisMachine(): Machine {
  return {
    os: Deno.build.os,
    folder: process.cwd(),
    env: (name) => Deno.env.get(name) || undefined,
    kindOf(path) {
      try {
        return Deno.statSync(path).isDirectory ? "folder" : "file";
      } catch (error) {
        // A name that the system cannot have, such as one with "*" on Windows, is nothing there, either.
        if (error instanceof Deno.errors.NotCapable) throw error;
        return null;
      }
    },
    realPath: (path) => Deno.realPathSync(path),
    async gpus() {
      const { pciGpus, pciAddress, handingOf } = await import(import.meta.resolve(GPUS));
      return { all: pciGpus(), pciAddress, handingOf };
    },
    opens(path) {
      try {
        Deno.openSync(path).close();
        return true;
      } catch {
        return false;
      }
    },
    succeeds([program, ...args]) {
      try {
        return new Deno.Command(program, { args, stdout: "null", stderr: "null" }).outputSync().success;
      } catch (error) {
        if (error instanceof Deno.errors.NotFound) return false;
        throw error;
      }
    },
    nvidia() {
      try {
        return Deno.readTextFileSync("/proc/driver/nvidia/version").trimEnd();
      } catch {
        return null;
      }
    },
  };
}

/**
 * Where the answers of a reference are kept, which are computed once: beside the output folder, which must be empty at first.
 *
 * @param out The output folder
 * @param machine Whose paths
 * @returns The folder
 */
export function referenceFolder(out: string, machine: Pick<Machine, "os">): string {
  const { basename, dirname, join } = pathsOf(machine);
  return join(dirname(out), `.${basename(out)}-reference`);
}

/** The folder of the user. */
export function homeOf({ env }: Pick<Machine, "env">): string {
  return env("HOME") ?? env("USERPROFILE") ?? ".";
}

/**
 * Where Deno keeps packages, the example data among them.
 *
 * Source: the manual of Deno, DENO_DIR; the crate `dirs`.
 *
 * @param machine The machine
 * @returns The folder
 */
export function denoFolder(machine: Pick<Machine, "os" | "env">): string {
  const { os, env } = machine, { join } = pathsOf(machine);
  const set = env("DENO_DIR");
  if (set !== undefined) return set;
  if (os === "windows") return join(env("LOCALAPPDATA") ?? join(homeOf(machine), "AppData", "Local"), "deno");
  if (os === "darwin") return `${homeOf(machine)}/Library/Caches/deno`;
  return `${env("XDG_CACHE_HOME") ?? `${homeOf(machine)}/.cache`}/deno`;
}

/** Where the cache of Hugging Face is, and the token. */
export interface HubPlaces {
  readonly HF_HUB_CACHE: string;
  readonly HF_TOKEN_PATH: string;
}

/**
 * Finds both, as Python's libraries do.
 *
 * @param machine The machine
 * @returns The folder and the file, as variables of the environment
 */
export function hubPlaces(machine: Pick<Machine, "os" | "env">): HubPlaces {
  const { env } = machine;
  const home = env("HF_HOME") ?? `${env("XDG_CACHE_HOME") ?? `${homeOf(machine)}/.cache`}/huggingface`;
  const fromHome = (path: string) => path.replace(/^~(?=$|[/\\])/, () => homeOf(machine));
  return {
    HF_HUB_CACHE: fromHome(env("HF_HUB_CACHE") ?? `${home}/hub`),
    HF_TOKEN_PATH: fromHome(env("HF_TOKEN_PATH") ?? `${home}/token`),
  };
}

/**
 * A path and, where a link is on the way, what it leads to: Deno wants permission for both.
 *
 * @param path The path, there or not yet
 * @param machine The machine
 * @returns One path, or two
 */
export function withTarget(path: string, machine: Machine): string[] {
  const { dirname, basename, resolve, join } = pathsOf(machine), rest: string[] = [];
  let there = path;
  while (machine.kindOf(there) === null && dirname(there) !== there) {
    rest.unshift(basename(there));
    there = dirname(there);
  }
  if (machine.kindOf(there) === null) return [path];
  const plain = resolve(machine.folder, there), target = machine.realPath(there);
  return target === plain || target.includes(",") ? [path] : [path, join(target, ...rest)];
}
