/**
 * Refuses regular expressions whose time grows faster than the text, and finds what makes the rest slow.
 *
 * A backtracking engine tries every way to divide a text between quantifiers. The number of ways is exponential where
 * quantifiers nest or alternatives match the same, and a power of the length where neighbours repeat the same characters.
 * Such expressions are refused. What remains takes linear time from one start; where it can fail after a long run of
 * characters it takes that time again from the next start, so these runs are named and may be bounded.
 *
 * The check is conservative: it refuses some expressions that are fast.
 *
 * @module
 */

import { type CharacterSet, characterSet, holds, meets, union } from "./character_set.ts";
import type { Part, Sequence } from "./expression.ts";
import { ExpressionError } from "./expression_class.ts";

const MOST_REPEATS = 1024, MOST_WAYS = 16;

/** A part that can match in several ways, while what follows can still take characters from it. */
interface Open {
  readonly set: CharacterSet;
  readonly source: string;
  /** In how many ways it divides a text; Infinity without bound. */
  readonly ways: number;
  /** Alternatives match the same, whatever follows. */
  readonly ambiguous: boolean;
}

/** The sets of the expressions of one character. */
type Sets = ReadonlyMap<string, CharacterSet>;

/** An element of a sequence without groups. */
type Step =
  | { readonly kind: "fixed" | "varied"; readonly open: Open; readonly least: number }
  | { readonly kind: "assertion"; readonly endless: boolean };

/**
 * Checks the time that an expression takes.
 *
 * @param alternatives The expression
 * @returns Expressions of one character, long runs of which may take quadratic time
 * @throws {ExpressionError} When it may take more than linear time from one start
 */
export function slowRuns(alternatives: readonly Sequence[]): readonly string[] {
  const sources = new Set(allCharacters(alternatives)), runs = new Set<string>();
  const sets = new Map([...sources].map((source) => [source, characterSet(source)]));
  alternatives.forEach((parts, i) => {
    for (const run of checkSequence(parts, sets)) {
      if (!isTaken(run, { parts, later: alternatives.slice(i + 1), sets })) runs.add(run);
    }
  });
  return [...runs];
}

/** Checks a sequence and returns the runs after which it can fail. */
function checkSequence(parts: Sequence, sets: Sets): readonly string[] {
  const runs = parts.flatMap((part) => innerRuns(part, sets));
  let open: Open[] = [];
  for (const step of parts.flatMap((part) => stepsOf(part, sets))) {
    const fails = step.kind === "assertion" || step.least > 0;
    if (fails) {
      checkWays(open);
      runs.push(...open.filter(({ ways }) => ways === Infinity).map(({ source }) => source));
    }
    if (step.kind === "assertion") {
      if (step.endless && open.some(({ ways }) => ways > MOST_WAYS)) {
        throw new ExpressionError("look ahead without bound after a part that repeats");
      }
      continue;
    }
    const apart = !open.some(({ set }) => meets(set, step.open.set));
    if (apart && step.least > 0) open = open.filter(({ ambiguous }) => ambiguous);
    if (step.kind === "varied") open.push(step.open);
  }
  return runs;
}

/** Refuses parts that divide a text between them in many ways when what follows fails. */
function checkWays(open: readonly Open[]): void {
  const shared = open.filter((one, i) =>
    one.ambiguous || open.some((other, k) => k !== i && meets(one.set, other.set))
  );
  const endless = shared.filter(({ ways }) => ways === Infinity).length;
  const ways = shared.filter((one) => one.ways !== Infinity).reduce((n, one) => n * one.ways, 1);
  if (endless > 1 || ways > MOST_WAYS) {
    throw new ExpressionError("have neighbours that match the same characters in many ways");
  }
}

/** The runs of alternatives and lookarounds inside a part. */
function innerRuns(part: Part, sets: Sets): readonly string[] {
  switch (part.kind) {
    case "character":
      return [];
    case "repeat":
      return innerRuns(part.part, sets);
    case "assertion":
      return [
        ...part.alternatives.flatMap((parts) => checkSequence(parts, sets)),
        ...endlessIn(part.alternatives),
      ];
    case "group":
      return part.alternatives.flatMap((parts) => checkSequence(parts, sets));
  }
}

/** A part as steps, groups of one alternative laid open. */
function stepsOf(part: Part, sets: Sets): readonly Step[] {
  switch (part.kind) {
    case "assertion":
      return [{ kind: "assertion", endless: endlessIn(part.alternatives).length > 0 }];
    case "character":
      return [{ kind: "fixed", open: openOf([part.source], { ways: 1, sets }), least: 1 }];
    case "repeat":
      return repeatSteps(part, sets);
    case "group":
      if (part.alternatives.length === 1) {
        return part.alternatives[0].flatMap((inner) => stepsOf(inner, sets));
      }
      return [
        ...part.alternatives.flat().flatMap((inner) => stepsOf(inner, sets)).filter(({ kind }) =>
          kind !== "fixed"
        ).map(optional),
        { kind: "varied", open: choice(part.alternatives, sets), least: canBeEmpty(part) ? 0 : 1 },
      ];
  }
}

function repeatSteps(
  { part, least, most }: Extract<Part, { kind: "repeat" }>,
  sets: Sets,
): readonly Step[] {
  if (least > MOST_REPEATS || (most !== Infinity && most > MOST_REPEATS)) {
    throw new ExpressionError(`repeat more than ${MOST_REPEATS} times`);
  }
  if (
    part.kind === "repeat" || (most > 1 && part.kind === "group" && !isSingle(part, sets) && !isPlain(part))
  ) {
    throw new ExpressionError("repeat a part that has quantifiers, alternatives or assertions");
  }
  // JavaScript gives up an empty match where Oniguruma keeps it.
  if (canBeEmpty(part)) throw new ExpressionError("repeat a part that can be empty");
  if (most === 0) return [];
  if (most === 1 && least === 1) return stepsOf(part, sets);
  if (most === 1 && part.kind === "group" && !isPlain(part)) {
    return stepsOf(part, sets).map(optional).map((step) =>
      step.kind === "assertion" ? step : { ...step, open: { ...step.open, ways: step.open.ways + 1 } }
    );
  }
  const sources = charactersIn([[part]]), kind = least === most ? "fixed" : "varied";
  return [{ kind, open: openOf(sources, { ways: most - least + 1, sets }), least }];
}

function optional(step: Step): Step {
  return step.kind === "assertion" ? step : { kind: "varied", open: step.open, least: 0 };
}

function openOf(
  sources: readonly string[],
  { ways, sets, ambiguous = false }: {
    readonly ways: number;
    readonly sets: Sets;
    readonly ambiguous?: boolean;
  },
): Open {
  const found = sources.map((source) => sets.get(source)!),
    set = found.length === 1 ? found[0] : union(found);
  return { set, source: classOf(sources), ways, ambiguous };
}

/** Which alternative matches: one way where their first characters tell, else as many as there are. */
function choice(alternatives: readonly Sequence[], sets: Sets): Open {
  const firsts = alternatives.map(([first]) =>
    first?.kind === "character" ? characterSet(first.source) : null
  );
  const ambiguous = firsts.some((set, i) =>
    set === null || firsts.slice(i + 1).some((other) => other === null || meets(set, other))
  );
  return openOf(charactersIn(alternatives), { ways: ambiguous ? alternatives.length : 1, sets, ambiguous });
}

/** Whether a group matches one character, in one way. */
function isSingle(part: Extract<Part, { kind: "group" }>, sets: Sets): boolean {
  if (part.alternatives.some((parts) => parts.length !== 1 || parts[0].kind !== "character")) return false;
  return !choice(part.alternatives, sets).ambiguous;
}

/** Whether a group matches a fixed number of characters, one after the other. */
function isPlain({ alternatives }: Extract<Part, { kind: "group" }>): boolean {
  return alternatives.length === 1 && alternatives[0].length > 0 &&
    alternatives[0].every((part) =>
      part.kind === "character" ||
      (part.kind === "repeat" && part.part.kind === "character" && part.least === part.most && part.most > 0)
    );
}

function canBeEmpty(part: Part): boolean {
  if (part.kind === "repeat") return part.least === 0 || canBeEmpty(part.part);
  if (part.kind === "group") return part.alternatives.some((parts) => parts.every(canBeEmpty));
  return part.kind === "assertion";
}

/** The sources of all single characters that alternatives match. */
function charactersIn(alternatives: readonly Sequence[]): readonly string[] {
  return alternatives.flat().flatMap((part) => {
    if (part.kind === "character") return [part.source];
    if (part.kind === "repeat") return charactersIn([[part.part]]);
    return part.kind === "group" ? charactersIn(part.alternatives) : [];
  });
}

/** The sources of all single characters, those of lookarounds too. */
function allCharacters(alternatives: readonly Sequence[]): readonly string[] {
  return alternatives.flat().flatMap((part) => {
    if (part.kind === "character") return [part.source];
    return allCharacters(part.kind === "repeat" ? [[part.part]] : part.alternatives);
  });
}

/** One expression of several, each of one character. */
function classOf(sources: readonly string[]): string {
  return `[${[...new Set(sources)].join("")}]`;
}

/** What alternatives repeat without bound. */
function endlessIn(alternatives: readonly Sequence[]): readonly string[] {
  return alternatives.flat().flatMap((part) => {
    if (part.kind === "character") return [];
    if (part.kind !== "repeat") return endlessIn(part.alternatives);
    return part.most === Infinity ? [classOf(charactersIn([[part.part]]))] : endlessIn([[part.part]]);
  });
}

/**
 * Whether a run that a sequence begins with is taken whole by a later alternative when the sequence fails, as in
 * `\s*[\r\n]+|\s+(?!\S)|\s+`. Then no other start lies in it.
 */
function isTaken(
  run: string,
  { parts, later, sets }: {
    readonly parts: Sequence;
    readonly later: readonly Sequence[];
    readonly sets: Sets;
  },
): boolean {
  const [begin] = parts, set = characterSet(run);
  const takes = (part: Part | undefined): boolean =>
    part?.kind === "repeat" && part.part.kind === "character" && part.least <= 1 && part.most === Infinity &&
    !part.source.endsWith("?") && holds(sets.get(part.part.source)!, set);
  if (begin === undefined || run !== classOf(charactersIn([[begin]]))) return false;
  for (const [first, second, ...more] of [parts, ...later]) {
    const ends = second === undefined && more.length === 0;
    if (takes(first) && ends) return true;
    const passes = takes(first) && more.length === 0 && second.kind === "assertion" &&
      second.source === "(?!\\P{White_Space})";
    const apart = first?.kind === "character" && !meets(sets.get(first.source)!, set);
    if (!(passes || apart || first === begin)) return false;
  }
  return false;
}
