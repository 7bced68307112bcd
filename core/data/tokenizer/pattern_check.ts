/**
 * Refuses regular expressions that can take more than linear time.
 *
 * A backtracking engine tries every way to divide a text between quantifiers. The number of ways is exponential where
 * quantifiers nest, and grows with a power of the length where neighbours can match the same characters. What follows
 * is conservative: it reads a small part of the syntax and refuses the rest.
 *
 * @module
 */

/** A part of an expression: what it matches, as an expression of one character where it is one, and how often. */
interface Part {
  /** Source that matches one character, where the part is one; null for a group that is none. */
  readonly one: string | null;
  /** The alternatives of a group; empty where it is one character or an assertion. */
  readonly alternatives: readonly (readonly Part[])[];
  readonly least: number;
  readonly most: number;
}

/**
 * Why an expression may take long, or null when it does not.
 *
 * @param source An expression of JavaScript with the flag `u`
 * @returns The reason, in words that complete "must not"
 */
export function slowReason(source: string): string | null {
  if (source.length > MOST_CHARACTERS) return `be longer than ${MOST_CHARACTERS} characters`;
  try {
    const alternatives = parse(source);
    for (const alternative of alternatives) checkSequence(alternative);
    return null;
  } catch (error) {
    if (error instanceof Slow) return error.message;
    throw error;
  }
}

const MOST_CHARACTERS = 4096, MOST_DEPTH = 32, MOST_REPEATS = 1024;

class Slow extends Error {}

/** Reads an expression into alternatives of parts. */
function parse(source: string): Part[][] {
  let at = 0;
  function group(depth: number): Part[][] {
    if (depth > MOST_DEPTH) throw new Slow(`nest more than ${MOST_DEPTH} groups`);
    const alternatives: Part[][] = [[]];
    while (at < source.length && source[at] !== ")") {
      if (source[at] === "|") {
        at++;
        alternatives.push([]);
      } else alternatives.at(-1)!.push(quantified(atom(depth)));
    }
    return alternatives;
  }
  function atom(depth: number): Part {
    const start = at, character = String.fromCodePoint(source.codePointAt(at)!);
    if (character === "(") return groupAtom(depth);
    if (character === "[") {
      while (source[at] !== "]") at += source[at] === "\\" ? 2 : 1;
      at++;
    } else if (character === "\\") {
      if (/[1-9k]/.test(source[at + 1])) throw new Slow("refer back to a group");
      if (/[bB]/.test(source[at + 1])) {
        at += 2;
        return { one: null, alternatives: [], least: 0, most: 1 };
      }
      at += /^\\(?:[pPu]\{[^}]*\}|u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2}|c[A-Za-z]|.)/su.exec(source.slice(at))![0]
        .length;
    } else at += character.length;
    return { one: source.slice(start, at), alternatives: [], least: 1, most: 1 };
  }
  function groupAtom(depth: number): Part {
    const start = at, head = /^\((?:\?(?::|<?[=!]|<[^>]*>))?/.exec(source.slice(at))![0];
    at += head.length;
    const alternatives = group(depth + 1);
    at++;
    if (/^\(\?<?[=!]$/.test(head)) {
      const behind = head.startsWith("(?<");
      if (
        behind && alternatives.flat().some((part) => part.least !== part.most || part.alternatives.length > 0)
      ) {
        throw new Slow("repeat or group inside a lookbehind");
      }
      for (const alternative of alternatives) checkSequence(alternative);
      return { one: null, alternatives: [], least: 0, most: 1 };
    }
    // Classes that JavaScript does not have are written as lookaheads before one character.
    const single = alternatives.every((parts) => {
      const consuming = parts.filter((part) =>
        part.most > 0 && (part.one !== null || part.alternatives.length > 0)
      );
      return consuming.length === 1 && consuming[0].one !== null && consuming[0].least === 1 &&
        consuming[0].most === 1;
    });
    return single
      ? { one: source.slice(start, at), alternatives: [], least: 1, most: 1 }
      : { one: null, alternatives, least: 1, most: 1 };
  }
  function quantified(part: Part): Part {
    const found = /^(?:([*+?])|\{(\d+)(,?)(\d*)\})\??/.exec(source.slice(at));
    if (found === null) return part;
    at += found[0].length;
    const [, sign, low, comma, high] = found;
    const least = sign === undefined ? Number(low) : sign === "+" ? 1 : 0;
    const most = sign === "?" ? 1 : sign !== undefined || (comma && !high) ? Infinity : Number(high || low);
    checkRepeat(part, { least, most });
    return { ...part, least, most };
  }
  const result = group(0);
  if (at < source.length) throw new Slow("close a group that is not open");
  return result;
}

/** Refuses to repeat what can itself match in more than one way. */
function checkRepeat(
  { alternatives }: Part,
  { least, most }: { readonly least: number; readonly most: number },
): void {
  if (least > MOST_REPEATS || (most !== Infinity && most > MOST_REPEATS)) {
    throw new Slow(`repeat more than ${MOST_REPEATS} times`);
  }
  if (most <= 1 || alternatives.length === 0) return;
  if (alternatives.length > 1 || alternatives[0].some((inner) => inner.least !== inner.most)) {
    throw new Slow("repeat a group that has quantifiers or alternatives");
  }
  if (alternatives[0].some((inner) => inner.alternatives.length > 0)) {
    throw new Slow("repeat a group of groups");
  }
}

/** Refuses neighbours that can share characters in many ways where something after them can fail. */
function checkSequence(parts: readonly Part[]): void {
  const flat = parts.flatMap((part): readonly Part[] => {
    for (const alternative of part.alternatives) checkSequence(alternative);
    if (part.alternatives.length !== 1 || part.most !== 1) return [part];
    return part.alternatives[0].map((inner) => ({ ...inner, least: Math.min(inner.least, part.least) }));
  });
  let open: string[] = [], shared = false;
  for (const part of flat) {
    const unbounded = part.most === Infinity;
    // What can match nothing never fails, so that nothing is tried again.
    if (shared && part.least > 0) {
      throw new Slow("have neighbours that repeat the same characters before more");
    }
    if (part.one === null) {
      if (unbounded) open.push("[^]");
      continue;
    }
    const overlaps = open.some((one) => overlap(one, part.one!));
    if (unbounded) {
      if (overlaps) shared = true;
      if (!overlaps && part.least > 0) open = [];
      open.push(part.one);
    } else if (part.least > 0 && !overlaps) open = [];
  }
}

/** Characters of every kind that expressions tell apart. */
const SAMPLES: readonly string[] = [
  ...Array.from({ length: 0x250 }, (_, code) => String.fromCharCode(code)),
  ..."ͰΑαЖжאبހあアー漢字㐀한ǅʰ́ः⃝٣Ⅷ½²①‿—（）«»…€+^´¤°\u00ad\u200b\u200c\u200d\u2028\u3000\ufeff\ufffd\ue000𝒜😀𠀀",
];

function overlap(a: string, b: string): boolean {
  const literals = [...a, ...b];
  const [inA, inB] = [a, b].map((one) => new RegExp(`^(?:${one})$`, "u"));
  return [...SAMPLES, ...literals].some((character) => inA.test(character) && inB.test(character));
}
