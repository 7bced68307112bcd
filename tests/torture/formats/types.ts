/**
 * What a format is.
 *
 * @module
 */

import type { Gpu } from "@firn/train";
import type { Draw } from "../draw.ts";

/** Where inputs are loaded. */
export interface Context {
  /** The folder that {@link Format.make} has filled, with one file damaged. */
  readonly folder: string;
  /** The device; opened when first asked for. */
  readonly gpu: () => Promise<Gpu>;
}

/** One kind of file. */
export interface Format {
  readonly name: string;
  /** Inputs of a full run. */
  readonly count: number;
  /** The file that is damaged, from the folder. */
  readonly file: string;
  /** Fills the folder with files that are whole. */
  readonly make: (context: Context) => Promise<void>;
  /** Damages the file. */
  readonly mutate: (bytes: Uint8Array, draw: Draw) => Uint8Array;
  /**
   * Does with the folder what a user does: loads it, and uses what was loaded.
   *
   * @throws {FirnError} When the input is refused
   * @throws {ForbiddenError} When it is accepted with a meaning that it must not have
   */
  readonly load: (context: Context) => Promise<void>;
}

/** Something was accepted that must be refused. */
export class ForbiddenError extends Error {
  /** Name of the class. */
  override name = "ForbiddenError";
}

/** Throws unless something holds of what was accepted. */
export function demand(holds: boolean, seen: string): void {
  if (!holds) throw new ForbiddenError(seen);
}
