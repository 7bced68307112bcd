/**
 * Flags of LoRA adapters.
 *
 * @module
 */

import type { Gpu, Model } from "@firn/train";
import { loadAdapter, newAdapter, type Storage, type Targets } from "@firn/train/hub";
import { counted } from "@firn/train/report";
import {
  type Flag,
  oneOf,
  positive,
  share,
  text,
  toggle,
  topic,
  UsageError,
  type Values,
  whole,
} from "./flags.ts";
import { locateModel } from "./hub.ts";

/** Flags of commands that can train an adapter in place of the model. */
export const LORA_FLAGS: {
  readonly lora: Flag<number | null>;
  readonly "lora-alpha": Flag<number | null>;
  readonly targets: Flag<string>;
  readonly "lora-dropout": Flag<number>;
  readonly dora: Flag<boolean>;
  readonly rslora: Flag<boolean>;
  readonly "lora-init": Flag<"default" | "gaussian" | "pissa">;
  readonly "lora-plus": Flag<number | null>;
  readonly adapter: Flag<string | null>;
  readonly base: Flag<"f32" | "bf16" | "int8" | "nf4">;
} = topic("lora", {
  lora: whole("train a LoRA adapter of that rank, and leave the model as it is", null),
  "lora-alpha": positive("its alpha: pairs are multiplied by alpha / rank; twice the rank when absent", null),
  targets: text(
    "LIST",
    "modules with pairs: names, their ends or globs with commas between, as q_proj,v_proj, or one regular expression",
    "all-linear",
  ),
  "lora-dropout": share("share of the input of pairs that a step drops", 0),
  dora: toggle("train magnitudes beside directions (DoRA)"),
  rslora: toggle("divide alpha by the root of the rank (rsLoRA)"),
  "lora-init": oneOf(
    ["default", "gaussian", "pissa"],
    "how pairs start: uniform and zero, normal and zero, or as the principal part of their weight",
    "default",
  ),
  "lora-plus": positive("how many times faster second matrices learn (LoRA+)", null),
  adapter: text("DIR|NAME", "go on training that LoRA adapter, of a folder or a hub", null),
  base: oneOf(
    ["f32", "bf16", "int8", "nf4"],
    "how the base of an adapter is stored; bf16: matrices in 16 bits, as their file has them",
    "f32",
  ),
});

/** Values of {@link LORA_FLAGS}. */
export type LoraFlags = Values<typeof LORA_FLAGS>;

/** Flags that say how a new adapter is made. */
const OF_NEW = ["lora-alpha", "targets", "lora-dropout", "dora", "rslora", "lora-init"] as const;

/**
 * Refuses flags of adapters that would do nothing.
 *
 * @param flags The flags
 * @throws {UsageError} When a flag needs another one
 */
export function checkLora(flags: LoraFlags): void {
  const odd = OF_NEW.find((name) => flags[name] !== LORA_FLAGS[name].fallback);
  if (flags.lora === null && odd !== undefined) {
    throw new UsageError(`--${odd} is for a new adapter: give its rank with --lora N`);
  }
  if (flags.lora !== null && flags.adapter !== null) {
    throw new UsageError("--lora makes an adapter and --adapter takes one: give one of both");
  }
  if (flags["lora-dropout"] === 1) throw new UsageError("--lora-dropout must be below 1");
  if (isLora(flags)) return;
  for (const name of ["lora-plus", "base"] as const) {
    if (flags[name] !== LORA_FLAGS[name].fallback) {
      throw new UsageError(`--${name} is for an adapter: add --lora N or --adapter DIR`);
    }
  }
}

/** Whether an adapter is trained. */
export function isLora({ lora, adapter }: LoraFlags): boolean {
  return lora !== null || adapter !== null;
}

/** How the model is stored. */
export function storageOf({ base }: LoraFlags): Storage {
  return base === "bf16" ? "file" : base;
}

/**
 * Puts the adapter that flags ask for on a model.
 *
 * @param gpu The device
 * @param model The model
 * @param options The flags, the seed, and how the model was named
 * @returns The model, with an adapter where one is asked for
 */
export async function adaptModel(
  gpu: Gpu,
  model: Model,
  { flags, seed, name }: { readonly flags: LoraFlags; readonly seed: number; readonly name: string },
): Promise<Model> {
  if (flags.adapter !== null) {
    return await loadAdapter(gpu, model, (await locateModel(flags.adapter)).folder, { seed });
  }
  if (flags.lora === null) return model;
  return await newAdapter(gpu, model, {
    rank: flags.lora,
    ...flags["lora-alpha"] !== null && { alpha: flags["lora-alpha"] },
    targets: targetsOf(flags.targets),
    dropout: flags["lora-dropout"],
    dora: flags.dora,
    rslora: flags.rslora,
    init: flags["lora-init"] === "default" ? true : flags["lora-init"],
    base: name,
    seed,
  });
}

/** What an adapter changes, in a line; undefined without one. */
export function adapterLine({ adapter, params }: Model): string | undefined {
  if (adapter === undefined) return undefined;
  const { r, lora_alpha } = adapter.source;
  const sizes = [...adapter.trained].map((path) => sizeAt(params, path));
  const count = sizes.reduce((a, b) => a + b, 0).toLocaleString("en-US");
  return `rank ${r}, alpha ${lora_alpha}, ${
    counted(adapter.layers.size, "module")
  }, ${count} parameters trained`;
}

function sizeAt(tree: object, path: string): number {
  const leaf = path.split(".").reduce<unknown>((node, key) => (node as Record<string, unknown>)[key], tree);
  return (leaf as { readonly shape: readonly number[] }).shape.reduce((a, b) => a * b, 1);
}

/** A list where there are commas or one plain name; an expression where signs of one stand, or `.*` where no name begins. */
export function targetsOf(value: string): Targets {
  if (value === "all-linear" || /^\.\*|[\\()[\]|^$+?{}]/.test(value)) return value;
  return value.split(",").map((one) => one.trim()).filter((one) => one !== "");
}

/** Tensors of the base in whose place those of the adapter stand, to be freed with it. */
export function hiddenParams(model: Model): object {
  return model.adapter === undefined ? {} : Object.fromEntries(model.adapter.replaced);
}
