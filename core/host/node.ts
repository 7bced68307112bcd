/**
 * Node, and what runs programs of Node: the only file that looks for it.
 *
 * @module
 */

/** The part of Node's `process` that is used. */
export interface NodeProcess {
  readonly pid: number;
  /** `"linux"`, `"darwin"`, `"win32"`, ... */
  readonly platform: string;
  readonly arch: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly versions: Readonly<Record<string, string | undefined>>;
  /** A module of Node itself, such as `"node:fs"`. It is no import, so a program for a browser has none of them. */
  getBuiltinModule(name: string): unknown;
}

/**
 * Finds Node.
 *
 * @returns Its process; null in Deno, and where there is none, such as in a browser
 */
export function nodeProcess(): NodeProcess | null {
  const { Deno: deno, process } = globalThis as { readonly Deno?: unknown; readonly process?: NodeProcess };
  return deno === undefined && typeof process?.getBuiltinModule === "function" ? process : null;
}
