/**
 * The command line of `conformance.ts`.
 *
 * @module
 */

import type { Precision } from "@firn/train";
import { parseArgs } from "@std/cli/parse-args";
import { oneOf, readFlags, UsageError, type Values } from "../examples/flags.ts";
import { GPU_FLAGS } from "../examples/gpu.ts";

const PRECISION = { precision: oneOf(["f32", "f32x3"], "precision of trainings", "f32") };

/** Parses the command line; an unknown flag is a {@link UsageError}. */
export function asked(args: readonly string[]): {
  readonly folders: readonly string[];
  readonly tiles: boolean;
  readonly help: boolean;
  readonly device: Values<typeof GPU_FLAGS>;
  readonly precision: Precision;
} {
  const { tiles, help, gpu, precision, "unsafe-gpu": unsafe, _ } = parseArgs([...args], {
    boolean: ["tiles", "help", "unsafe-gpu"],
    string: ["gpu", "precision"],
    alias: { help: "h" },
    unknown(arg) {
      if (arg.startsWith("-")) throw new UsageError(`there is no flag "${arg.split("=")[0]}"`);
    },
  });
  const flags = [...gpu === undefined ? [] : [`--gpu=${gpu}`], ...unsafe ? ["--unsafe-gpu"] : []];
  const own = precision === undefined ? [] : [`--precision=${precision}`];
  return {
    ...{ folders: _.map(String), tiles, help, device: readFlags(flags, GPU_FLAGS).values },
    precision: readFlags(own, PRECISION).values.precision,
  };
}

/** What the command line may be. */
export const USAGE = `usage: ./firn conformance DIR... [flags]

Compares models, optimizers and runs with the reference results in folders, such as those of tests/fixtures.

  --tiles                check each folder with every tile that products may be cut into
  --precision f32|f32x3  precision of trainings [f32]
  --gpu auto|deno|dawn   implementation of WebGPU [auto]
  --unsafe-gpu           drop the checks of --gpu dawn
  --help, -h             show this`;
