/**
 * What tells this process apart.
 *
 * @module
 */

import type * as os from "node:os";
import { nodeProcess } from "./node.ts";

/**
 * Names this process, such as `process 4711 on "host"`. The name of the host is there when Deno's `--allow-sys=hostname`
 * allows to ask for it.
 *
 * @returns The name
 */
export async function processName(): Promise<string> {
  const { Deno: deno } = globalThis, node = nodeProcess();
  if (node !== null) {
    return `process ${node.pid} on "${(node.getBuiltinModule("node:os") as typeof os).hostname()}"`;
  }
  if (deno === undefined) return "this process";
  const { state } = await deno.permissions.query({ name: "sys", kind: "hostname" });
  return `process ${deno.pid}${state === "granted" ? ` on "${deno.hostname()}"` : ""}`;
}
