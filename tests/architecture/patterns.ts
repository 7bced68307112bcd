/**
 * What no line of the library may say.
 *
 * @module
 */

import { matches, type Offence, type Source } from "./source.ts";

const NAME_TESTS: readonly RegExp[] = [
  /\bop\.name\s*[!=]==?/,
  /[!=]==?\s*[\w.]*\bop\.name\b/,
  /\bswitch \(.*\bop\.name\b/,
  /\.(?:includes|has|get|test|match|startsWith|endsWith)\(.*\bop\.name\b/,
  /[!=]==? "reshape"/,
  /\/norm\/i/,
];
const OP_COMPARISON = /\b(?:op|\w+Op) [!=]==? |[!=]==? \w+Op\b/;
const STATE = /^(?:export )?(?:let|var) /;
const COLLECTION = /^(?:export )?const (\w+)[^=]*= (?:new (?:Map|Set)\b|\[\]|\{\})/gm;

/**
 * The files whose own table or own op an `op ===` belongs to: everything else looks an op up in a table.
 * Paths that end in a slash are folders.
 */
export const OP_TABLES: readonly string[] = [
  "core/ops/",
  "core/sources.ts",
  "core/tensor.ts",
  "core/plan/predicates.ts",
  "core/plan/rows.ts",
  "core/plan/kept_copy.ts",
  "core/plan/weight_copies.ts",
  "core/plan/precision.ts",
  "core/plan/unbounded.ts",
  "core/plan/rewrite/simplify.ts",
  "core/runtime/residents.ts",
];

/** Tests of an op's or a parameter's name. */
export function nameTests(sources: readonly Source[]): Offence[] {
  return NAME_TESTS.flatMap((pattern) => matches(sources, pattern))
    .filter((one, i, all) => all.findIndex(({ path, line }) => path === one.path && line === one.line) === i);
}

/** Comparisons of an op outside the files that may compare it. */
export function opComparisons(sources: readonly Source[], tables: readonly string[] = OP_TABLES): Offence[] {
  return matches(
    sources.filter(({ path }) => !tables.some((table) => path.startsWith(table))),
    OP_COMPARISON,
  );
}

/** Uses of `Deno` outside a folder. */
export function machineUses(sources: readonly Source[], folder: string): Offence[] {
  return matches(sources.filter(({ path }) => !path.startsWith(folder)), /\bDeno\./);
}

/**
 * Variables of a module that change: `let`, and collections that the file fills after they were made. A `WeakMap`
 * whose keys are objects of the caller holds those objects' private state and is none of the module's own.
 */
export function moduleState(sources: readonly Source[]): Offence[] {
  return sources.flatMap((source) => {
    const filled = [...source.bare.matchAll(COLLECTION)].map(([, name]) => name).filter((name) =>
      new RegExp(`\\b${name}(\\.(set|add|delete|clear|push|pop|shift|splice)\\(|\\[.*\\] = )`).test(
        source.code,
      )
    );
    const patterns = [STATE, ...filled.map((name) => new RegExp(`^(?:export )?const ${name}\\b`))];
    return patterns.flatMap((pattern) => matches([source], pattern, { of: "bare" }));
  });
}
