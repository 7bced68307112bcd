/**
 * The version of the runtime.
 *
 * @module
 */

/** The version of Deno, such as `"2.9.6"`; null in any other runtime. */
export function denoVersion(): string | null {
  const { Deno: deno } = globalThis;
  return deno?.version?.deno ?? null;
}
