/**
 * Where a benchmark ran.
 *
 * @module
 */

import type { Gpu } from "@firn/train";
import { type Choice, openDevice } from "../../examples/gpu.ts";
import config from "../../deno.json" with { type: "json" };
import type { Machine } from "./results.ts";

/** What is printed before figures of a software adapter. */
export const SOFTWARE = "software adapter: these figures say nothing about a GPU";

/** Opens the best adapter; the line that shows how far tuning is goes to standard error, beside tables and JSON. */
export function openBenchDevice(flags: Choice): Promise<Gpu> {
  return openDevice(flags, { to: Deno.stderr });
}

/** Names adapter, driver and versions; the driver's is known on Linux with NVIDIA, to the tasks of deno.json. */
export function machineOf(
  gpu: Pick<Gpu, "name" | "software">,
  versions: Readonly<Record<string, string | null>> = {},
): Machine {
  return {
    adapter: gpu.name,
    software: gpu.software,
    driver: driverIn(handed()),
    cores: navigator.hardwareConcurrency,
    versions: { firn: config.version, deno: Deno.version.deno, ...versions },
    date: new Date().toISOString(),
  };
}

/**
 * What the kernel says of its NVIDIA driver: the tasks read it, as Deno opens nothing under /proc to a program without
 * `--allow-all`.
 */
function handed(): string {
  const variable = "FIRN_NVIDIA";
  const { state } = Deno.permissions.querySync({ name: "env", variable });
  return state === "granted" ? Deno.env.get(variable) ?? "" : "";
}

/** The version in the text of /proc/driver/nvidia/version; null where there is none. */
export function driverIn(text: string): string | null {
  return text.match(/\b\d+\.\d+(\.\d+)?\b/)?.[0] ?? null;
}
