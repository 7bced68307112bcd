/**
 * Where a benchmark ran.
 *
 * @module
 */

import type { Gpu } from "@firn/train";
import config from "../../deno.json" with { type: "json" };
import type { Machine } from "./results.ts";

/** What is printed before figures of a software adapter. */
export const SOFTWARE = "software adapter: these figures say nothing about a GPU";

/** Names adapter, driver and versions; the driver's is known on Linux with NVIDIA, where reading it is allowed. */
export async function machineOf(
  gpu: Pick<Gpu, "name" | "software">,
  versions: Readonly<Record<string, string | null>> = {},
): Promise<Machine> {
  return {
    adapter: gpu.name,
    software: gpu.software,
    driver: await nvidiaDriver(),
    cores: navigator.hardwareConcurrency,
    versions: { firn: config.version, deno: Deno.version.deno, ...versions },
    date: new Date().toISOString(),
  };
}

async function nvidiaDriver(): Promise<string | null> {
  const path = "/proc/driver/nvidia/version";
  if ((await Deno.permissions.query({ name: "read", path })).state !== "granted") return null;
  try {
    return (await Deno.readTextFile(path)).match(/\b\d+\.\d+(\.\d+)?\b/)?.[0] ?? null;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotCapable) return null;
    throw error;
  }
}
