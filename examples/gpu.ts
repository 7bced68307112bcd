/**
 * The device of the examples: what was measured on it is kept in a file.
 *
 * @module
 */

import { type Gpu, type GpuOptions, openGpu } from "@firn/train";
import { DEVICE_VARIABLE } from "./device_plan.ts";
import { type Flag, oneOf, text, toggle, topic, UsageError } from "./flags.ts";
import { hostFileSystem } from "@firn/train/data";
import { print, printError } from "./print.ts";
import { progress, stage, type Stream } from "./progress.ts";

import { unwritten } from "./unwritten.ts";

/** Measured variants, by adapter. */
const CACHE = ".firn/tune.json";

/** Implementations of WebGPU that a command line names. */
type Provider = "auto" | "deno" | "dawn";

/** Flags of a program that opens a device. They say nothing about a run: one that goes on does not keep them. */
export const GPU_FLAGS: {
  readonly gpu: Flag<Provider>;
  readonly "unsafe-gpu": Flag<boolean>;
  readonly "no-tune": Flag<boolean>;
  readonly device: Flag<string | null>;
} = topic("device", {
  gpu: oneOf<Provider>(
    ["auto", "deno", "dawn"],
    "implementation of WebGPU: that of Deno, which auto takes, or Google's, which has matrix units",
    "auto",
  ),
  "unsafe-gpu": toggle(
    "drop the checks of --gpu dawn: no faster where it was measured (H200), and a wrong kernel may do any harm",
  ),
  "no-tune": toggle("choose kernels by a rule, not by measuring them on this GPU"),
  device: text<string | null>(
    "ADDRESS",
    "PCI address of the GPU, on a machine with several; ranks take a list",
    null,
  ),
});

/** What a program says of the device that it wants; the fallbacks of {@link GPU_FLAGS} when absent. */
export interface Choice {
  /** Whether nothing may be written, so that what is measured is not kept. */
  readonly "dry-run"?: boolean;
  readonly gpu?: Provider;
  readonly "unsafe-gpu"?: boolean;
  readonly "no-tune"?: boolean;
  readonly device?: string | null;
  /** How it trains. */
  readonly precision?: string;
}

/**
 * Opens the best adapter; a line shows how far measuring is. A line on standard error says where another implementation would
 * be faster.
 *
 * @param flags Values of {@link GPU_FLAGS}
 * @param options `to`: where the line is drawn; standard output when absent
 * @returns The device
 */
export async function openDevice(
  flags: Choice,
  { to }: { readonly to?: Stream } = {},
): Promise<Gpu> {
  const provider = providerOf(flags), device = await deviceOf(flags);
  let line: ReturnType<typeof progress> | null = null;
  const gpu = await stage("opening     the GPU", () =>
    openGpu({
      ...provider,
      ...device !== null && { device },
      ...flags["no-tune"] && { tune: false },
      tuneCache: CACHE,
      fileSystem: flags["dry-run"] ? unwritten(hostFileSystem()) : hostFileSystem(),
      onTune({ done, total }) {
        line ??= progress(total, { to });
        line.update(done, ["tuning matrix products, once for this GPU"]);
        if (done < total) return;
        line.end();
        line = null;
      },
    }), { to });
  if (dawnIsFaster(gpu, { ...flags, os: Deno.build.os })) {
    printError("--gpu dawn trains in f16 faster on this card: it has matrix units");
  }
  return gpu;
}

/**
 * The address of the GPU that this process was given, or that a command line asks for.
 *
 * @param flags Values of {@link GPU_FLAGS}
 * @returns The address; null where the driver chooses
 */
export async function deviceOf({ device = null }: Pick<Choice, "device">): Promise<string | null> {
  const { state } = await Deno.permissions.query({ name: "env", variable: DEVICE_VARIABLE });
  const given = state === "granted" ? Deno.env.get(DEVICE_VARIABLE) : undefined;
  return given?.split("/")[0] || device;
}

/**
 * The implementation of WebGPU, and the GPU, that a command line asks for.
 *
 * @param flags Values of {@link GPU_FLAGS}
 * @returns Options of `openGpu`
 * @throws {UsageError} When `--unsafe-gpu` has nothing to drop
 */
export function providerOf(
  { gpu = "auto", "unsafe-gpu": unsafe = false, device = null }: Choice,
): Pick<GpuOptions, "gpu" | "unsafe" | "device"> {
  if (unsafe && gpu !== "dawn") throw new UsageError("--unsafe-gpu drops checks of Dawn: add --gpu dawn");
  return { gpu, unsafe, ...device !== null && { device } };
}

/**
 * Whether a run on the GPU of Deno would be faster on Dawn. Only what is trained in f16 uses matrix units, and NVIDIA's are
 * the ones that were measured: cards with "GTX" in their name have none.
 *
 * @param gpu The device that was opened
 * @param options What was asked for, and the system
 * @returns True where Dawn was not ruled out by `--gpu deno`
 */
export function dawnIsFaster(
  { name }: Pick<Gpu, "name">,
  { gpu = "auto", precision, os }: Choice & { readonly os: string },
): boolean {
  return gpu === "auto" && precision === "f16" && /^(linux|windows)$/.test(os) &&
    /nvidia/i.test(name) && !/gtx/i.test(name);
}

/**
 * Opens the best adapter, and prints which one that is.
 *
 * @param flags Values of {@link GPU_FLAGS}
 * @returns The device
 */
export async function openShown(flags: Choice): Promise<Gpu> {
  const gpu = await openDevice(flags), device = await deviceOf(flags);
  const where = device === null ? "" : ` at ${device}`;
  print(`adapter     ${gpu.name}${where}${gpu.software ? " (software: right, but slow)" : ""}`);
  return gpu;
}
