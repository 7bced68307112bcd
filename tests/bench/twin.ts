/**
 * The same works in PyTorch, run by `torch_twin.py` in a process of its own.
 *
 * @module
 */

import { InputError } from "@firn/train";
import type { BaseShape } from "./adapter_base.ts";
import type { OneLayerSize } from "./one_layer.ts";
import type { Lengths } from "./measure.ts";
import type { Product } from "./product.ts";
import type { Shape } from "./shapes.ts";
import type { Side } from "./sides.ts";

/** How PyTorch computes; `bf16` stores weights and moments so, too, and `compile` is autocast compiled. */
export const WAYS = ["f32", "tf32", "autocast", "bf16", "compile"] as const;

/** One of {@link WAYS}. */
export type Way = typeof WAYS[number];

/** A work as the twin is told of it. Models and products are measured in every way, layers in f32, adapters in bf16. */
export type TwinWork =
  | {
    readonly kind: "model";
    readonly shape: Shape;
    readonly batch: number;
    readonly length: number;
    /** Whether to run GPT-2 itself as well. */
    readonly gpt2: boolean;
  }
  | { readonly kind: "layer" } & OneLayerSize
  | { readonly kind: "product" } & Product
  | {
    readonly kind: "adapter";
    readonly shape: BaseShape;
    readonly batch: number;
    readonly length: number;
  };

/** What one of the twin's contenders measured. */
export interface TwinSide {
  /** Index of the work. */
  readonly work: number;
  readonly name: string;
  readonly side: Side;
  /** Milliseconds of the first step. */
  readonly first: number;
  /** Milliseconds of a step in each round. */
  readonly times: readonly number[];
  /** The same without clipping; null where there is none to leave out. */
  readonly unclipped: readonly number[] | null;
  /** Bytes at the peak; null for products. */
  readonly memory: number | null;
  readonly loss: number | null;
}

/** What the twin says of itself. */
export interface TwinMachine {
  readonly device: string;
  readonly driver: string | null;
  readonly torch: string;
  readonly transformers: string | null;
  readonly cuda: string | null;
}

/** Everything that one run of the twin printed. */
export interface TwinReply {
  readonly machine: TwinMachine;
  readonly sides: readonly TwinSide[];
  /** What it could not run, and why. */
  readonly leftOut: readonly string[];
}

/** Runs Python on the twin; the last argument is the question. */
export const PYTHON: readonly string[] = [
  "python3",
  decodeURIComponent(new URL("torch_twin.py", import.meta.url).pathname),
];

/**
 * Reads what the twin printed: a line of JSON for the machine and one for each contender, among whatever else.
 *
 * @throws {Error} When the machine or a work is missing
 */
export function parseTwin(stdout: string, works: number): TwinReply {
  const lines = stdout.split("\n").filter((line) => line.startsWith("{")).map((line) => JSON.parse(line));
  const machine = lines.find((line) => "torch" in line), sides = lines.filter((line) => "times" in line);
  const leftOut = lines.flatMap((line) => line.leftOut ?? []);
  if (machine === undefined) throw new Error("Cannot read the PyTorch twin as it did not name its machine");
  for (let work = 0; work < works; work++) {
    if (!sides.some((side) => side.work === work)) {
      throw new Error(
        `Cannot read the PyTorch twin as it measured ${sides.length} contenders and none of work ${work}${
          leftOut.length > 0 ? `: ${leftOut.join("; ")}` : ""
        }`,
      );
    }
  }
  return { machine, sides, leftOut };
}

/**
 * Runs the twin.
 *
 * @param works What to measure, and after how many steps to read losses
 * @param options How long, and in which ways
 * @param command Program and arguments before the question
 * @returns What it measured; no works ask only whether it can run
 * @throws {InputError} When Python or PyTorch is missing, or the twin fails
 */
export async function askTwin(
  works: readonly (TwinWork & { readonly lossAt: number })[],
  options: Lengths & { readonly ways: readonly Way[] },
  command: readonly string[] = PYTHON,
): Promise<TwinReply> {
  const [program, ...args] = command;
  const { code, stdout, stderr } = await run(program, [...args, JSON.stringify({ works, ...options })]);
  const text = new TextDecoder();
  if (code !== 0) {
    const last = text.decode(stderr).trim().split("\n").at(-1);
    throw new InputError(`Cannot run the PyTorch twin as "${program}" ended with status ${code}: ${last}`);
  }
  return parseTwin(text.decode(stdout), works.length);
}

async function run(program: string, args: string[]): Promise<Deno.CommandOutput> {
  try {
    return await new Deno.Command(program, { args, stdin: "null" }).output();
  } catch (error) {
    const mend = error instanceof Deno.errors.NotFound
      ? "install Python with torch, or leave out --torch"
      : error instanceof Deno.errors.NotCapable
      ? `give Deno -A, as the task lets it start python3 only and with no LD_ variable set: ${error.message}`
      : null;
    if (mend === null) throw error;
    throw new InputError(`Cannot run the PyTorch twin as "${program}" does not start: ${mend}`);
  }
}
