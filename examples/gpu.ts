/**
 * The device of the examples: what was measured on it is kept in a file.
 *
 * @module
 */

import { type Gpu, openGpu } from "@firn/train";
import { toggle } from "./flags.ts";
import { print } from "./print.ts";
import { progress, stage, type Stream } from "./progress.ts";

/** Measured variants, by adapter. */
const CACHE = ".firn/tune.json";

/** Flags of a program that opens a device. */
export const GPU_FLAGS = {
  "no-tune": toggle("choose kernels by a rule, not by measuring them on this GPU"),
};

/**
 * Opens the best adapter; a line shows how far measuring is.
 *
 * @param flags Values of {@link GPU_FLAGS}
 * @param options `to`: where the line is drawn; standard output when absent
 * @returns The device
 */
export function openDevice(
  flags: { readonly "no-tune": boolean },
  { to }: { readonly to?: Stream } = {},
): Promise<Gpu> {
  let line: ReturnType<typeof progress> | null = null;
  return stage("opening     the GPU", () =>
    openGpu({
      ...flags["no-tune"] && { tune: false },
      tuneCache: CACHE,
      onTune({ done, total }) {
        line ??= progress(total, { to });
        line.update(done, ["tuning matrix products, once for this GPU"]);
        if (done < total) return;
        line.end();
        line = null;
      },
    }), { to });
}

/**
 * Opens the best adapter, and prints which one that is.
 *
 * @param flags Values of {@link GPU_FLAGS}
 * @returns The device
 */
export async function openShown(flags: { readonly "no-tune": boolean }): Promise<Gpu> {
  const gpu = await openDevice(flags);
  print(`adapter     ${gpu.name}${gpu.software ? " (software: right, but slow)" : ""}`);
  return gpu;
}
