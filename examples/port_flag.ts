/**
 * The flag of a port on this machine.
 *
 * @module
 */

import { InputError } from "@firn/train";
import type { Flag } from "./flags.ts";

/** The flag of a port on this machine. */
export function portFlag<T extends number | null>(about: string, fallback: T): Flag<number | T> {
  return {
    placeholder: "PORT",
    about,
    fallback,
    read: (text) => {
      const port = /^\d{1,5}$/.test(text) ? Number(text) : Infinity;
      if (port > 65535) throw new InputError("a port, 0 to 65535");
      return port;
    },
  };
}
