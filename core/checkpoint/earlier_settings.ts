/**
 * Settings as earlier versions of Firn saved them: one text, in which older ones say less.
 *
 * @module
 */

import { DataError } from "../errors.ts";
import { THAW_WARMUP } from "../train/options.ts";
import type { RunSettings } from "../train/types.ts";

/**
 * Reads settings from the text of an earlier version.
 *
 * @param text The text
 * @returns The settings; those that the version did not save are absent
 * @throws {DataError} When it is no such text
 */
export function earlierSettings(text: string): Partial<RunSettings> {
  const parts = partsOf(text), at = parts.findIndex((part) => /^\d+ steps$/.test(part));
  const lookEvery = /^a look every (\d+)$/.exec(parts[at + 1] ?? "")?.[1];
  if (at < 2 || lookEvery === undefined) {
    throw new DataError(
      `Cannot resume as "settings" of the saved state must name optimizer, policy, steps and looks: got ${
        JSON.stringify(text.slice(0, 60))
      }; use another checkpoint`,
    );
  }
  const rest = parts.slice(at + 2);
  const value = (pattern: RegExp): string | undefined =>
    rest.map((part) => pattern.exec(part)?.[1]).find((found) => found !== undefined);
  const number = (pattern: RegExp): number | undefined => {
    const found = value(pattern);
    return found === undefined ? undefined : Number(found);
  };
  const policy = parts[at - 1];
  const known = {
    optimizer: parts.slice(0, at - 1).join(", "),
    policy: policy === "no policy" ? null : policy,
    steps: Number.parseInt(parts[at]),
    lookEvery: Number(lookEvery),
    thawWarmup: number(/^(\d+) steps of warm-up after a thaw$/) ?? THAW_WARMUP,
    precision: value(/^(f16)$/) ?? "f32",
    validateEvery: number(/^a validation every (\d+)$/) ?? null,
  };
  const trained = /^trainable (\d+) of (\d+) parameters (\S+)$/.exec(
    rest.find((part) => part.startsWith("trainable ")) ?? "",
  );
  if (trained === null) return known;
  return {
    ...known,
    rates: value(/^rates (\S+)$/) ?? null,
    validation: value(/^validated by (\S+)$/) ?? null,
    data: value(/^data (.*)$/s) ?? null,
    trained: Number(trained[1]),
    parameters: Number(trained[2]),
    trainable: trained[3],
  };
}

/** What stands between commas outside of parentheses. */
function partsOf(text: string): string[] {
  const parts: string[] = [];
  let depth = 0, begin = 0;
  for (let i = 0; i < text.length; i++) {
    if (text[i] === "(") depth++;
    else if (text[i] === ")") depth--;
    else if (depth === 0 && text.startsWith(", ", i)) {
      parts.push(text.slice(begin, i));
      begin = i + 2;
    }
  }
  return [...parts, text.slice(begin)];
}
