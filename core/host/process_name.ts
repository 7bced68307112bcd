/**
 * What tells this process apart.
 *
 * @module
 */

/**
 * Names this process, such as `process 4711 on "host"`. The name of the host is there when `--allow-sys=hostname` allows to
 * ask for it.
 *
 * @returns The name
 */
export async function processName(): Promise<string> {
  const { Deno: deno } = globalThis;
  if (deno === undefined) return "this process";
  const { state } = await deno.permissions.query({ name: "sys", kind: "hostname" });
  return `process ${deno.pid}${state === "granted" ? ` on "${deno.hostname()}"` : ""}`;
}
